// SPDX-License-Identifier: Apache-2.0
// The change of basis between a model and its cache, one per KV head and side: z = H A k for keys,
// q' = H A^-T q for queries, z = H v for values, o = H^T o' for outputs (DESIGN: "one basis per KV
// head"). H = signs then Hadamard, orthonormal.
#pragma once

#include <cstdint>
#include <span>

#include "turboquant/base/cpu_isa.h"

namespace tq {

enum class Side : uint8_t { kKey = 0, kValue = 1 };

// The committed signs (+1/-1) of a head dim and side; the seed and generator are in tools/.
std::span<const int8_t> RotationSigns(int head_dim, Side side);

// x <- H x (signs first, then the butterfly in the order that the format fixes, then 1/sqrt(D)); x
// [D], in place. Same bits on every ISA. head_dim must be in kHeadDims (else Error kUnsupported).
void Rotate(std::span<float> x, Side side);
// x <- H^T x.
void RotateBack(std::span<float> x, Side side);

// Many head vectors at once: x [count][D], contiguous rows `stride` floats apart.
void RotateRows(float* x, int64_t count, int64_t stride, int head_dim, Side side,
                Isa isa = ActiveIsa());
void RotateBackRows(float* x, int64_t count, int64_t stride, int head_dim, Side side,
                    Isa isa = ActiveIsa());

// Identity of H: head dims, orders, sign tables and butterfly order. Part of a page's description
// in files.
inline constexpr uint32_t kRotationId = 1;

// The change of basis of one KV head's keys and queries with a calibrated map A: matrices [D][D]
// whose row j is what the unit vector j becomes, rotation included: (H A)^T and (H A^-T)^T. Null
// pointers: A = identity, RotateRows does it.
struct KeyMap {
  const float* keys = nullptr;
  const float* queries = nullptr;
  const float* mean = nullptr;  // [D], stored basis: the reference vector of page 0; null: zero
};

// x_j matrix_j summed over j, in that order whatever `count` is, for `count` rows [D] in place,
// `stride` floats apart. Results of different ISAs may differ by rounding.
void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim,
             Isa isa = ActiveIsa());

}  // namespace tq
