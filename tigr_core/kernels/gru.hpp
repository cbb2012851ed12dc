// SPDX-License-Identifier: Apache-2.0
// A GRU over a sequence, forward and backward, for one thread a share of the batch: see compiled_gru.py.
//
// Sizes: T steps, B rows, H entries of the state. A row's 3 H gates are reset, update and new, as in PyTorch:
//     h' = new + update (h - new),  new = tanh(input_new + reset state_new),  state_new = U_new h + c_new
// Products are in the dtype of `weight`, float or bfloat16; all else is in float.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <cstring>
#include <tuple>
#include <type_traits>

#include "functions.hpp"
#include "mlp.hpp"
#include "products.hpp"
#include "values.hpp"

namespace tigr::gru {

using at::Tensor;

inline float loaded(float x) { return x; }
inline void store(float& to, float x) { to = x; }

// As PyTorch's, which compilers do not do many at once.
inline float loaded(c10::BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.x) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
inline void store(c10::BFloat16& to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  to.x = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // to the nearest, ties to even
}

// Advances a row: gates [3 H], W x + b, become reset, update and new; state_new [H] is written.
//
// Two loops: in one, each entry would wait for more operations in a row than a processor looks ahead, least of all beside
// a neighbour on the same core.
template <typename Product>
inline void advance(int64_t H, const Product* of_state, const float* bias, const float* state, float* gates,
                    float* state_new, float* next) {
#pragma omp simd
  for (int64_t j = 0; j < 2 * H; ++j) gates[j] = sigmoid(gates[j] + loaded(of_state[j]) + bias[j]);
  const float *const reset = gates, *const update = gates + H;
  float* const fresh = gates + 2 * H;
#pragma omp simd
  for (int64_t j = 0; j < H; ++j) {
    const float of_new = loaded(of_state[2 * H + j]) + bias[2 * H + j];
    const float value = hyperbolic_tangent(fresh[j] + reset[j] * of_new);
    state_new[j] = of_new;
    fresh[j] = value;
    next[j] = value + update[j] * (state[j] - value);
  }
}

// Calls work(from, to) with the rows of each thread: they need not wait for each other before the end.
template <typename Work>
void for_each_share(int64_t rows, const Work& work) {
  const int64_t threads = at::get_num_threads(), least = 8;
  at::parallel_for(0, rows, std::max(least, (rows + threads - 1) / threads), work);
}

// Multiplies rows of states or gradients by a weight [inner, columns], which stays the same for all steps.
class FloatWeight {
 public:
  explicit FloatWeight(const Tensor& weight)
      : inner_(weight.size(0)), columns_(weight.size(1)) {
    packed_ = memory_.of(inner_ * whole_panels(columns_));
    pack_panels({weight.const_data_ptr<float>(), weight.stride(0), weight.stride(1)}, inner_, columns_, packed_);
  }

  void multiply(const Tensor& rows, Tensor& result) const {
    const Result to{result.mutable_data_ptr<float>(), columns_};
    for (int64_t first = 0; first < inner_; first += INNER_AT_ONCE) {
      const Matrix left{rows.const_data_ptr<float>() + first, rows.stride(0), 1};
      const auto panel = [&](int64_t j, int64_t) { return packed_ + j * inner_ + first * COLUMNS; };
      tigr::multiply(rows.size(0), columns_, std::min(INNER_AT_ONCE, inner_ - first), left, panel,
                     [=](int64_t i, int64_t j, int64_t count, const float* sums) {
                       to.put(i, j, count, sums, first > 0);
                     });
    }
  }

 private:
  static constexpr int64_t INNER_AT_ONCE = 384;  // of which a panel stays in the nearest cache
  const int64_t inner_, columns_;
  Memory memory_;
  float* packed_;
};

class Bfloat16Weight {
 public:
  explicit Bfloat16Weight(const Tensor& weight) : weight_(weight) {}

  void multiply(const Tensor& rows, Tensor& result) const { at::mm_out(result, rows, weight_); }

