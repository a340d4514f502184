// SPDX-License-Identifier: Apache-2.0
// x <- sum over j of x_j matrix_j (codec/transform.h, MapRows) on each instruction set; head_dim is
// a multiple of 16.
#pragma once

#include <cstdint>

namespace tq {

namespace scalar {
void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim) noexcept;
}
namespace avx2 {
void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim) noexcept;
}
namespace avx512 {
void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim) noexcept;
}

}  // namespace tq
