// SPDX-License-Identifier: Apache-2.0
// Access to the values of tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tigr {

// Returns where so many values are.
inline const float* read(const at::Tensor& values, int64_t count) {
  TORCH_CHECK(values.is_contiguous() && values.scalar_type() == at::kFloat && values.numel() == count, "found ",
              values.scalar_type(), " of shape ", values.sizes(), ", expected ", count, " of float32 without gaps");
  return values.const_data_ptr<float>();
}

}  // namespace tigr
