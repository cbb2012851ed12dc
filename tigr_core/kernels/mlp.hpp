// SPDX-License-Identifier: Apache-2.0
// Layers with a ReLU after each but the last, forward and backward, of E networks side by side: see mlp.py.
//
// Sizes: B rows for each network, L layers. A weight is [E, inputs, outputs], or [outputs, inputs] as PyTorch's for one
// network; a bias is [E, 1, outputs] or [outputs]. Values are [E, B, size]; each thread has a share of the E B rows.
// Layers but the last may be normalised before their ReLU (Ba et al., arXiv 1607.06450), by scale and shift [E, 1, size].
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "products.hpp"

namespace tigr::mlp {

using at::Tensor;
using at::TensorList;
using Tensors = std::vector<Tensor>;

constexpr int64_t ROWS_AT_ONCE = 256;
constexpr int64_t INNER_AT_ONCE = 256;  // rows that a gradient of weights is summed over between two writes of it
constexpr int64_t LEAST_SUMMED = 64;    // rows that are worth a sum of their own

struct Layer {
  const Tensor& weight;
  int64_t inputs, outputs;
  bool linear;  // as PyTorch's

  explicit Layer(const Tensor& w)
      : weight(w), inputs(w.size(1)), outputs(w.size(w.dim() == 2 ? 0 : 2)), linear(w.dim() == 2) {}

  Matrix of(int64_t network) const {  // [inputs, outputs]
    const float* const at = weight.const_data_ptr<float>();
    if (linear) return Matrix{at, weight.stride(0), weight.stride(1)}.transposed();
    return {at + network * weight.stride(0), weight.stride(1), weight.stride(2)};
  }
};

inline std::vector<Layer> layers_of(TensorList weights) { return {weights.begin(), weights.end()}; }

// Rows whose entries lie one after the other: gradients of weights pack them.
inline void check_rows(const Tensor& x) {
  TORCH_CHECK(x.size(-1) < 2 || x.stride(-1) == 1, "found values of strides ", x.strides(), ", expected rows without gaps");
}

inline Matrix rows_of(const Tensor& values, int64_t network) {
  return {values.const_data_ptr<float>() + network * values.stride(0), values.stride(1), values.stride(2)};
}

// Calls work(network, from, to) with the positions in `rows`, numbers of rows of all networks in order, that are of one
// network and few enough to stay in the cache of a core.
template <typename Work>
void for_each_block(const std::vector<int64_t>& rows, int64_t batch, const Work& work) {
  const int64_t count = rows.size(), threads = at::get_num_threads();
  at::parallel_for(0, count, std::max(ROWS, (count + threads - 1) / threads), [&](int64_t from, int64_t end) {
    for (int64_t to; from < end; from = to) {
      const int64_t network = rows[from] / batch, most = std::min(end, from + ROWS_AT_ONCE);
      for (to = from + 1; to < most && rows[to] / batch == network;) ++to;
      work(network, from, to);
    }
  });
}

inline std::vector<int64_t> all_rows(int64_t count) {
  std::vector<int64_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// Raises what Python shows as a RuntimeError for shapes that do not fit, or parameters with gaps.
inline void check(const Tensor& x, TensorList weights, TensorList biases) {
  TORCH_CHECK(x.dim() == 3 && x.size(0) > 0, "found values of shape ", x.sizes(), ", expected [networks, rows, size]");
  TORCH_CHECK(!weights.empty() && weights.size() == biases.size(), "found ", weights.size(), " weights and ",
              biases.size(), " biases");
  int64_t size = x.size(2);
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor &weight = weights[l], &bias = biases[l];
    TORCH_CHECK(weight.dim() == 2 || weight.dim() == 3, "found a weight of shape ", weight.sizes());
    const int64_t networks = weight.dim() == 2 ? 1 : weight.size(0);
    const Layer layer(weight);
    TORCH_CHECK(networks == x.size(0) && layer.inputs == size && bias.numel() == networks * layer.outputs,
                "found a weight of shape ", weight.sizes(), " and a bias of ", bias.sizes(), ", expected those of ",
                x.size(0), " networks with ", size, " inputs");
    TORCH_CHECK(weight.is_contiguous() && bias.is_contiguous(), "expected parameters without gaps");
    size = layer.outputs;
  }
}

// Normalisation of the values of each layer but the last, or of none.
struct Norms {
  TensorList scales, shifts;
  static constexpr float EPSILON = 1e-5f;  // as PyTorch's

