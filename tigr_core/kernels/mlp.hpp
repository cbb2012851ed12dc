// SPDX-License-Identifier: Apache-2.0
// Layers with a ReLU after each but the last, forward and backward, of E networks side by side: see mlp.py.
//
// Sizes: B rows for each network, L layers. A weight is [E, inputs, outputs], or [outputs, inputs] as PyTorch's for one
// network; a bias is [E, 1, outputs] or [outputs]. Values are [E, B, size]; each thread has a share of the E B rows.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

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

// Writes what each layer gives of x [E, B, inputs], the ReLU included, to the values that are there: those of all layers,
// or of the last one only.
inline void evaluate(const std::vector<Layer>& layers, const Tensor& x, TensorList biases, Tensors& values) {
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
      const float least = l + 1 < L ? 0.0f : -std::numeric_limits<float>::infinity();
      multiply(to - from, outputs, layers[l].inputs, input, layers[l].of(network),
               [=](int64_t i, int64_t j, int64_t count, const float* sums) {
                 float* const out = result.of(i, j);
                 for_each_column(count, [&](int64_t c) {
                   const float sum = sums[c] + bias[j + c];
                   out[c] = sum < least ? least : sum;  // NaN stays NaN
                 });
               });
      input = {result.at, outputs, 1};
    }
  });
}

// Returns what each layer gives, for gradients.
inline Tensors forward(const Tensor& x, TensorList weights, TensorList biases) {
  check(x, weights, biases);
  const std::vector<Layer> layers = layers_of(weights);
  Tensors values;
  for (const Layer& layer : layers) values.push_back(at::empty({x.size(0), x.size(1), layer.outputs}, x.options()));
  evaluate(layers, x, biases, values);
  return values;
}

// Returns what the last layer gives. The others' values stay in the cache.
inline Tensor last(const Tensor& x, TensorList weights, TensorList biases) {
  check(x, weights, biases);
  const std::vector<Layer> layers = layers_of(weights);
  Tensors values{at::empty({x.size(0), x.size(1), layers.back().outputs}, x.options())};
  evaluate(layers, x, biases, values);
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

// Writes columns [from, to) of the gradient of a layer's weight, and their share of its bias.
inline void weight_gradient(const Layer& layer, Matrix input, const float* outer, int64_t rows, int64_t from,
                            int64_t to, float* of_weight, float* of_bias) {
  const Matrix given{outer, layer.outputs, 1};
  const Matrix left = layer.linear ? given : input, right = layer.linear ? input : given;
  const int64_t height = layer.linear ? layer.outputs : layer.inputs;
  const int64_t width = layer.linear ? layer.inputs : layer.outputs;
  int64_t row = 0;
  do {  // once even without rows, to write zeros
    const int64_t inner = std::min(INNER_AT_ONCE, rows - row);
    const Matrix a = Matrix{left.at + row * left.row, left.row, left.column}.transposed();
    const Matrix b{right.at + row * right.row + from * right.column, right.row, right.column};
    const Result result{of_weight + from, width};
    multiply(height, to - from, inner, a, b, [=](int64_t i, int64_t j, int64_t count, const float* sums) {
      result.put(i, j, count, sums, row > 0);
    });
    row += INNER_AT_ONCE;
  } while (row < rows);
  // The first part of a layer of PyTorch's does all of the bias, the others none.
  const int64_t begin = layer.linear ? 0 : from, end = !layer.linear ? to : from ? 0 : layer.outputs;
  for (int64_t o = begin; o < end; ++o) of_bias[o] = 0.0f;
  for (row = 0; row < rows; ++row) {
#pragma omp simd
    for (int64_t o = begin; o < end; ++o) of_bias[o] += outer[row * layer.outputs + o];
  }
}

// Writes the gradients of weights and biases, from those of what each layer gives before its ReLU.
inline void weight_gradients(const std::vector<Layer>& layers, const Tensor& x, TensorList values,
                             TensorList outers, Tensors& of_weights, Tensors& of_biases) {
  const int64_t E = x.size(0), B = x.size(1), L = layers.size(), threads = at::get_num_threads();
  const int64_t parts = (threads + E - 1) / E;
  at::parallel_for(0, E * parts * L, L, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const int64_t l = k % L, network = k / L / parts, part = k / L % parts;
      const Layer& layer = layers[l];
      const int64_t size = layer.inputs * layer.outputs, columns = layer.linear ? layer.inputs : layer.outputs;
      const int64_t share = whole_panels((columns + parts - 1) / parts), from = part * share;
      if (from >= columns) continue;
      weight_gradient(layer, rows_of(l ? values[l - 1] : x, network),
                      outers[l].const_data_ptr<float>() + network * B * layer.outputs, B, from,
                      std::min(columns, from + share), of_weights[l].mutable_data_ptr<float>() + network * size,
                      of_biases[l].mutable_data_ptr<float>() + network * layer.outputs);
    }
  });
}

// Returns the gradients [inputs, outputs] of the weight and [outputs] of the bias of one layer, for inputs [B, inputs] and
// the gradient [B, outputs] of what it gives.
inline std::tuple<Tensor, Tensor> layer_gradients(const Tensor& x, const Tensor& outer) {
  TORCH_CHECK(x.dim() == 2 && outer.dim() == 2 && outer.is_contiguous() && x.size(0) == outer.size(0),
              "found inputs of shape ", x.sizes(), " and gradients of ", outer.sizes());
  const Tensor of_weight = at::empty({1, x.size(1), outer.size(1)}, x.options());
  const Tensor of_bias = at::empty({1, 1, outer.size(1)}, x.options());
  Tensors of_weights{of_weight}, of_biases{of_bias};
  weight_gradients({Layer(of_weight)}, x.unsqueeze(0), {}, {outer.unsqueeze(0)}, of_weights, of_biases);
  return {of_weight[0], of_bias.flatten()};
}

// Returns the gradients of x, if wanted, and of weights and biases, if wanted, from that of the last layer's values.
inline Tensors backward(const Tensor& outer, const Tensor& x, TensorList values, TensorList weights, TensorList biases,
                        bool of_input, bool of_parameters) {
  check(x, weights, biases);
  TORCH_CHECK(values.size() + 1 == weights.size(), "found values of ", values.size(), " hidden layers");
  TORCH_CHECK(outer.is_contiguous() && outer.sizes().slice(0, 2) == x.sizes().slice(0, 2) &&
                  outer.numel() == x.size(1) * biases.back().numel(),
              "found a gradient of shape ", outer.sizes());
  const std::vector<Layer> layers = layers_of(weights);
  const int64_t E = x.size(0), B = x.size(1), L = layers.size(), lowest = of_input ? 0 : 1;
  const std::vector<int64_t> rows = of_parameters ? all_rows(E * B) : rows_to_do(outer);
  Tensor of_x;
  Tensors outers(L), of_weights, of_biases, result;
  if (of_input) result.push_back(of_x = at::zeros({E, B, layers[0].inputs}, x.options()));
  outers[L - 1] = outer;
  int64_t widest = layers[L - 1].outputs;
  for (int64_t l = 0; l < L; ++l) {
    widest = std::max(widest, layers[l].inputs);
    if (!of_parameters) continue;
    if (l + 1 < L) outers[l] = at::empty_like(values[l]);
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
      given = next;
    }
  });
  if (of_parameters) weight_gradients(layers, x, values, outers, of_weights, of_biases);
  result.insert(result.end(), of_weights.begin(), of_weights.end());
  result.insert(result.end(), of_biases.begin(), of_biases.end());
  return result;
}

}  // namespace tigr::mlp
