// SPDX-License-Identifier: Apache-2.0
// A block takes 128 or 64 rows (query token, head of the group) of one KV head; each of its four
// warps has two or one times 16 rows, and all share the tiles of keys and values, which are copied
// two tiles ahead.
#include <cuda_fp16.h>

#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/attention/cuda/tensor_ops.cuh"

namespace tq::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kPad = 8;  // halves at the end of a row: no two rows of 8 start in the same bank

template <int kD>
struct Shape {
  // What a warp loads of keys and values serves all its row tiles: two, where registers allow it.
  static constexpr int kTiles = kD <= 128 ? 2 : 1;
  static constexpr int kRows = 16 * kTiles * kWarps;
  static constexpr int kKeys = kD >= 256 ? 32 : kD == 128 ? 48 : 64;  // as registers allow
  static constexpr int kColumns = kD > 256 ? 256 : kD;                // of values, per block
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

__device__ __forceinline__ float FastExp2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

template <int kD>
__global__ void __launch_bounds__(32 * kWarps) FlashPrefill(const FlashPrefillArgs args) {
  using S = Shape<kD>;
  constexpr int kRows = S::kRows, kTiles = S::kTiles;
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

  // This lane's rows of tile m: i 2m and 2m + 1, g and g + 8 of the tile's 16.
  constexpr int kLaneRows = 2 * kTiles, kOutTiles = S::kColumns / 8;
  const auto row_of = [&](int i) {
    return first_row + (warp * kTiles + i / 2) * 16 + g + 8 * (i % 2);
  };
  float maximum[kLaneRows], sum[kLaneRows];
  float out[kTiles][kOutTiles][4];
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n)
      out[m][n][0] = out[m][n][1] = out[m][n][2] = out[m][n][3] = 0.0f;
  }
  const auto out_row = [&](int64_t r) {
    return args.out + r / group * args.out_stride +
           (static_cast<int64_t>(kv_head) * group + r % group) * kD + part * S::kColumns;
  };
  const auto state_of = [&](int64_t r) {
    const int64_t head = static_cast<int64_t>(kv_head) * group + r % group;
    return args.state +
           2 * ((part * static_cast<int64_t>(args.tokens) + r / group) * args.q_heads + head);
  };
  int last_key[kLaneRows];  // index of the last key that the row sees
#pragma unroll
  for (int i = 0; i < kLaneRows; ++i) {
    const int64_t row = row_of(i);
    last_key[i] =
        row < all_rows ? static_cast<int>(args.first_position + row / group - args.first_key) : -1;
    maximum[i] = -INFINITY;
    sum[i] = 0.0f;
    if (!args.begins && row < all_rows) {
      maximum[i] = state_of(row)[0];
      sum[i] = t == 0 ? state_of(row)[1] : 0.0f;  // shares of four lanes, added at the end
      const float* from = out_row(row);
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        out[i / 2][n][i % 2 * 2] = from[8 * n + 2 * t];
        out[i / 2][n][i % 2 * 2 + 1] = from[8 * n + 2 * t + 1];
      }
    }
  }
  // Tiles of keys below this are seen by every row whole.
  const int seen_by_all =
      args.sliding_window > 0 || last_row - first_row + 1 < kRows
          ? 0
          : static_cast<int>(min(first_query - args.first_key + 1, static_cast<int64_t>(end)));

  int stage = 0;
  for (int key = begin; key < end; key += S::kKeys, stage ^= 1) {
    if (key + S::kKeys < end) copy(key + S::kKeys, stage ^ 1);
    CommitCopies();
    WaitCopies<1>();
    __syncthreads();
    const __half* k_tile = k_tiles + stage * S::kKeys * S::kKStride;
    const __half* v_tile = v_tiles + stage * S::kKeys * S::kVStride;

    float scores[kTiles][S::kKeys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < kD; d += 16) {
      uint32_t a[kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        LoadMatrices(a[m], q_tile + ((warp * kTiles + m) * 16 + lane % 16) * S::kKStride + d +
                               lane / 16 * 8);
      }
#pragma unroll
      for (int n = 0; n < S::kKeys / 16; ++n) {
        uint32_t b[4];
        LoadMatrices(
            b, k_tile + (16 * n + lane % 8 + lane / 16 * 8) * S::kKStride + d + lane / 8 % 2 * 8);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          Mma(scores[m][2 * n], a[m], b[0], b[1]);
          Mma(scores[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
    if (key + S::kKeys > seen_by_all) {
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) {
        const int last = min(last_key[i], end - 1);
        const int first = args.sliding_window > 0 ? last_key[i] - args.sliding_window + 1 : 0;
#pragma unroll
        for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const int index = key + 8 * n + 2 * t + j;
            if (index > last || index < first) scores[i / 2][n][i % 2 * 2 + j] = -INFINITY;
          }
        }
      }
    }
    float shrink[kLaneRows];
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      float highest = -INFINITY;
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
        highest =
            fmaxf(highest, fmaxf(scores[i / 2][n][i % 2 * 2], scores[i / 2][n][i % 2 * 2 + 1]));
      }
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
      const float before = maximum[i], now = fmaxf(before, highest);
      const float base = now == -INFINITY ? 0.0f : now;  // a row that has seen nothing yet
      shrink[i] = FastExp2(before - base);
      maximum[i] = now;
      sum[i] *= shrink[i];
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[i / 2][n][i % 2 * 2 + j];
          score = FastExp2(score - base);
          sum[i] += score;
        }
      }
    }
    // Maxima change seldom once a few tiles are done.
    bool changed = false;
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) changed |= shrink[i] != 1.0f;
    if (__any_sync(0xffffffffu, changed)) {
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) {
#pragma unroll
        for (int n = 0; n < kOutTiles; ++n) {
          out[i / 2][n][i % 2 * 2] *= shrink[i];
          out[i / 2][n][i % 2 * 2 + 1] *= shrink[i];
        }
      }
    }