  bool used() const { return !scales.empty(); }
};

// What its gradient needs, for each normalised layer.
struct Normalised {
  Tensors rows;        // [E, B, size], of mean zero and deviation one
  Tensors deviations;  // [E, B], what they were divided by
};

// Normalises a row of `size` values in place; returns the deviation. Writes what comes of scale, shift and ReLU to `out`.
inline float normalise(float* row, int64_t size, const float* scale, const float* shift, float* out) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < size; ++c) sum += row[c];
  const float mean = sum / size;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < size; ++c) squares += (row[c] - mean) * (row[c] - mean);
  const float deviation = std::sqrt(squares / size + Norms::EPSILON), by = 1.0f / deviation;
#pragma omp simd
  for (int64_t c = 0; c < size; ++c) {
    row[c] = (row[c] - mean) * by;
    const float value = row[c] * scale[c] + shift[c];
    out[c] = value < 0.0f ? 0.0f : value;  // NaN stays NaN
  }
  return deviation;
}

// Turns the gradient of a row's values before their ReLU into that of the row before it was normalised, in place.
inline void normalise_back(const float* row, float deviation, int64_t size, const float* scale, float* gradient) {
  float sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
  for (int64_t c = 0; c < size; ++c) {
    gradient[c] *= scale[c];
    sum += gradient[c], along += gradient[c] * row[c];
  }
  const float mean = sum / size, share = along / size, by = 1.0f / deviation;
#pragma omp simd
  for (int64_t c = 0; c < size; ++c) gradient[c] = (gradient[c] - mean - share * row[c]) * by;
}

// Writes what each layer gives of x [E, B, inputs], the ReLU included, to the values that are there: those of all layers,
// or of the last one only; and what gradients need of norms, if that is asked for.
inline void evaluate(const std::vector<Layer>& layers, const Tensor& x, TensorList biases, const Norms& norms,
                     Tensors& values, Normalised* normalised) {
  const int64_t E = x.size(0), B = x.size(1), L = layers.size(), kept = L - values.size();  // the first one
  int64_t widest = 0;
  for (const Layer& layer : layers) widest = std::max(widest, layer.outputs);
  for_each_block(all_rows(E * B), B, [&](int64_t network, int64_t from, int64_t to) {
    Matrix input = rows_of(x, network);
    input.at += (from - network * B) * input.row;
    for (int64_t l = 0; l < L; ++l) {
      const int64_t outputs = layers[l].outputs;
      const float* const bias = biases[l].const_data_ptr<float>() + network * outputs;
      const Result result{l < kept ? scratch(ROWS_AT_ONCE * widest, 1 + l % 2)
                                   : values[l - kept].mutable_data_ptr<float>() + from * outputs,
                          outputs};
      const bool normal = norms.used() && l + 1 < L;
      const float least = l + 1 < L && !normal ? 0.0f : -std::numeric_limits<float>::infinity();
      multiply(to - from, outputs, layers[l].inputs, input, layers[l].of(network),
               [=](int64_t i, int64_t j, int64_t count, const float* sums) {
                 float* const out = result.of(i, j);
                 for_each_column(count, [&](int64_t c) {
                   const float sum = sums[c] + bias[j + c];
                   out[c] = sum < least ? least : sum;  // NaN stays NaN
                 });
               });
      for (int64_t i = 0; normal && i < to - from; ++i) {
        const int64_t at = network * outputs;
        float* const out = result.at + i * outputs;
        float* const row = normalised ? normalised->rows[l].mutable_data_ptr<float>() + (from + i) * outputs : out;
        if (row != out) std::memcpy(row, out, sizeof(float) * outputs);
        const float deviation = normalise(row, outputs, norms.scales[l].const_data_ptr<float>() + at,
                                          norms.shifts[l].const_data_ptr<float>() + at, out);
        if (normalised) normalised->deviations[l].mutable_data_ptr<float>()[from + i] = deviation;
      }
      input = {result.at, outputs, 1};
    }
  });
}

