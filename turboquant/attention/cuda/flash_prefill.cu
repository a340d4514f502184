// SPDX-License-Identifier: Apache-2.0
// A block takes 64 rows (query token, head of the group) of one KV head; each of its four warps has
// 16 rows, and all share the tiles of keys and values, which are copied two tiles ahead.
#include <cuda_fp16.h>

#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/attention/cuda/tensor_ops.cuh"

namespace tq::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kRows = 16 * kWarps;
constexpr int kPad = 8;  // halves at the end of a row: no two rows of 8 start in the same bank

template <int kD>
struct Shape {
  static constexpr int kKeys = kD >= 256 ? 32 : 64;
  static constexpr int kColumns = kD > 256 ? 256 : kD;  // of values, per block
  static constexpr int kParts = kD / kColumns;
  static constexpr int kKStride = kD + kPad, kVStride = kColumns + kPad;
  static constexpr int kSharedBytes =
      2 * (kRows * kKStride + 2 * kKeys * kKStride + 2 * kKeys * kVStride);
};

template <int kKeys, int kCols, int kStride>
__device__ __forceinline__ void CopyTile(__half* tile, const uint16_t* from, int64_t row_stride,
                                         int valid) {
  constexpr int kPieces = kCols / 8;
  for (int i = threadIdx.x; i < kKeys * kPieces; i += 32 * kWarps) {
    const int key = i / kPieces, piece = i % kPieces;
    const bool there = key < valid;
    CopyAsync(tile + key * kStride + 8 * piece, from + (there ? key : 0) * row_stride + 8 * piece,
              there);
  }
}

template <int kD>
__global__ void __launch_bounds__(32 * kWarps) FlashPrefill(const FlashPrefillArgs args) {
  using S = Shape<kD>;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* q_tile = reinterpret_cast<__half*>(shared);
  __half* k_tiles = q_tile + kRows * S::kKStride;          // [2][keys][stride]
  __half* v_tiles = k_tiles + 2 * S::kKeys * S::kKStride;  // [2][keys][stride]

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int group = args.q_heads / args.kv_heads, kv_head = blockIdx.y, part = blockIdx.z;
  const int64_t all_rows = static_cast<int64_t>(args.tokens) * group;
  // Long rows first: the blocks that see most keys start early.
  const int64_t first_row = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;
  const int64_t last_row = min(first_row + kRows, all_rows) - 1;

  // Keys that any row of the block sees, as indices of this range.
  const int64_t first_query = args.first_position + first_row / group;
  const int64_t last_query = args.first_position + last_row / group;
  int64_t lowest = 0;
  if (args.sliding_window > 0)
    lowest = max(first_query - args.sliding_window + 1 - args.first_key, int64_t{0});
  const int begin =
      static_cast<int>(min(lowest, static_cast<int64_t>(args.keys))) / S::kKeys * S::kKeys;
  const int end = static_cast<int>(
      max(int64_t{0}, min(static_cast<int64_t>(args.keys), last_query - args.first_key + 1)));

  const int64_t kv_stride = static_cast<int64_t>(args.kv_heads) * kD;
  const uint16_t* k = args.k + static_cast<int64_t>(kv_head) * kD;
  const uint16_t* v = args.v + static_cast<int64_t>(kv_head) * kD + part * S::kColumns;
  const auto copy = [&](int key, int stage) {
    CopyTile<S::kKeys, kD, S::kKStride>(k_tiles + stage * S::kKeys * S::kKStride,
                                        k + key * kv_stride, kv_stride, end - key);
    CopyTile<S::kKeys, S::kColumns, S::kVStride>(v_tiles + stage * S::kKeys * S::kVStride,
                                                 v + key * kv_stride, kv_stride, end - key);
  };
  if (begin < end) copy(begin, 0);
  CommitCopies();

  const float to_log2 = args.scale * 1.4426950408889634f;
  for (int i = threadIdx.x; i < kRows * (kD / 2); i += 32 * kWarps) {
    const int row = i / (kD / 2), pair = i % (kD / 2);
    const int64_t r = first_row + row;
    float2 x = make_float2(0.0f, 0.0f);
    if (r < all_rows) {
      const float* from = args.q + r / group * args.q_stride +
                          (static_cast<int64_t>(kv_head) * group + r % group) * kD + 2 * pair;
      x = make_float2(from[0] * to_log2, from[1] * to_log2);
    }
    *reinterpret_cast<__half2*>(q_tile + row * S::kKStride + 2 * pair) =
        __floats2half2_rn(x.x, x.y);
  }

  // This lane's rows: g and g + 8 of the warp's 16.
  int64_t rows[2], positions[2];
  float maximum[2], sum[2];
  constexpr int kOutTiles = S::kColumns / 8;
  float out[kOutTiles][4];
#pragma unroll
  for (int i = 0; i < kOutTiles; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
  const auto out_row = [&](int64_t r) {
    return args.out + r / group * args.out_stride +
           (static_cast<int64_t>(kv_head) * group + r % group) * kD + part * S::kColumns;
  };
  const auto state_of = [&](int64_t r) {
    const int64_t head = static_cast<int64_t>(kv_head) * group + r % group;
    return args.state +
           2 * ((part * static_cast<int64_t>(args.tokens) + r / group) * args.q_heads + head);
  };
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    rows[i] = first_row + warp * 16 + g + 8 * i;
    positions[i] = rows[i] < all_rows ? args.first_position + rows[i] / group : -1;
    maximum[i] = -INFINITY;
    sum[i] = 0.0f;
    if (!args.begins && rows[i] < all_rows) {
      maximum[i] = state_of(rows[i])[0];
      sum[i] = t == 0 ? state_of(rows[i])[1] : 0.0f;  // shares of four lanes, added at the end
      const float* from = out_row(rows[i]);
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        out[n][2 * i] = from[8 * n + 2 * t];
        out[n][2 * i + 1] = from[8 * n + 2 * t + 1];
      }
    }
  }

  int stage = 0;
  for (int key = begin; key < end; key += S::kKeys, stage ^= 1) {
    if (key + S::kKeys < end) copy(key + S::kKeys, stage ^ 1);
    CommitCopies();
    WaitCopies<1>();
    __syncthreads();
    const __half* k_tile = k_tiles + stage * S::kKeys * S::kKStride;
    const __half* v_tile = v_tiles + stage * S::kKeys * S::kVStride;

    float scores[S::kKeys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < kD; d += 16) {
      uint32_t a[4];
      LoadMatrices(a, q_tile + (warp * 16 + lane % 16) * S::kKStride + d + lane / 16 * 8);
#pragma unroll
      for (int n = 0; n < S::kKeys / 16; ++n) {
        uint32_t b[4];
        LoadMatrices(
            b, k_tile + (16 * n + lane % 8 + lane / 16 * 8) * S::kKStride + d + lane / 8 % 2 * 8);
        Mma(scores[2 * n], a, b[0], b[1]);
        Mma(scores[2 * n + 1], a, b[2], b[3]);
      }
    }

#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t last = positions[i] - args.first_key;  // keys up to this index are seen
      const int64_t first = args.sliding_window > 0 ? last - args.sliding_window + 1 : 0;
      float highest = -INFINITY;
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int index = key + 8 * n + 2 * t + j;
          float& score = scores[n][2 * i + j];
          if (index > last || index < first || index >= end) score = -INFINITY;
          highest = fmaxf(highest, score);
        }
      }
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
      const float before = maximum[i], now = fmaxf(before, highest);
      const float base = now == -INFINITY ? 0.0f : now;  // a row that has seen nothing yet
      const float shrink = exp2f(before - base);
      maximum[i] = now;
      sum[i] *= shrink;
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[n][2 * i + j];
          score = exp2f(score - base);
          sum[i] += score;
        }
      }
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        out[n][2 * i] *= shrink;
        out[n][2 * i + 1] *= shrink;
      }
    }

