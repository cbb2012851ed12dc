// SPDX-License-Identifier: Apache-2.0
// A step of SAC, as sac_learner.py states it: see compiled_sac.py.
//
// Sizes: B transitions, A entries of an action. Parts of a network are as its module has them: weight and bias of each
// layer, then scale and shift of each norm. Weights of the actor are PyTorch's, [outputs, inputs]; critics are two side
// by side, [2, inputs, outputs]. What networks read comes in parts [B, ...], to be put side by side.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "functions.hpp"
#include "mlp.hpp"
#include "values.hpp"

namespace tigr::sac {

using at::Tensor;
using at::TensorList;
using mlp::Tensors;

class Network {
 public:
  Network(TensorList parts, bool normal) {
    const size_t pairs = parts.size() / 2, layers = normal ? (pairs + 1) / 2 : pairs;
    for (size_t k = 0; k < pairs; ++k) {
      (k < layers ? weights_ : scales_).push_back(parts[2 * k]);
      (k < layers ? biases_ : shifts_).push_back(parts[2 * k + 1]);
      if (k >= layers) read(parts[2 * k], biases_[k - layers].numel()), read(parts[2 * k + 1], parts[2 * k].numel());
    }
  }
  Network(const Network&) = delete;

  Tensor last(const Tensor& x) const { return mlp::last(x, weights_, biases_, norms()); }

  // Returns what each layer gives, for gradients.
  Tensors forward(const Tensor& x, mlp::Normalised* normalised) const {
    return mlp::forward(x, weights_, biases_, norms(), normalised);
  }

  // Returns the gradient of what the network read, from that of what it gave.
  Tensor of_input(const Tensor& outer, const Tensor& x, TensorList values, const mlp::Normalised& normalised) const {
    return mlp::backward(outer, x, hidden(values), weights_, biases_, true, false, norms(), normalised)[0];
  }

  // Returns the gradients of its parts.
  Tensors of_parts(const Tensor& outer, const Tensor& x, TensorList values, const mlp::Normalised& normalised) const {
    const Tensors found =
        mlp::backward(outer, x, hidden(values), weights_, biases_, false, true, norms(), normalised);
    Tensors result;
    const auto add_pairs = [&](size_t from, size_t count) {
      for (size_t k = from; k < from + count; ++k) result.push_back(found[k]), result.push_back(found[k + count]);
    };
    add_pairs(0, weights_.size());
    add_pairs(2 * weights_.size(), scales_.size());
    return result;
  }

 private:
  Tensors weights_, biases_, scales_, shifts_;

  mlp::Norms norms() const { return {scales_, shifts_}; }
  static TensorList hidden(TensorList values) { return values.slice(0, values.size() - 1); }
};

// PyTorch's, on CPUs, as adam.py calls it. Its state is means of gradients and of their squares, and numbers of steps.
struct Adam {
  double rate, beta1, beta2, epsilon;

  void descend(TensorList parts, TensorList gradients, TensorList state) const {
    const size_t count = parts.size();
    TORCH_CHECK(gradients.size() == count && state.size() == 3 * count, "found ", gradients.size(), " gradients and ",
                state.size(), " tensors of Adam's for ", count, " parts");
    const TensorList steps = state.slice(2 * count);
    for (const Tensor& step : steps) ++*step.mutable_data_ptr<float>();
    at::_fused_adam_(parts, gradients, state.slice(0, count), state.slice(count, count), {}, steps, rate, beta1, beta2,
                     0.0, epsilon, false, false);
  }
};

// Puts parts [B, ...] side by side, for `networks` that read the same: [networks, B, ...].
inline Tensor inputs_of(TensorList parts, int64_t networks) {
  const Tensor joined = at::cat(parts, 1);
  return joined.unsqueeze(0).expand({networks, joined.size(0), joined.size(1)});
}

struct Range {
  float least, largest;

  float of(float log_std) const { return std::min(std::max(log_std, least), largest); }
};

// Actions [B, A] drawn of what the actor says, and the logarithms of their densities [B].
struct Drawn {
  Tensor action, log_prob;