// Returns what each layer gives, for gradients.
inline Tensors forward(const Tensor& x, TensorList weights, TensorList biases, const Norms& norms = {},
                       Normalised* normalised = nullptr) {
  check(x, weights, biases);
  const std::vector<Layer> layers = layers_of(weights);
  Tensors values;
  for (const Layer& layer : layers) values.push_back(at::empty({x.size(0), x.size(1), layer.outputs}, x.options()));
  for (size_t l = 0; l < norms.scales.size(); ++l) {
    normalised->rows.push_back(at::empty_like(values[l]));
    normalised->deviations.push_back(at::empty({x.size(0), x.size(1)}, x.options()));
  }
  evaluate(layers, x, biases, norms, values, normalised);
  return values;
}

// Returns what the last layer gives. The others' values stay in the cache.
inline Tensor last(const Tensor& x, TensorList weights, TensorList biases, const Norms& norms = {}) {
  check(x, weights, biases);
  const std::vector<Layer> layers = layers_of(weights);
  Tensors values{at::empty({x.size(0), x.size(1), layers.back().outputs}, x.options())};
  evaluate(layers, x, biases, norms, values, nullptr);
  return values[0];
}

// The rows of all networks whose gradient is not zero: of the smaller of two values half of the rows.
inline std::vector<int64_t> rows_to_do(const Tensor& outer) {
  const int64_t count = outer.size(0) * outer.size(1), size = outer.size(2);
  const float* const g = outer.const_data_ptr<float>();
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < count; ++row) {
    if (std::any_of(g + row * size, g + (row + 1) * size, [](float x) { return x != 0.0f; })) rows.push_back(row);
  }
  return rows;
}

// Writes the gradients of a layer's weight and bias, from so many rows.
inline void weight_gradient(const Layer& layer, Matrix input, const float* outer, int64_t rows, float* of_weight,
                            float* of_bias) {
  const Matrix given{outer, layer.outputs, 1};
  const Matrix left = layer.linear ? given : input, right = layer.linear ? input : given;
  const int64_t height = layer.linear ? layer.outputs : layer.inputs;
  const int64_t width = layer.linear ? layer.inputs : layer.outputs;
  const Result result{of_weight, width};
  int64_t row = 0;
  do {  // once even without rows, to write zeros
    const int64_t inner = std::min(INNER_AT_ONCE, rows - row);
    const Matrix transposed = Matrix{left.at + row * left.row, left.row, left.column}.transposed();
    const PackedRows a = pack_rows(transposed, height, inner, scratch(PackedRows::size(height, inner), 1));
    const Matrix b{right.at + row * right.row, right.row, right.column};
    multiply(height, width, inner, a, b, [=](int64_t i, int64_t j, int64_t count, const float* sums) {
      result.put(i, j, count, sums, row > 0);
    });
    row += INNER_AT_ONCE;
  } while (row < rows);
  for (int64_t o = 0; o < layer.outputs; ++o) of_bias[o] = 0.0f;
  for (row = 0; row < rows; ++row) {
#pragma omp simd
    for (int64_t o = 0; o < layer.outputs; ++o) of_bias[o] += outer[row * layer.outputs + o];
  }
}