#pragma unroll
    for (int n = 0; n < S::kKeys / 16; ++n) {
      const uint32_t a[4] = {PackHalves(scores[2 * n][0], scores[2 * n][1]),
                             PackHalves(scores[2 * n][2], scores[2 * n][3]),
                             PackHalves(scores[2 * n + 1][0], scores[2 * n + 1][1]),
                             PackHalves(scores[2 * n + 1][2], scores[2 * n + 1][3])};
#pragma unroll
      for (int d = 0; d < S::kColumns / 16; ++d) {
        uint32_t b[4];
        LoadMatricesTransposed(
            b, v_tile + (16 * n + lane % 16) * S::kVStride + 16 * d + lane / 16 * 8);
        Mma(out[2 * d], a, b[0], b[1]);
        Mma(out[2 * d + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();  // the stage is filled again in the next round
  }
  WaitCopies<0>();

#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    if (rows[i] >= all_rows) continue;
    const float factor = !args.ends ? 1.0f : sum[i] > 0.0f ? 1.0f / sum[i] : 0.0f;
    float* to = out_row(rows[i]);
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) {
      to[8 * n + 2 * t] = out[n][2 * i] * factor;
      to[8 * n + 2 * t + 1] = out[n][2 * i + 1] * factor;
    }
    if (!args.ends && t == 0) {
      state_of(rows[i])[0] = maximum[i];
      state_of(rows[i])[1] = sum[i];
    }
  }
}

template <int kD>
void Launch(const FlashPrefillArgs& args, cudaStream_t stream) {
  using S = Shape<kD>;
  cudaFuncSetAttribute(FlashPrefill<kD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       S::kSharedBytes);
  const int64_t rows = static_cast<int64_t>(args.tokens) * (args.q_heads / args.kv_heads);
  const dim3 grid(static_cast<unsigned>((rows + kRows - 1) / kRows),
                  static_cast<unsigned>(args.kv_heads), S::kParts);
  FlashPrefill<kD><<<grid, 32 * kWarps, S::kSharedBytes, stream>>>(args);
}

__global__ void RowsToHalf(const float* x, int64_t stride, int64_t cols, __half* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < cols) out[blockIdx.y * cols + i] = __float2half_rn(x[blockIdx.y * stride + i]);
}

}  // namespace

bool LaunchFlashPrefill(const FlashPrefillArgs& args, cudaStream_t stream) {
  switch (args.head_dim) {
    case 64:
      Launch<64>(args, stream);
      return true;
    case 80:
      Launch<80>(args, stream);
      return true;
    case 96:
      Launch<96>(args, stream);
      return true;
    case 112:
      Launch<112>(args, stream);
      return true;
    case 128:
      Launch<128>(args, stream);
      return true;
    case 192:
      Launch<192>(args, stream);
      return true;
    case 256:
      Launch<256>(args, stream);
      return true;
    case 512:
      Launch<512>(args, stream);
      return true;
  }
  return false;
}

void LaunchRowsToHalf(const float* x, int64_t stride, int64_t rows, int64_t cols, uint16_t* out,
                      cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((cols + 255) / 256), static_cast<unsigned>(rows));
  RowsToHalf<<<grid, 256, 0, stream>>>(x, stride, cols, reinterpret_cast<__half*>(out));
}

}  // namespace tq::cuda
