// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>

#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/cpu/page_codec_kernels.h"
#include "turboquant/codec/cpu/rows_scalar.h"
#include "turboquant/codec/cpu/tile_side.h"
#include "turboquant/codec/trellis_search.h"

namespace tq::avx2 {

// In this order, each uses what stands before it.
// clang-format off
#include "turboquant/codec/cpu/f16_avx2.inl"
#include "turboquant/codec/cpu/head_vector_simd.inl"
#include "turboquant/codec/cpu/unit_bits_simd.inl"
#include "turboquant/codec/cpu/tile_shuffle_simd.inl"
#include "turboquant/codec/cpu/rows_simd.inl"
#include "turboquant/codec/cpu/u16_avx2.inl"
#include "turboquant/codec/cpu/trellis_rings_simd.inl"
#include "turboquant/codec/cpu/page_codec_simd.inl"
// clang-format on

}  // namespace tq::avx2