// Writes the gradients of weights and biases, from those of what each layer gives before its ReLU.
inline void weight_gradients(const std::vector<Layer>& layers, const Tensor& x, TensorList values,
                             TensorList outers, const Tensors& of_weights, const Tensors& of_biases) {
  const int64_t E = x.size(0), B = x.size(1), L = layers.size(), threads = at::get_num_threads();
  // Where there are more threads than networks, each sums over some of the rows, and their sums are added.
  const int64_t parts = std::min((threads + E - 1) / E, std::max(B / LEAST_SUMMED, int64_t{1}));
  const int64_t share = (B + parts - 1) / parts;
  std::vector<Tensors> weights{of_weights}, biases{of_biases};
  for (int64_t part = 1; part < parts; ++part) {
    weights.push_back(of_weights), biases.push_back(of_biases);
    for (Tensor& weight : weights[part]) weight = at::empty_like(weight);
    for (Tensor& bias : biases[part]) bias = at::empty_like(bias);
  }
  at::parallel_for(0, E * parts * L, L, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t l = k % L, network = k / L / parts, part = k / L % parts, from = std::min(B, part * share);
      const Layer& layer = layers[l];
      const Matrix input = rows_of(l ? values[l - 1] : x, network);
      weight_gradient(layer, {input.at + from * input.row, input.row, input.column},
                      outers[l].const_data_ptr<float>() + (network * B + from) * layer.outputs,
                      std::min(B, from + share) - from,
                      weights[part][l].mutable_data_ptr<float>() + network * layer.inputs * layer.outputs,
                      biases[part][l].mutable_data_ptr<float>() + network * layer.outputs);
    }
  });
  for (int64_t part = 1; part < parts; ++part) {
    for (int64_t l = 0; l < L; ++l) of_weights[l].add_(weights[part][l]), of_biases[l].add_(biases[part][l]);
  }
}

// Writes the gradients of a layer's norm, from those of its values before their ReLU.
inline void norm_gradients(const Tensor& outer, const Tensor& rows, Tensor& of_scale, Tensor& of_shift) {
  const int64_t E = outer.size(0), B = outer.size(1), size = outer.size(2);
  at::parallel_for(0, E, 1, [&](int64_t first, int64_t last) {
    for (int64_t network = first; network < last; ++network) {
      float* const scale = of_scale.mutable_data_ptr<float>() + network * size;
      float* const shift = of_shift.mutable_data_ptr<float>() + network * size;
      const float* const g = outer.const_data_ptr<float>() + network * B * size;
      const float* const row = rows.const_data_ptr<float>() + network * B * size;
      for (int64_t c = 0; c < size; ++c) scale[c] = shift[c] = 0.0f;
      for (int64_t i = 0; i < B; ++i) {
#pragma omp simd
        for (int64_t c = 0; c < size; ++c) scale[c] += g[i * size + c] * row[i * size + c], shift[c] += g[i * size + c];
      }
    }
  });
}

