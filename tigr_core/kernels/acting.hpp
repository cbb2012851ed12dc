// SPDX-License-Identifier: Apache-2.0
// Layers and a GRU cell of few rows, on the calling thread, with weights that were packed before: see acting.py.
//
// Sizes: N rows, H entries of the state. A weight [outputs, inputs] of PyTorch's is packed to [panels, inputs, COLUMNS].
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <limits>

#include "gru.hpp"
#include "products.hpp"

namespace tigr::acting {

using at::Tensor;
using at::TensorList;

// Returns a weight as the products below read it.
inline Tensor packed(const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 2 && weight.is_contiguous(), "found a weight of shape ", weight.sizes());
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  Tensor result = at::empty({whole_panels(outputs) / COLUMNS, inputs, COLUMNS}, weight.options());
  const Matrix transposed = Matrix{weight.const_data_ptr<float>(), inputs, 1}.transposed();
  pack_panels(transposed, inputs, outputs, result.mutable_data_ptr<float>());
  return result;
}

inline void check(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  TORCH_CHECK(x.dim() == 2 && x.is_contiguous() && weight.dim() == 3 && weight.size(1) == x.size(1) &&
                  weight.size(2) == COLUMNS && weight.size(0) * COLUMNS == whole_panels(bias.numel()) &&
                  bias.is_contiguous(),
              "found rows of shape ", x.sizes(), ", a packed weight of ", weight.sizes(), " and a bias of ",
              bias.sizes());
}

// Returns W x + b of rows x [N, inputs], and no less than `least`.
inline Tensor layer(const Tensor& x, const Tensor& weight, const Tensor& bias, float least) {
  check(x, weight, bias);
  const int64_t outputs = bias.numel(), inputs = x.size(1);
  Tensor result = at::empty({x.size(0), outputs}, x.options());
  float* const to = result.mutable_data_ptr<float>();
  const float *const b = bias.const_data_ptr<float>(), *const panels = weight.const_data_ptr<float>();
  multiply(
      x.size(0), outputs, inputs, {x.const_data_ptr<float>(), inputs, 1},
      [=](int64_t j, int64_t) { return panels + j * inputs; },
      [=](int64_t i, int64_t j, int64_t count, const float* sums) {
        float* const out = to + i * outputs + j;
        for_each_column(count, [&](int64_t c) {
          const float sum = sums[c] + b[j + c];
          out[c] = sum < least ? least : sum;  // NaN stays NaN
        });
      });
  return result;
}

constexpr float ANY = -std::numeric_limits<float>::infinity();

// Returns what layers with a ReLU after each but the last make of x [N, inputs].
inline Tensor layers(const Tensor& x, TensorList weights, TensorList biases) {
  TORCH_CHECK(weights.size() == biases.size(), "found ", weights.size(), " weights and ", biases.size(), " biases");
  Tensor values = x;
  for (size_t l = 0; l < weights.size(); ++l) {
    values = layer(values, weights[l], biases[l], l + 1 < weights.size() ? 0.0f : ANY);
  }
  return values;
}

// Returns the states [N, H] after inputs x [N, X].
inline Tensor gru_cell(const Tensor& x, const Tensor& states, const Tensor& weight_ih, const Tensor& weight_hh,
                       const Tensor& bias_ih, const Tensor& bias_hh) {
  const int64_t H = states.size(-1);
  TORCH_CHECK(bias_ih.numel() == 3 * H && bias_hh.numel() == 3 * H && x.size(0) == states.size(0), "found states of ",
              states.sizes(), ", inputs of ", x.sizes(), " and biases of ", bias_ih.sizes());
  const Tensor of_input = layer(x, weight_ih, bias_ih, ANY), of_state = layer(states, weight_hh, bias_hh, ANY);
  Tensor result = at::empty_like(states);
  for (int64_t i = 0; i < x.size(0); ++i) {
    const float *const r = of_input.const_data_ptr<float>() + i * 3 * H, *const z = r + H, *const n = z + H;
    const float *const sr = of_state.const_data_ptr<float>() + i * 3 * H, *const sz = sr + H, *const sn = sz + H;
    const float* const h = states.const_data_ptr<float>() + i * H;
    float* const next = result.mutable_data_ptr<float>() + i * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      next[j] = gru::advanced(r[j] + sr[j], z[j] + sz[j], n[j], sn[j], h[j]).state;
    }
  }
  return result;
}

}  // namespace tigr::acting
