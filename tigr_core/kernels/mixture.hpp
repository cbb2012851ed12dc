// SPDX-License-Identifier: Apache-2.0
// What the loss of inference reads of Gaussian mixtures and a draw of each, as mixture.py states it, with gradients: see
// compiled_mixture.py.
//
// Sizes: N rows, K components, L dimensions. A row of the head's output has for each component L means, L numbers whose
// softplus are the standard deviations, and a logit. As many rows are done at once as fit a vector, one in each lane.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "functions.hpp"
#include "products.hpp"
#include "values.hpp"

namespace tigr::mixture {

using at::Tensor;

constexpr float LEAST_VARIANCE = 1e-30f;     // as kl_to_prior's
constexpr float SEPARATION_EPSILON = 1e-8f;  // as mixture.py's

// Numbers of LANES rows, each a vector.
class Columns {
 public:
  explicit Columns(int64_t size) : floats_(size * LANES) {}

  Vector& operator[](int64_t k) { return reinterpret_cast<Vector*>(floats_.data())[k]; }
  const Vector& operator[](int64_t k) const { return reinterpret_cast<const Vector*>(floats_.data())[k]; }

  // Reads `size` numbers of each of so many rows; the last one is in all lanes that are left.
  void load(const float* from, int64_t size, int64_t rows) {
    for (int64_t c = 0; c < LANES; ++c) {
      const float* const row = from + std::min(c, rows - 1) * size;
      for (int64_t k = 0; k < size; ++k) floats_[k * LANES + c] = row[k];
    }
  }

  void store(float* to, int64_t size, int64_t rows) const {
    for (int64_t c = 0; c < rows; ++c) {
      for (int64_t k = 0; k < size; ++k) to[c * size + k] = floats_[k * LANES + c];
    }
  }

  // Writes what a function makes of those of another.
  template <typename Function>
  void map(const Columns& from, const Function& function) {
#pragma omp simd
    for (size_t n = 0; n < floats_.size(); ++n) floats_[n] = function(from.floats_[n]);
  }

 private:
  std::vector<float> floats_;
};

// Mixtures of LANES rows, and the noise that draws of them.
struct Rows {
  const int64_t K, L;
  Columns output, noise, mean, pre_std, std, spread, weight, exponents;  // by component, and dimension

  Rows(int64_t components, int64_t dimensions)
      : K(components), L(dimensions), output(K * (2 * L + 1)), noise(K * L), mean(K * L), pre_std(K * L), std(K * L),
        spread(K), weight(K), exponents(K) {}

  int64_t size() const { return K * (2 * L + 1); }
  const Vector& logit(int64_t k) const { return output[k * (2 * L + 1) + 2 * L]; }
  Vector drawn(int64_t n) const { return mean[n] + std[n] * noise[n]; }

  void load(const float* of_output, const float* of_noise, int64_t rows) {
    output.load(of_output, size(), rows);
    noise.load(of_noise, K * L, rows);
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t l = 0; l < L; ++l) {
        mean[k * L + l] = output[k * (2 * L + 1) + l];
        pre_std[k * L + l] = output[k * (2 * L + 1) + L + l];
      }
    }
    std.map(pre_std, [](float x) { return softplus(x); });
    for (int64_t k = 0; k < K; ++k) {
      spread[k] = Vector{};
      for (int64_t l = 0; l < L; ++l) spread[k] += std[k * L + l];
    }
    Vector most = logit(0), sum{};
    for (int64_t k = 1; k < K; ++k) most = most < logit(k) ? logit(k) : most;
    for (int64_t k = 0; k < K; ++k) exponents[k] = logit(k) - most;
    weight.map(exponents, [](float x) { return exponential(x); });
    for (int64_t k = 0; k < K; ++k) sum += weight[k];
    for (int64_t k = 0; k < K; ++k) weight[k] /= sum;
  }

  // Calls work(i, j, d) for each pair of components, d their squared distance and what keeps it from zero.
  template <typename Work>
  void for_each_pair(const Work& work) const {
    for (int64_t i = 0; i < K; ++i) {
      for (int64_t j = i + 1; j < K; ++j) {
        Vector distance{};
        for (int64_t l = 0; l < L; ++l) {
          const Vector apart = mean[i * L + l] - mean[j * L + l];
          distance += apart * apart;
        }
        work(i, j, distance + SEPARATION_EPSILON);
      }
    }
  }
};

// Calls work(rows, first, count) with every `count` rows from the first on, for which `rows` have been loaded.
template <typename Work>
void for_each_rows(const Tensor& output, const Tensor& noise, const Work& work) {
  TORCH_CHECK(output.dim() == 2 && noise.dim() == 3 && output.size(0) == noise.size(0),
              "found an output of shape ", output.sizes(), " and noise of ", noise.sizes());
  const int64_t N = noise.size(0), K = noise.size(1), L = noise.size(2), size = K * (2 * L + 1);
  const float *const of_output = read(output, N * size), *const of_noise = read(noise, N * K * L);
  at::parallel_for(0, (N + LANES - 1) / LANES, 8, [&](int64_t from, int64_t to) {
    Rows rows(K, L);
    for (int64_t first = from * LANES; first < std::min(to * LANES, N); first += LANES) {
      const int64_t count = std::min(LANES, N - first);
      rows.load(of_output + first * size, of_noise + first * K * L, count);
      work(rows, first, count);
    }
  });
}