#pragma unroll
    for (int n = 0; n < S::kKeys / 16; ++n) {
      uint32_t a[kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        const auto& low = scores[m][2 * n];
        const auto& high = scores[m][2 * n + 1];
        a[m][0] = PackHalves(low[0], low[1]);
        a[m][1] = PackHalves(low[2], low[3]);
        a[m][2] = PackHalves(high[0], high[1]);
        a[m][3] = PackHalves(high[2], high[3]);
      }
#pragma unroll
      for (int d = 0; d < S::kColumns / 16; ++d) {
        uint32_t b[4];
        LoadMatricesTransposed(
            b, v_tile + (16 * n + lane % 16) * S::kVStride + 16 * d + lane / 16 * 8);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          Mma(out[m][2 * d], a[m], b[0], b[1]);
          Mma(out[m][2 * d + 1], a[m], b[2], b[3]);
        }
      }
    }
    __syncthreads();  // the stage is filled again in the next round
  }
  WaitCopies<0>();

#pragma unroll
  for (int i = 0; i < kLaneRows; ++i) {
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    const int64_t row = row_of(i);
    if (row >= all_rows) continue;
    const float factor = !args.ends ? 1.0f : sum[i] > 0.0f ? 1.0f / sum[i] : 0.0f;
    float* to = out_row(row);
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) {
      to[8 * n + 2 * t] = out[i / 2][n][i % 2 * 2] * factor;
      to[8 * n + 2 * t + 1] = out[i / 2][n][i % 2 * 2 + 1] * factor;
    }
    if (!args.ends && t == 0) {
      state_of(row)[0] = maximum[i];
      state_of(row)[1] = sum[i];
    }
  }
}

template <int kD>
void Launch(const FlashPrefillArgs& args, cudaStream_t stream) {
  using S = Shape<kD>;
  cudaFuncSetAttribute(FlashPrefill<kD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       S::kSharedBytes);
  const int64_t rows = static_cast<int64_t>(args.tokens) * (args.q_heads / args.kv_heads);
  const dim3 grid(static_cast<unsigned>((rows + S::kRows - 1) / S::kRows),
                  static_cast<unsigned>(args.kv_heads), S::kParts);
  FlashPrefill<kD><<<grid, 32 * kWarps, S::kSharedBytes, stream>>>(args);
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

}  // namespace tq::cuda
