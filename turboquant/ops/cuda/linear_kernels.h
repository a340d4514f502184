// SPDX-License-Identifier: Apache-2.0
// Launches of the weight kernels. Device addresses throughout; no allocation, no waiting: fit for
// CUDA graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "turboquant/base/matrix_view.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq::cuda {

// A packed weight on the device, in the bytes of PackedPanels.
struct DeviceWeight {
  const uint8_t* panels = nullptr;
  int layout = 0;  // index into kPackedLayouts
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t panel_bytes = 0;
};

// Products of few tokens stream the weights once for all of them.
inline constexpr int kFewTokens = 8;

// Up to kFewTokens tokens at 8 bits, one record per group of 32 columns, with `places` for tokens:
//   int8 codes [places][4][2][4 columns]: columns 4t.. and 16 + 4t.. beside each other, as a lane
//   of a product takes them
//   f32 scale and scale * sum of codes [places][2]
// behind all records, per group:
//   f32 scale * sum of codes [2 halves of 16][places]
// with the codes of the CPU's products (x = scale * code, scale = largest magnitude / 127).
// No more places than it takes: all blocks of a product read records at once, and spread over eight
// times as many lines those of one token made them wait for each other in the caches.
constexpr int TokenPlaces(int64_t tokens) {
  return tokens <= 2 ? static_cast<int>(tokens) : tokens <= 4 ? 4 : kFewTokens;
}
constexpr int TokenScales(int places) { return places * kGroupColumns; }
constexpr int TokenRecordBytes(int places) { return TokenScales(places) + places * 8; }
constexpr int HalfSumBytes(int places) { return places * 8; }
inline constexpr int kTokenScales = TokenScales(kFewTokens);
inline constexpr int kTokenRecordBytes = TokenRecordBytes(kFewTokens);
inline constexpr int kHalfSumBytes = HalfSumBytes(kFewTokens);
constexpr int64_t TokenRecordsBytes(int64_t cols) {
  return cols / kGroupColumns * (kTokenRecordBytes + kHalfSumBytes);
}
void LaunchQuantizeTokens(MatrixView<const float> x, uint8_t* records, cudaStream_t stream);

// Tokens in the form that a fast product reads, beside their f32 values or (bf16) in place of them.
// At most one is given.
struct ProductTokens {
  uint8_t* records = nullptr;  // tokens <= kFewTokens, columns a multiple of 32
  uint16_t* bf16 = nullptr;    // [tokens][columns], rounded to nearest even
};

struct MatVecCall {
  DeviceWeight weight;
  MatrixView<const float> x;         // tokens <= kFewTokens; f32 products
  const uint8_t* records = nullptr;  // of x: 8-bit products
  bool quantises = false;            // 8-bit ones without records, where QuantisesFloats; else f32
  const float* bias = nullptr;       // [rows] or null
  MatrixView<float> out;
  bool accumulate = false;  // out += instead of out =
};
// Whether an 8-bit product of x had better do without records.
bool QuantisesFloats(const DeviceWeight& weight, MatrixView<const float> x);
// One launch. Float layouts have f32 products only.
void LaunchMatVec(const MatVecCall& call, cudaStream_t stream);

// Rows [first_row, first_row + rows) of a weight, row-major [rows][cols]; first_row a multiple of
// 16.
void LaunchDequantizeBf16(const DeviceWeight& weight, int64_t first_row, int64_t rows,
                          uint16_t* out, cudaStream_t stream);
void LaunchDequantizeF32(const DeviceWeight& weight, int64_t first_row, int64_t rows, float* out,
                         cudaStream_t stream);

// out[t] = row tokens[t] of the table, times scale. tokens [out.rows] on the device.
void LaunchEmbed(const DeviceWeight& table, const int32_t* tokens, float scale,
                 MatrixView<float> out, cudaStream_t stream);

// Panels of ops/random_panels.h. bytes: a multiple of 4.
void LaunchRandomPanels(uint8_t* panels, uint64_t bytes, uint64_t seed, uint32_t scale,
                        cudaStream_t stream);

}  // namespace tq::cuda
