// SPDX-License-Identifier: Apache-2.0
// The losses of SAC with their gradients, as sac_learner.py states them: see compiled_sac.py.
//
// Sizes: B transitions, A entries of an action. A network is given as its weights and then its biases; that of the actor is
// PyTorch's, [outputs, inputs], critics are two side by side, [2, inputs, outputs], and may have norms: scales and then
// shifts. What networks read comes in parts [B, ...], to be put side by side.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "functions.hpp"
#include "mlp.hpp"
#include "values.hpp"

namespace tigr::sac {

using at::Tensor;
using at::TensorList;
using mlp::Tensors;

struct Network {
  TensorList weights, biases;
  mlp::Norms norms;

  explicit Network(TensorList parts, TensorList of_norms = {})
      : weights(parts.slice(0, parts.size() / 2)), biases(parts.slice(parts.size() / 2)),
        norms{of_norms.slice(0, of_norms.size() / 2), of_norms.slice(of_norms.size() / 2)} {
    TORCH_CHECK(of_norms.empty() || of_norms.size() + 2 == parts.size(), "found ", of_norms.size(), " parts of norms");
    for (size_t k = 0; k < of_norms.size(); ++k) read(of_norms[k], biases[k % norms.scales.size()].numel());
  }

  Tensor last(const Tensor& x) const { return mlp::last(x, weights, biases, norms); }
};

// What a network gives, and what its gradients need.
struct Evaluated {
  const Network& network;
  const Tensor x;
  mlp::Normalised normalised;
  Tensors values;

  Evaluated(const Network& of, Tensor inputs)
      : network(of), x(std::move(inputs)), values(mlp::forward(x, of.weights, of.biases, of.norms, &normalised)) {}

  const Tensor& last() const { return values.back(); }

  // Returns the gradients of the network's parameters, or of its inputs, from that of what it gives.
  Tensors backward(const Tensor& outer, bool of_input) const {
    const TensorList hidden = TensorList(values).slice(0, values.size() - 1);
    return mlp::backward(outer, x, hidden, network.weights, network.biases, of_input, !of_input, network.norms,
                         normalised);
  }
};

struct Range {
  float least, largest;
};

// Returns what `networks` networks side by side read: [networks, B, ...].
inline Tensor inputs_of(TensorList parts, int64_t networks) {
  const Tensor joined = at::cat(parts, 1);
  return joined.unsqueeze(0).expand({networks, joined.size(0), joined.size(1)});
}

inline Tensor inputs_of(TensorList parts, const Tensor& action) {
  Tensors all(parts.begin(), parts.end());
  all.push_back(action);
  return inputs_of(all, 2);
}

// Actions drawn of what the actor says, and the logarithms of their densities [B].
struct Drawn {
  Tensor action, log_prob;
};

inline float log_std_of(float output, Range range) { return std::min(std::max(output, range.least), range.largest); }

// For an actor's output [B, 2 A], means and logarithms of standard deviations, and noise [B, A].
inline Drawn drawn(const Tensor& output, const Tensor& noise, Range range) {
  const int64_t B = noise.size(0), A = noise.size(1);
  Drawn result{at::empty({B, A}, noise.options()), at::empty({B}, noise.options())};
  const float *out = read(output, 2 * B * A), *n = read(noise, B * A);
  float* action = result.action.mutable_data_ptr<float>();
  constexpr float log_2 = std::numbers::ln2_v<float>;
  const float log_root = 0.5f * std::log(2.0f * std::numbers::pi_v<float>);
  for (int64_t i = 0; i < B; ++i, out += 2 * A, n += A, action += A) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t a = 0; a < A; ++a) {
      const float log_std = log_std_of(out[A + a], range), raw = out[a] + exponential(log_std) * n[a];
      const float gaussian = -0.5f * n[a] * n[a] - log_std - log_root;
      action[a] = hyperbolic_tangent(raw);
      sum += gaussian - 2.0f * (log_2 - raw - softplus(-2.0f * raw));
    }
    result.log_prob.mutable_data_ptr<float>()[i] = sum;
  }
  return result;
}

// As torch.min, NaN stays NaN.
inline float smaller(float a, float b) { return a <= b || std::isnan(a) ? a : b; }

// Returns a loss, what else it tells, and gradients.
inline Tensors told(double loss, const Tensor& what, const Tensors& gradients) {
  Tensors result{at::scalar_tensor(loss, what.options()), what};
  result.insert(result.end(), gradients.begin(), gradients.end());
  return result;
}