 private:
  const Tensor weight_;
};

template <typename Product>
using Weight = std::conditional_t<std::is_same_v<Product, float>, FloatWeight, Bfloat16Weight>;

template <typename Product>
void forward_of(Tensor& gates, const Tensor& weight, const Tensor& bias, Tensor& states, Tensor& rounded,
                Tensor& state_new) {
  const int64_t T = gates.size(0), B = gates.size(1), H = states.size(2);
  const Weight<Product> of_states(weight.t());
  const float* const b = bias.const_data_ptr<float>();
  float* const gate = gates.mutable_data_ptr<float>();
  float* const state = states.mutable_data_ptr<float>();
  float* const candidate = state_new.mutable_data_ptr<float>();
  Product* const product = rounded.mutable_data_ptr<Product>();
  for_each_share(B, [&](int64_t from, int64_t to) {
    const at::NoGradGuard none;  // threads have modes of their own
    Tensor of_state = at::empty({to - from, 3 * H}, weight.options());
    const Product* const s = of_state.const_data_ptr<Product>();
    for (int64_t t = 0; t < T; ++t) {
      of_states.multiply(rounded[t].narrow(0, from, to - from), of_state);
      for (int64_t i = from; i < to; ++i) {
        const int64_t row = t * B + i;
        float* const next = state + (row + B) * H;
        advance(H, s + (i - from) * 3 * H, b, state + row * H, gate + row * 3 * H, candidate + row * H, next);
        if constexpr (std::is_same_v<Product, c10::BFloat16>) {
          for (int64_t j = 0; j < H; ++j) store(product[(row + B) * H + j], next[j]);
        }
      }
    }
  });
}

template <typename Product>
void backward_of(const Tensor& outer, const Tensor& gates, const Tensor& weight, const Tensor& states,
                 const Tensor& state_new, Tensor& of_input, Tensor& of_state_new, Tensor& of_start) {
  const int64_t T = gates.size(0), B = gates.size(1), H = states.size(2);
  const Weight<Product> of_gates(weight);
  const float* const gate = gates.const_data_ptr<float>();
  const float* const state = states.const_data_ptr<float>();
  const float* const candidate = state_new.const_data_ptr<float>();
  const float* const outside = outer.const_data_ptr<float>();
  Product* const input = of_input.mutable_data_ptr<Product>();
  Product* const new_part = of_state_new.mutable_data_ptr<Product>();
  float* const start = of_start.mutable_data_ptr<float>();
  for_each_share(B, [&](int64_t from, int64_t to) {
    const at::NoGradGuard none;  // threads have modes of their own
    // The gradient of a state is the sum of three: from outside, past the gates of the next one and through them.
    Tensor past_gates = at::zeros({to - from, H}, states.options());
    Tensor through_gates = at::zeros({to - from, H}, weight.options());
    Tensor of_state = at::empty({to - from, 3 * H}, weight.options());
    float* const past = past_gates.mutable_data_ptr<float>();
    Product* const through = through_gates.mutable_data_ptr<Product>();
    Product* const through_state = of_state.mutable_data_ptr<Product>();
    for (int64_t t = T - 1; t >= 0; --t) {
      for (int64_t i = from; i < to; ++i) {
        const float *const r = gate + (t * B + i) * 3 * H, *const z = r + H, *const n = z + H;
        const float *const c = candidate + (t * B + i) * H, *const h = state + (t * B + i) * H;
        const float* const o = outside + ((t + 1) * B + i) * H;
        Product *const ir = input + (t * B + i) * 3 * H, *const iz = ir + H, *const in = iz + H;
        Product *const sr = through_state + (i - from) * 3 * H, *const sz = sr + H, *const sn = sz + H;
        Product* const s = new_part + (t * B + i) * H;
        float* const p = past + (i - from) * H;
        const Product* const g = through + (i - from) * H;
#pragma omp simd
        for (int64_t j = 0; j < H; ++j) {
          const float reset = r[j], update = z[j], fresh = n[j], of_new_state = c[j];  // results may be the same memory
          const float gradient = o[j] + p[j] + loaded(g[j]);
          const float of_new = gradient * (1.0f - update) * (1.0f - fresh * fresh);
          const float of_update = gradient * (h[j] - fresh) * update * (1.0f - update);
          const float of_reset = of_new * of_new_state * reset * (1.0f - reset);
          p[j] = gradient * update;
          store(ir[j], of_reset), store(iz[j], of_update), store(in[j], of_new);
          store(sr[j], of_reset), store(sz[j], of_update), store(sn[j], of_new * reset);
          store(s[j], of_new * reset);
        }
      }
      of_gates.multiply(of_state, through_gates);
    }
    for (int64_t k = 0; k < (to - from) * H; ++k) {
      start[from * H + k] = outside[from * H + k] + past[k] + loaded(through[k]);
    }
  });
}

// gates [T, B, 3 H]: W x + b, becomes reset, update and new; states and rounded [T + 1, B, H]: the first one is read, in
// float they are the same; state_new [T, B, H] is written.
inline void forward(Tensor gates, const Tensor& weight, const Tensor& bias, Tensor states, Tensor rounded,
                    Tensor state_new) {
  const bool in_float = weight.scalar_type() == at::kFloat;
  (in_float ? forward_of<float> : forward_of<c10::BFloat16>)(gates, weight, bias, states, rounded, state_new);
}

// Writes the gradients of W x + b, [T, B, 3 H], where `gates` may be, and of state_new, [T, B, H], where that may be, in the
// dtype of `weight`, and of the start, [B, H]. Those of the other two thirds of U h + c are those of W x + b.
inline void backward(const Tensor& outer, const Tensor& gates, const Tensor& weight, const Tensor& states,
                     const Tensor& state_new, Tensor of_input, Tensor of_state_new, Tensor of_start) {
  const bool in_float = weight.scalar_type() == at::kFloat;
  (in_float ? backward_of<float> : backward_of<c10::BFloat16>)(outer, gates, weight, states, state_new, of_input,
                                                               of_state_new, of_start);
}

// Rows of inputs [N, size], with the gradients of the weight [size, 3 H] that they are multiplied by, and of its bias.
struct OfWeight {
  const Tensor rows, weight, bias;