// Returns the gradients of x, if wanted, and of weights and biases, scales and shifts, if wanted, from that of the last
// layer's values.
inline Tensors backward(const Tensor& outer, const Tensor& x, TensorList values, TensorList weights, TensorList biases,
                        bool of_input, bool of_parameters, const Norms& norms = {},
                        const Normalised& normalised = {}) {
  check(x, weights, biases);
  check_rows(x);
  TORCH_CHECK(values.size() + 1 == weights.size(), "found values of ", values.size(), " hidden layers");
  TORCH_CHECK(outer.is_contiguous() && outer.sizes().slice(0, 2) == x.sizes().slice(0, 2) &&
                  outer.numel() == x.size(1) * biases.back().numel(),
              "found a gradient of shape ", outer.sizes());
  const std::vector<Layer> layers = layers_of(weights);
  const int64_t E = x.size(0), B = x.size(1), L = layers.size(), lowest = of_input ? 0 : 1;
  const std::vector<int64_t> rows = of_parameters ? all_rows(E * B) : rows_to_do(outer);
  Tensor of_x;
  Tensors outers(L), before_norms(L), of_weights, of_biases, of_scales, of_shifts, result;
  if (of_input) result.push_back(of_x = at::zeros({E, B, layers[0].inputs}, x.options()));
  outers[L - 1] = outer;
  int64_t widest = layers[L - 1].outputs;
  for (int64_t l = 0; l < L; ++l) {
    widest = std::max(widest, layers[l].inputs);
    if (!of_parameters) continue;
    if (l + 1 < L) outers[l] = at::empty_like(values[l]);
    if (l + 1 < L && norms.used()) {
      before_norms[l] = at::empty_like(values[l]);
      of_scales.push_back(at::empty_like(norms.scales[l]));
      of_shifts.push_back(at::empty_like(norms.shifts[l]));
    }
    of_weights.push_back(at::empty_like(weights[l]));
    of_biases.push_back(at::empty_like(biases[l]));
  }
  for_each_block(rows, B, [&](int64_t network, int64_t from, int64_t to) {
    const int64_t last = layers[L - 1].outputs;
    // Where parameters are not asked for, what is between two layers is needed no longer than that.
    float* given = scratch(ROWS_AT_ONCE * widest, 1);
    for (int64_t i = from; i < to; ++i) {
      std::memcpy(given + (i - from) * last, outer.const_data_ptr<float>() + rows[i] * last, sizeof(float) * last);
    }
    for (int64_t l = L - 1; l >= lowest; --l) {
      const int64_t inputs = layers[l].inputs;
      // Where they are, `rows` are all rows, and positions in it are rows.
      float* const next = l && of_parameters ? outers[l - 1].mutable_data_ptr<float>() + from * inputs
                                             : scratch(ROWS_AT_ONCE * widest, 1 + (L - l) % 2);
      const float* const value = l ? values[l - 1].const_data_ptr<float>() : nullptr;
      float* const result = l ? nullptr : of_x.mutable_data_ptr<float>();
      const int64_t* const row = rows.data() + from;
      multiply(to - from, inputs, layers[l].outputs, {given, layers[l].outputs, 1},
               layers[l].of(network).transposed(),
               [=](int64_t i, int64_t j, int64_t count, const float* sums) {
                 if (result) {
                   std::memcpy(result + row[i] * inputs + j, sums, sizeof(float) * count);
                   return;
                 }
                 float* const out = Result{next, inputs}.of(i, j);
                 const float* const passed = value + row[i] * inputs + j;
                 fetch(passed + ROWS * inputs);
                 for_each_column(count, [&](int64_t c) { out[c] = passed[c] <= 0.0f ? 0.0f : sums[c]; });
               });
      for (int64_t i = 0; norms.used() && l && i < to - from; ++i) {
        float* const gradient = next + i * inputs;
        const int64_t place = row[i] * inputs;
        if (of_parameters) {
          std::memcpy(before_norms[l - 1].mutable_data_ptr<float>() + place, gradient, sizeof(float) * inputs);
        }
        normalise_back(normalised.rows[l - 1].const_data_ptr<float>() + place,
                       normalised.deviations[l - 1].const_data_ptr<float>()[row[i]], inputs,
                       norms.scales[l - 1].const_data_ptr<float>() + network * inputs, gradient);
      }
      given = next;
    }
  });
  if (of_parameters) weight_gradients(layers, x, values, outers, of_weights, of_biases);
  for (size_t l = 0; l < of_scales.size(); ++l) {
    norm_gradients(before_norms[l], normalised.rows[l], of_scales[l], of_shifts[l]);
  }
  for (const Tensors* const some : {&of_weights, &of_biases, &of_scales, &of_shifts}) {
    result.insert(result.end(), some->begin(), some->end());
  }
  return result;
}

// The same without norms and with all gradients of parameters, for Python.
inline Tensor plain_last(const Tensor& x, TensorList weights, TensorList biases) { return last(x, weights, biases); }
inline Tensors plain_forward(const Tensor& x, TensorList weights, TensorList biases) {
  return forward(x, weights, biases);
}
inline Tensors plain_backward(const Tensor& outer, const Tensor& x, TensorList values, TensorList weights,
                              TensorList biases, bool of_input) {
  return backward(outer, x, values, weights, biases, of_input, true);
}

}  // namespace tigr::mlp