// Returns the loss of the critics, their values [2, B], and the gradients of their parts.
inline Tensors critic_gradients(TensorList state, const Tensor& action, TensorList next_of_actor,
                                TensorList next_of_critics, const Tensor& reward, const Tensor& terminated,
                                const Tensor& noise, const Tensor& log_temperature, double discount,
                                double least_log_std, double largest_log_std, TensorList actor_parts,
                                TensorList target_parts, TensorList target_norms, TensorList critic_parts,
                                TensorList critic_norms) {
  const Network actor(actor_parts), targets(target_parts, target_norms), critics(critic_parts, critic_norms);
  const Range range{static_cast<float>(least_log_std), static_cast<float>(largest_log_std)};
  const int64_t B = noise.size(0);
  const Drawn next = drawn(actor.last(inputs_of(next_of_actor, 1)), noise, range);
  const Tensor next_value = targets.last(inputs_of(next_of_critics, next.action));
  const Evaluated now(critics, inputs_of(state, action));
  const Tensor outer = at::empty_like(now.last());
  const float temperature = std::exp(log_temperature.item<float>()), share = discount;
  const float *const r = read(reward, B), *const ended = read(terminated, B);
  const float *const log_prob = read(next.log_prob, B);
  const float *const after = read(next_value, 2 * B), *const value = read(now.last(), 2 * B);
  float* const of_value = outer.mutable_data_ptr<float>();
  double loss = 0.0;
  for (int64_t i = 0; i < B; ++i) {
    const float next_i = smaller(after[i], after[B + i]) - temperature * log_prob[i];
    const float target = r[i] + share * (1.0f - ended[i]) * next_i;
    for (const int64_t k : {i, B + i}) {
      const float error = value[k] - target;
      loss += error * error;
      of_value[k] = 2.0f / B * error;
    }
  }
  return told(loss / B, now.last().squeeze(2), now.backward(outer, false));
}

// Returns the actor's loss, the log-probabilities [B] of its actions, and the gradients of its parts.
inline Tensors actor_gradients(TensorList of_actor, TensorList of_critics, const std::optional<Tensor>& taught,
                               const Tensor& teacher_weight, const Tensor& noise, const Tensor& log_temperature,
                               double least_log_std, double largest_log_std, TensorList actor_parts,
                               TensorList critic_parts, TensorList critic_norms) {
  const Network actor(actor_parts), critics(critic_parts, critic_norms);
  const Range range{static_cast<float>(least_log_std), static_cast<float>(largest_log_std)};
  const int64_t B = noise.size(0), A = noise.size(1);
  const Evaluated said(actor, inputs_of(of_actor, 1));
  const Drawn now = drawn(said.last(), noise, range);
  const Evaluated seen(critics, inputs_of(of_critics, now.action));

  const Tensor of_value = at::empty_like(seen.last());
  const float temperature = std::exp(log_temperature.item<float>()), one = 1.0f / B;
  const float *const value = read(seen.last(), 2 * B), *const log_prob = read(now.log_prob, B);
  float* const of_values = of_value.mutable_data_ptr<float>();
  double loss = 0.0;
  for (int64_t i = 0; i < B; ++i) {
    const float a = value[i], b = value[B + i];
    of_values[i] = a < b ? -one : a > b ? 0.0f : -0.5f * one;  // as torch.amin
    of_values[B + i] = -one - of_values[i];
    loss += temperature * log_prob[i] - smaller(a, b);
  }
  const Tensor of_seen = seen.backward(of_value, true)[0];

  const Tensor of_said = at::empty_like(said.last());
  const int64_t wide = of_seen.size(2);
  const float *first = read(of_seen, 2 * B * wide) + wide - A, *second = first + B * wide;
  const float *action = read(now.action, B * A), *out = read(said.last(), 2 * B * A), *n = read(noise, B * A);
  const float* const shown = taught ? read(*taught, B * A) : nullptr;
  const float weight = shown ? teacher_weight.item<float>() : 0.0f;
  float* to = of_said.mutable_data_ptr<float>();
  for (int64_t i = 0; i < B; ++i, first += wide, second += wide, action += A, out += 2 * A, n += A, to += 2 * A) {
#pragma omp simd
    for (int64_t k = 0; k < A; ++k) {
      const float log_std = log_std_of(out[A + k], range), of_action = first[k] + second[k];
      // d log_prob / d raw = 2 tanh raw, d log_prob / d log_std = -1 beside that
      const float of_raw = of_action * (1.0f - action[k] * action[k]) + one * temperature * 2.0f * action[k];
      to[k] = of_raw;
      to[A + k] = log_std == out[A + k] ? of_raw * exponential(log_std) * n[k] - one * temperature : 0.0f;
    }
    for (int64_t k = 0; shown && k < A; ++k) {
      const float likely = hyperbolic_tangent(out[k]), off = likely - shown[i * A + k];
      loss += weight * off * off;
      to[k] += one * weight * 2.0f * off * (1.0f - likely * likely);
    }
  }
  return told(loss / B, now.log_prob, said.backward(of_said, false));
}

}  // namespace tigr::sac