  // For an actor's output [B, 2 A], means and logarithms of standard deviations, and noise [B, A].
  Drawn(const float* output, const Tensor& noise, Range range)
      : action(at::empty_like(noise)), log_prob(at::empty({noise.size(0)}, noise.options())) {
    const int64_t B = noise.size(0), A = noise.size(1);
    const float* const n = read(noise, B * A);
    float *const to = action.mutable_data_ptr<float>(), *const sums = log_prob.mutable_data_ptr<float>();
    std::vector<float> log_stds(B * A), densities(B * A);
    for (int64_t i = 0; i < B; ++i) {
      for (int64_t a = 0; a < A; ++a) {
        to[i * A + a] = output[2 * i * A + a];
        log_stds[i * A + a] = range.of(output[2 * i * A + A + a]);
      }
    }
    constexpr float log_2 = std::numbers::ln2_v<float>;
    const float log_root = 0.5f * std::log(2.0f * std::numbers::pi_v<float>);
#pragma omp simd
    for (int64_t k = 0; k < B * A; ++k) {
      const float raw = to[k] + exponential(log_stds[k]) * n[k];
      to[k] = hyperbolic_tangent(raw);
      densities[k] = -0.5f * n[k] * n[k] - log_stds[k] - log_root - 2.0f * (log_2 - raw - softplus(-2.0f * raw));
    }
    for (int64_t i = 0; i < B; ++i) {
      sums[i] = 0.0f;
      for (int64_t a = 0; a < A; ++a) sums[i] += densities[i * A + a];
    }
  }
};

// As torch.min, NaN stays NaN.
inline float smaller(float a, float b) { return a <= b || std::isnan(a) ? a : b; }

inline float mean_of(const float* values, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  return sum / count;
}

// Returns the critics' loss for their values [2, B] and targets [B], and writes its gradient.
inline float critic_loss(const float* value, const float* target, int64_t B, float* of_value) {
  double loss = 0.0;
  for (int64_t i = 0; i < B; ++i) {
    for (const int64_t k : {i, B + i}) {
      const float error = value[k] - target[i];
      loss += error * error;
      of_value[k] = 2.0f / B * error;
    }
  }
  return loss / B;
}

// Returns the mean of the smaller of values [2, B], and writes the gradient of its opposite.
inline float smaller_value(const float* value, int64_t B, float* of_value) {
  const float one = 1.0f / B;
  double sum = 0.0;
  for (int64_t i = 0; i < B; ++i) {
    const float a = value[i], b = value[B + i];
    of_value[i] = a < b ? -one : a > b ? 0.0f : -0.5f * one;  // as torch.amin
    of_value[B + i] = -one - of_value[i];
    sum += smaller(a, b);
  }
  return sum / B;
}

// B transitions, as TransitionBatch has them.
struct Batch {
  const Tensor &obs, &latent, &critic_latent, &action;
  const Tensor reward, terminated;
  const Tensor &next_obs, &next_latent, &next_critic_latent;