// Returns logits [N, K], z [N, L], KL to the prior [N] and separation [N], of a head's output [N, K (2 L + 1)] and noise
// [N, K, L].
inline std::tuple<Tensor, Tensor, Tensor, Tensor> forward(const Tensor& output, const Tensor& noise) {
  const int64_t N = noise.size(0), K = noise.size(1), L = noise.size(2);
  const Tensor logits = at::empty({N, K}, output.options()), latent = at::empty({N, L}, output.options());
  const Tensor kl = at::empty({N}, output.options()), separation = at::empty({N}, output.options());
  for_each_rows(output, noise, [&](const Rows& rows, int64_t first, int64_t count) {
    Columns logit(K), z(L), variance(K * L), log_variance(K * L), sums(2);
    Vector &of_kl = sums[0], &of_separation = sums[1];
    for (int64_t k = 0; k < K; ++k) {
      logit[k] = rows.logit(k);
      for (int64_t l = 0; l < L; ++l) z[l] += rows.weight[k] * rows.drawn(k * L + l);
    }
    for (int64_t k = 0; k < K * L; ++k) variance[k] = rows.std[k] * rows.std[k];
    log_variance.map(variance, [](float x) { return logarithm(x > LEAST_VARIANCE ? x : LEAST_VARIANCE); });
    for (int64_t k = 0; k < K * L; ++k) {
      of_kl += 0.5f * (variance[k] + rows.mean[k] * rows.mean[k] - 1.0f - log_variance[k]);
    }
    rows.for_each_pair([&](int64_t i, int64_t j, const Vector& distance) {
      of_separation += (rows.spread[i] + rows.spread[j]) / distance;
    });
    logit.store(logits.mutable_data_ptr<float>() + first * K, K, count);
    z.store(latent.mutable_data_ptr<float>() + first * L, L, count);
    std::copy_n(reinterpret_cast<const float*>(&of_kl), count, kl.mutable_data_ptr<float>() + first);
    std::copy_n(reinterpret_cast<const float*>(&of_separation), count, separation.mutable_data_ptr<float>() + first);
  });
  return {logits, latent, kl, separation};
}

// Returns the gradient of the output, from those of what `forward` returns.
inline Tensor backward(const Tensor& of_logits, const Tensor& of_latent, const Tensor& of_kl,
                       const Tensor& of_separation, const Tensor& output, const Tensor& noise) {
  const int64_t N = noise.size(0), K = noise.size(1), L = noise.size(2), size = K * (2 * L + 1);
  const float *const given_logits = read(of_logits, N * K), *const given_latent = read(of_latent, N * L);
  const float *const given_kl = read(of_kl, N), *const given_separation = read(of_separation, N);
  const Tensor result = at::empty_like(output);
  for_each_rows(output, noise, [&](const Rows& rows, int64_t first, int64_t count) {
    Columns logit(K), z(L), terms(2), of_mean(K * L), of_std(K * L), of_spread(K), of_weight(K), slope(K * L);
    Columns gradient(size);
    logit.load(given_logits + first * K, K, count);
    z.load(given_latent + first * L, L, count);
    const auto load_one = [=](Vector& to, const float* from) {
      std::copy_n(from + first, count, reinterpret_cast<float*>(&to));
    };
    load_one(terms[0], given_kl), load_one(terms[1], given_separation);
    slope.map(rows.pre_std, [](float x) { return sigmoid(x); });
    Vector mean_weight{};
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t l = 0, n = k * L; l < L; ++l, ++n) {
        const Vector of_drawn = z[l] * rows.weight[k], std = rows.std[n], variance = std * std;
        of_weight[k] += z[l] * rows.drawn(n);
        of_mean[n] = of_drawn + terms[0] * rows.mean[n];
        of_std[n] = of_drawn * rows.noise[n] + terms[0] * (std - (variance < LEAST_VARIANCE ? Vector{} : 1.0f / std));
      }
      mean_weight += rows.weight[k] * of_weight[k];
    }
    rows.for_each_pair([&](int64_t i, int64_t j, const Vector& distance) {
      const Vector share = terms[1] / distance;
      const Vector along = -2.0f * share * (rows.spread[i] + rows.spread[j]) / distance;
      of_spread[i] += share, of_spread[j] += share;
      for (int64_t l = 0; l < L; ++l) {
        const Vector pull = along * (rows.mean[i * L + l] - rows.mean[j * L + l]);
        of_mean[i * L + l] += pull, of_mean[j * L + l] -= pull;
      }
    });
    for (int64_t k = 0; k < K; ++k) {
      const int64_t at = k * (2 * L + 1);
      for (int64_t l = 0; l < L; ++l) {
        gradient[at + l] = of_mean[k * L + l];
        gradient[at + L + l] = (of_std[k * L + l] + of_spread[k]) * slope[k * L + l];
      }
      gradient[at + 2 * L] = logit[k] + rows.weight[k] * (of_weight[k] - mean_weight);
    }
    gradient.store(result.mutable_data_ptr<float>() + first * size, size, count);
  });
  return result;
}

}  // namespace tigr::mixture
