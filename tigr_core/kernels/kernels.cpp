// SPDX-License-Identifier: Apache-2.0
// What Python calls: see kernels/__init__.py.

#if !defined(__GNUC__) || defined(__clang__)
#error "needs GCC, whose OpenMP is PyTorch's: the threads of another would not know of each other"
#endif

#include <torch/library.h>

#include "acting.hpp"
#include "gru.hpp"
#include "mixture.hpp"
#include "mlp.hpp"
#include "sac.hpp"

TORCH_LIBRARY(tigr, library) {
  library.def("packed", &tigr::acting::packed);
  library.def(
      "infer(Tensor[] parts, Tensor shift, Tensor scale, Tensor states, Tensor[] gru_weights, Tensor[] gru_biases, "
      "Tensor[] weights, Tensor[] biases, int num_components) -> (Tensor, Tensor, Tensor)");
  library.def(
      "act(Tensor[] parts, Tensor shift, Tensor scale, Generator? generator, Tensor[] weights, Tensor[] biases, "
      "float least_log_std, float largest_log_std) -> Tensor");
  library.def("gru_forward", &tigr::gru::forward);
  library.def("gru_backward", &tigr::gru::backward);
  library.def("gru_weight_gradients", &tigr::gru::weight_gradients);
  library.def("mixture_forward", &tigr::mixture::forward);
  library.def("mixture_backward", &tigr::mixture::backward);
  library.def("mlp_last(Tensor x, Tensor[] weights, Tensor[] biases) -> Tensor");
  library.def("mlp_forward(Tensor x, Tensor[] weights, Tensor[] biases) -> Tensor[]");
  library.def(
      "mlp_backward(Tensor outer, Tensor x, Tensor[] hidden, Tensor[] weights, Tensor[] biases, bool of_input) -> "
      "Tensor[]");
  library.def(
      "sac_step(Tensor[] batch, Tensor? taught, Tensor teacher_weight, Tensor[] noise, float discount, "
      "float target_rate, float[] log_std_range, float[] rates, float[] adam, Tensor(a!)[] critics, "
      "Tensor(b!)[] critic_state, Tensor(c!)[] targets, bool normal, Tensor(d!)[] actor, Tensor(e!)[] actor_state, "
      "Tensor(f!) log_temperature, Tensor(g!)[] temperature_state, float target_entropy, "
      "Tensor least_log_temperature) -> float[]");
}

TORCH_LIBRARY_IMPL(tigr, CPU, library) {
  library.impl("infer", &tigr::acting::infer);
  library.impl("act", &tigr::acting::act);
  library.impl("mlp_last", &tigr::mlp::plain_last);
  library.impl("mlp_forward", &tigr::mlp::plain_forward);
  library.impl("mlp_backward", &tigr::mlp::plain_backward);
  library.impl("sac_step", &tigr::sac::step);
}