  explicit Batch(TensorList parts)
      : obs(parts.at(0)), latent(parts.at(1)), critic_latent(parts.at(2)), action(parts.at(3)),
        reward(parts.at(4).contiguous()), terminated(parts.at(5).contiguous()), next_obs(parts.at(6)),
        next_latent(parts.at(7)), next_critic_latent(parts.at(8)) {}
};

// Returns the actor's gradient [1, B, 2 A] from that of the critics' inputs [2, B, ...], of which actions are the last.
inline Tensor of_output(const Tensor& of_seen, const Drawn& now, const float* output, const Tensor& noise, Range range,
                        float temperature) {
  const int64_t B = noise.size(0), A = noise.size(1), wide = of_seen.size(2);
  const Tensor result = at::empty({1, B, 2 * A}, noise.options());
  const float *first = read(of_seen, 2 * B * wide) + wide - A, *second = first + B * wide, *n = read(noise, B * A);
  const float *action = read(now.action, B * A), one = 1.0f / B;
  float* to = result.mutable_data_ptr<float>();
  for (int64_t i = 0; i < B; ++i, first += wide, second += wide, action += A, output += 2 * A, n += A, to += 2 * A) {
#pragma omp simd
    for (int64_t k = 0; k < A; ++k) {
      const float log_std = range.of(output[A + k]), of_action = first[k] + second[k];
      // d log_prob / d raw = 2 tanh raw, d log_prob / d log_std = -1 beside that
      const float of_raw = of_action * (1.0f - action[k] * action[k]) + one * temperature * 2.0f * action[k];
      to[k] = of_raw;
      to[A + k] = log_std == output[A + k] ? of_raw * exponential(log_std) * n[k] - one * temperature : 0.0f;
    }
  }
  return result;
}

// Returns what imitation of what a teacher would do [B, A] adds to the actor's loss, and adds to the gradient of its
// output [1, B, 2 A].
inline float imitation(const float* shown, float weight, const float* output, int64_t B, int64_t A,
                       const Tensor& gradient) {
  float* to = gradient.mutable_data_ptr<float>();
  double loss = 0.0;
  for (int64_t i = 0; i < B; ++i, shown += A, output += 2 * A, to += 2 * A) {
    for (int64_t k = 0; k < A; ++k) {
      const float likely = hyperbolic_tangent(output[k]), off = likely - shown[k];
      loss += weight * off * off;
      to[k] += weight / B * 2.0f * off * (1.0f - likely * likely);
    }
  }
  return loss / B;
}

// Does a step of the critics and, where there is a second `noise` [B, A], of actor and temperature, and moves the
// targets. Returns the critics' loss and mean value; then the actor's loss, entropy and temperature. `rates` are those
// of critics, actor and temperature, `adam` beta1, beta2 and epsilon; a temperature that is not learned has no state.
inline std::vector<double> step(TensorList of_batch, const std::optional<Tensor>& taught, const Tensor& teacher_weight,
                                TensorList noise, double discount, double target_rate,
                                at::ArrayRef<double> log_std_range, at::ArrayRef<double> rates,
                                at::ArrayRef<double> adam, TensorList critic_parts, TensorList critic_state,
                                TensorList target_parts, bool normal, TensorList actor_parts, TensorList actor_state,
                                const Tensor& log_temperature, TensorList temperature_state, double target_entropy,
                                const Tensor& least_log_temperature) {
  const at::AutoDispatchBelowADInplaceOrView without_gradients_of_pytorch;
  const auto with_rate = [&](size_t k) { return Adam{rates.at(k), adam.at(0), adam.at(1), adam.at(2)}; };
  const Batch batch(of_batch);
  const Network actor(actor_parts, false), critics(critic_parts, normal), targets(target_parts, normal);
  const Range range{static_cast<float>(log_std_range.at(0)), static_cast<float>(log_std_range.at(1))};
  const int64_t B = batch.action.size(0), A = batch.action.size(1);
  const bool acts = noise.size() > 1;
  const float *const reward = read(batch.reward, B), *const terminated = read(batch.terminated, B);
  const float* const shown = taught ? read(*taught, B * A) : nullptr;
  const float temperature = std::exp(log_temperature.item<float>()), share = discount;
  std::vector<double> told(acts ? 5 : 2);

  // The actor for the next states and, as it does not change before, for the present ones.
  Tensor states = inputs_of({batch.next_obs, batch.next_latent}, 1);
  if (acts) states = at::cat({states, inputs_of({batch.obs, batch.latent}, 1)}, 1);
  const Tensors said = actor.forward(states, nullptr);
  const float* const output = read(said.back(), (acts ? 2 : 1) * B * 2 * A);

  const Drawn next(output, noise.at(0), range);
  const Tensor next_value = targets.last(inputs_of({batch.next_obs, batch.next_critic_latent, next.action}, 2));
  const float *const after = read(next_value, 2 * B), *const log_prob = read(next.log_prob, B);
  std::vector<float> target(B);
  for (int64_t i = 0; i < B; ++i) {
    const float value = smaller(after[i], after[B + i]) - temperature * log_prob[i];
    target[i] = reward[i] + share * (1.0f - terminated[i]) * value;
  }
  {
    mlp::Normalised normalised;
    const Tensor seen = inputs_of({batch.obs, batch.critic_latent, batch.action}, 2);
    const Tensors values = critics.forward(seen, &normalised);
    const float* const value = read(values.back(), 2 * B);
    const Tensor of_value = at::empty_like(values.back());
    told[0] = critic_loss(value, target.data(), B, of_value.mutable_data_ptr<float>());
    told[1] = mean_of(value, 2 * B);
    with_rate(0).descend(critic_parts, critics.of_parts(of_value, seen, values, normalised), critic_state);
  }
  if (acts) {
    mlp::Normalised normalised;
    const float* const present = output + B * 2 * A;
    const Drawn now(present, noise[1], range);
    const Tensor seen = inputs_of({batch.obs, batch.critic_latent, now.action}, 2);
    const Tensors values = critics.forward(seen, &normalised);
    const Tensor of_value = at::empty_like(values.back());
    const float value = smaller_value(read(values.back(), 2 * B), B, of_value.mutable_data_ptr<float>());
    const Tensor of_seen = critics.of_input(of_value, seen, values, normalised);
    const Tensor of_present = of_output(of_seen, now, present, noise[1], range, temperature);
    const float entropy = -mean_of(read(now.log_prob, B), B);
    told[2] = -temperature * entropy - value;
    if (shown) told[2] += imitation(shown, teacher_weight.item<float>(), present, B, A, of_present);
    Tensors present_said;
    for (const Tensor& layer : said) present_said.push_back(layer.narrow(1, B, B));
    const Tensor present_states = states.narrow(1, B, B);
    with_rate(1).descend(actor_parts, actor.of_parts(of_present, present_states, present_said, {}), actor_state);
    if (!temperature_state.empty()) {
      // d / d log of the temperature's loss, scale-free
      const Tensor gradient = at::full_like(log_temperature, entropy - static_cast<float>(target_entropy));
      with_rate(2).descend(log_temperature, gradient, temperature_state);
      log_temperature.clamp_min_(least_log_temperature);
    }
    told[3] = entropy, told[4] = std::exp(log_temperature.item<float>());
  }
  at::_foreach_lerp_(target_parts, critic_parts, target_rate);
  return told;
}

}  // namespace tigr::sac
