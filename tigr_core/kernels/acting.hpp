// SPDX-License-Identifier: Apache-2.0
// Layers and a GRU cell of few rows, on the calling thread, with weights that were packed before: see acting.py.
//
// Sizes: N rows, H entries of the state. A weight [outputs, inputs] of PyTorch's is packed to [panels, inputs, COLUMNS].
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

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
inline Tensor gru_cell(const Tensor& x, const Tensor& states, TensorList weights, TensorList biases) {
  const int64_t H = states.size(-1);
  TORCH_CHECK(weights.size() == 2 && biases.size() == 2 && biases[0].numel() == 3 * H && biases[1].numel() == 3 * H &&
                  biases[1].is_contiguous() &&
                  x.size(0) == states.size(0),
              "found states of ", states.sizes(), " and inputs of ", x.sizes(), ", expected those of the GRU");
  const Tensor none = at::zeros_like(biases[1]);
  Tensor gates = layer(x, weights[0], biases[0], ANY), result = at::empty_like(states), of_new = at::empty_like(states);
  const Tensor of_state = layer(states, weights[1], none, ANY);
  for (int64_t i = 0; i < x.size(0); ++i) {
    gru::advance(H, of_state.const_data_ptr<float>() + i * 3 * H, biases[1].const_data_ptr<float>(),
                 states.const_data_ptr<float>() + i * H, gates.mutable_data_ptr<float>() + i * 3 * H,
                 of_new.mutable_data_ptr<float>() + i * H, result.mutable_data_ptr<float>() + i * H);
  }
  return result;
}

// Returns mixture weights [N, K] and z [N, L] of a head's output [N, K (2 L + 1)]: see `MixturePosterior`.
inline std::tuple<Tensor, Tensor> mixture(const Tensor& output, int64_t K) {
  const int64_t N = output.size(0), size = output.size(1) / K, L = size / 2;
  Tensor weights = at::empty({N, K}, output.options()), latent = at::zeros({N, L}, output.options());
  for (int64_t i = 0; i < N; ++i) {
    const float *const parts = output.const_data_ptr<float>() + i * K * size, *const logits = parts + 2 * L;
    float *const weight = weights.mutable_data_ptr<float>() + i * K, *const z = latent.mutable_data_ptr<float>() + i * L;
    float most = logits[0], sum = 0.0f;
    for (int64_t k = 1; k < K; ++k) most = std::max(most, logits[k * size]);
    for (int64_t k = 0; k < K; ++k) sum += weight[k] = std::exp(logits[k * size] - most);
    for (int64_t k = 0; k < K; ++k) {
      weight[k] /= sum;
      for (int64_t l = 0; l < L; ++l) z[l] += weight[k] * parts[k * size + l];
    }
  }
  return {weights, latent};
}

// Returns parts [N, ...] side by side; the first columns, as many as there are, with shift and scale applied.
inline Tensor joined(TensorList parts, const Tensor& shift, const Tensor& scale) {
  Tensor x = at::cat(parts, 1);
  const int64_t N = x.size(0), size = x.size(1), scaled = shift.numel();
  TORCH_CHECK(scaled <= size && scale.numel() == scaled && shift.is_contiguous() && scale.is_contiguous(),
              "found shifts of ", shift.sizes(), " and scales of ", scale.sizes(), " for rows of ", size);
  const float *const from = shift.const_data_ptr<float>(), *const by = scale.const_data_ptr<float>();
  float* const to = x.mutable_data_ptr<float>();
  for (int64_t i = 0; i < N; ++i) {
    for (int64_t j = 0; j < scaled; ++j) to[i * size + j] = (to[i * size + j] - from[j]) * by[j];
  }
  return x;
}

// Returns states [N, H], and mixture weights and z that the head reads off them, after what the parts tell or, without
// any, of the states as they are.
inline std::tuple<Tensor, Tensor, Tensor> infer(TensorList parts, const Tensor& shift, const Tensor& scale,
                                                const Tensor& states, TensorList gru_weights, TensorList gru_biases,
                                                TensorList weights, TensorList biases, int64_t num_components) {
  const Tensor after =
      parts.empty() ? states.clone() : gru_cell(joined(parts, shift, scale), states, gru_weights, gru_biases);
  const auto [of_components, latent] = mixture(layers(at::clamp_min(after, 0.0), weights, biases), num_components);
  return {after, of_components, latent};
}

// Returns actions [N, A] for what the parts tell: tanh(mean + std noise), or without a generator the most likely ones.
inline Tensor act(TensorList parts, const Tensor& shift, const Tensor& scale,
                  const std::optional<at::Generator>& generator, TensorList weights, TensorList biases,
                  double least_log_std, double largest_log_std) {
  const Tensor output = layers(joined(parts, shift, scale), weights, biases);
  const int64_t N = output.size(0), A = output.size(1) / 2;
  const Tensor noise = generator ? at::randn({N, A}, generator, output.options()) : Tensor();
  Tensor actions = at::empty({N, A}, output.options());
  const float *const drawn = generator ? noise.const_data_ptr<float>() : nullptr;
  const float* out = output.const_data_ptr<float>();
  float* const to = actions.mutable_data_ptr<float>();
  const float least = least_log_std, largest = largest_log_std;
  for (int64_t i = 0; i < N; ++i, out += 2 * A) {
    for (int64_t a = 0; a < A; ++a) {
      const float log_std = std::min(std::max(out[A + a], least), largest);
      to[i * A + a] = std::tanh(drawn ? out[a] + std::exp(log_std) * drawn[i * A + a] : out[a]);
    }
  }
  return actions;
}

}  // namespace tigr::acting