  OfWeight(const Tensor& from, int64_t columns)
      : rows(from), weight(at::zeros({from.size(1), columns}, from.options())),
        bias(at::zeros({columns}, from.options())) {
    TORCH_CHECK(from.dim() == 2 && from.is_contiguous(), "found rows of shape ", from.sizes());
  }

  // Packs `inner` rows from the first on.
  PackedRows packed(int64_t first, int64_t inner, int slot) const {
    const int64_t size = rows.size(1);
    return pack_rows(Matrix{rows.const_data_ptr<float>() + first * size, size, 1}.transposed(), size, inner,
                     scratch(PackedRows::size(size, inner), slot));
  }

  // Adds the products of packed rows and a panel of `count` columns from j on, and the panel's sums.
  void add(const PackedRows& left, const float* panel, int64_t inner, int64_t j, int64_t count) const {
    const int64_t columns = weight.size(1);
    const Result result{weight.mutable_data_ptr<float>() + j, columns};
    multiply(rows.size(1), count, inner, left, [=](int64_t, int64_t) { return panel; },
             [=](int64_t i, int64_t from, int64_t some, const float* sums) { result.put(i, from, some, sums, true); });
    float* const sum = bias.mutable_data_ptr<float>() + j;
    for (int64_t k = 0; k < inner; ++k) {
      for_each_column(count, [&](int64_t c) { sum[c] += panel[k * COLUMNS + c]; });
    }
  }
};

// Returns the gradients of W [X, 3 H], U [H, 3 H], b and c [3 H], for inputs [N, X] and states [N, H], from those of
// W x + b, [N, 3 H], and of state_new, [N, H]: each is read once.
inline std::tuple<Tensor, Tensor, Tensor, Tensor> weight_gradients(const Tensor& inputs, const Tensor& states,
                                                                   const Tensor& of_input,
                                                                   const Tensor& of_state_new) {
  const int64_t N = states.size(0), H = states.size(1), threads = at::get_num_threads();
  TORCH_CHECK(inputs.dim() == 2 && inputs.size(0) == N, "found inputs of shape ", inputs.sizes(), " for ", N, " states");
  const OfWeight of_inputs(inputs, 3 * H), of_states(states, 3 * H);
  const float* const given = read(of_input, N * 3 * H), *const given_new = read(of_state_new, N * H);
  const int64_t panels = whole_panels(2 * H) / COLUMNS + whole_panels(H) / COLUMNS;
  at::parallel_for(0, panels, (panels + threads - 1) / threads, [&](int64_t from, int64_t to) {
    for (int64_t row = 0; row < N; row += mlp::INNER_AT_ONCE) {
      const int64_t inner = std::min(mlp::INNER_AT_ONCE, N - row);
      const PackedRows x = of_inputs.packed(row, inner, 1), h = of_states.packed(row, inner, 2);
      float* const panel = scratch(COLUMNS * inner);
      for (int64_t number = from; number < to; ++number) {
        const int64_t before = number - whole_panels(2 * H) / COLUMNS;  // of the new gate, if it is one of its
        const int64_t j = before < 0 ? number * COLUMNS : 2 * H + before * COLUMNS;
        const int64_t count = std::min(COLUMNS, (before < 0 ? 2 * H : 3 * H) - j);
        pack({given + row * 3 * H + j, 3 * H, 1}, inner, count, panel);
        of_inputs.add(x, panel, inner, j, count);
        if (before >= 0) pack({given_new + row * H + j - 2 * H, H, 1}, inner, count, panel);
        of_states.add(h, panel, inner, j, count);
      }
    }
  });
  return {of_inputs.weight, of_states.weight, of_inputs.bias, of_states.bias};
}

}  // namespace tigr::gru
