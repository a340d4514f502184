// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cpu/map_kernels.h"

namespace tq::scalar {

using Vector = float;
static constexpr int kWidth = 1;

static inline Vector Load(const float* p) { return *p; }
static inline void Store(float* p, Vector v) { *p = v; }
static inline Vector Broadcast(float x) { return x; }
static inline Vector MulAdd(Vector a, Vector b, Vector c) { return a * b + c; }

#include "turboquant/codec/cpu/map.inl"

}  // namespace tq::scalar
