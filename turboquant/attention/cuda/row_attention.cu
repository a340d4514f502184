// SPDX-License-Identifier: Apache-2.0
// Few query tokens against pages of rows. A block takes 16 query rows (token, head of the group) of
// one KV head and a share of the sequence's keys; its warps work on groups of 16 keys by
// themselves, each with a ring of copies in flight. The last block of the rows to finish merges the
// shares.
#include <cuda_fp16.h>

#include "turboquant/attention/cuda/row_attention.h"
#include "turboquant/attention/cuda/row_merge.cuh"
#include "turboquant/attention/cuda/tensor_ops.cuh"
#include "turboquant/base/cuda/chained_launch.cuh"

namespace tq::cuda {
namespace {

constexpr int kKeys = 16;  // of a warp's step
constexpr int kPad = 8;
constexpr int kSplitGroups = 2 * kRowWarps;  // groups of keys that are worth a block

template <int kD>
struct Ring {
  static constexpr int kStages = kD > 128 ? 2 : 3;
  static constexpr int kStride = kD + kPad;
  static constexpr int kSideHalves = kKeys * kStride;
  static constexpr int kWarpHalves = kStages * 2 * kSideHalves;
  static constexpr int kQueryHalves = kRowTile * kStride;
  static constexpr int kBytes = 2 * (kQueryHalves + kRowWarps * kWarpHalves);
};

struct Params {
  RowAttentionArgs args;
  float* partials;  // [items][splits][16][D]
  float2* weights;  // [items][splits][16]: maximum and denominator
  unsigned* counters;
  int splits;
  int row_tiles;
};

// Row of a key within its page's head block.
__device__ __forceinline__ const std::byte* KeyRow(const RowAttentionArgs& args,
                                                   const uint32_t* pages, int kv_head, int64_t key,
                                                   bool value) {
  const PageLayout& open = args.pages.open;
  return args.pages.arena + static_cast<uint64_t>(pages[key / kPageTokens]) * kPageIdUnit +
         args.pages.open_layer_offset + static_cast<uint64_t>(kv_head) * open.head_bytes +
         (value ? open.v_rows_offset + static_cast<uint64_t>(key % kPageTokens) * open.v_row_bytes
                : open.k_rows_offset + static_cast<uint64_t>(key % kPageTokens) * open.k_row_bytes);
}

// 16 rows of one side into shared memory as f16; keys from `end` on become zeros.
template <int kD>
__device__ __forceinline__ void FetchSide(const RowAttentionArgs& args, const uint32_t* pages,
                                          int kv_head, int64_t key, int64_t end, bool value,
                                          __half* to, int lane) {
  constexpr int kPieces = kD / 8;
  const bool half = (value ? args.pages.open.v : args.pages.open.k) == Codec::kF16;
  for (int i = lane; i < kKeys * kPieces; i += 32) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool there = key + row < end;
    const std::byte* from = KeyRow(args, pages, kv_head, there ? key + row : key, value);
    __half* place = to + row * Ring<kD>::kStride + 8 * piece;
    if (half) {
      CopyAsync(place, from + 16 * piece, there);
      continue;
    }
    const std::byte* block = from + piece / 4 * 34;  // q8_0: f16 scale, 32 codes
    const float scale = there ? __half2float(*reinterpret_cast<const __half*>(block)) : 0.0f;
    const auto* codes = reinterpret_cast<const uint16_t*>(block + 2 + piece % 4 * 8);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint16_t two = codes[j];
      *reinterpret_cast<__half2*>(place + 2 * j) =
          __floats2half2_rn(static_cast<float>(static_cast<int8_t>(two & 255)) * scale,
                            static_cast<float>(static_cast<int8_t>(two >> 8)) * scale);
    }
  }
}

// The softmax state of 16 rows: this lane's rows are g and g + 8.
template <int kD>
struct State {
  float maximum[2], sum[2];
  float out[kD / 8][4];
};

template <int kD>
__device__ __forceinline__ void Attend16(const __half* q, const __half* k, const __half* v,
                                         const int64_t (&first)[2], const int64_t (&last)[2],
                                         int64_t key, int lane, State<kD>& state) {
  constexpr int kStride = Ring<kD>::kStride;
  const int t = lane % 4;
  float scores[2][4] = {};
#pragma unroll
  for (int d = 0; d < kD; d += 16) {
    uint32_t a[4], b[4];
    LoadMatrices(a, q + lane % 16 * kStride + d + lane / 16 * 8);
    LoadMatrices(b, k + (lane % 8 + lane / 16 * 8) * kStride + d + lane / 8 % 2 * 8);
    Mma(scores[0], a, b[0], b[1]);
    Mma(scores[1], a, b[2], b[3]);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float highest = -INFINITY;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int64_t position = key + 8 * n + 2 * t + j;
        float& score = scores[n][2 * i + j];
        if (position < first[i] || position > last[i]) score = -INFINITY;
        highest = fmaxf(highest, score);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
    const float now = fmaxf(state.maximum[i], highest);
    const float base = now == -INFINITY ? 0.0f : now;
    const float shrink = exp2f(state.maximum[i] - base);
    state.maximum[i] = now;
    state.sum[i] *= shrink;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& score = scores[n][2 * i + j];
        score = exp2f(score - base);
        state.sum[i] += score;
      }
    }
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      state.out[n][2 * i] *= shrink;
      state.out[n][2 * i + 1] *= shrink;
    }
  }
  const uint32_t a[4] = {
      PackHalves(scores[0][0], scores[0][1]), PackHalves(scores[0][2], scores[0][3]),
      PackHalves(scores[1][0], scores[1][1]), PackHalves(scores[1][2], scores[1][3])};
#pragma unroll
  for (int d = 0; d < kD / 16; ++d) {
    uint32_t b[4];
    LoadMatricesTransposed(b, v + lane % 16 * kStride + 16 * d + lane / 16 * 8);
    Mma(state.out[2 * d], a, b[0], b[1]);
    Mma(state.out[2 * d + 1], a, b[2], b[3]);
  }
}

template <int kD>
__global__ void __launch_bounds__(32 * kRowWarps) RowAttention(const Params p) {
  using R = Ring<kD>;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ bool last_block;
  LetNextStart();
  WaitForInputs();
  const RowAttentionArgs& args = p.args;
  const int slot = blockIdx.z, split = blockIdx.x;
  const int kv_head = blockIdx.y / p.row_tiles, tile = blockIdx.y % p.row_tiles;
  const int group = args.q_heads / args.pages.open.kv_heads;
  const int tokens = args.tables.tokens[slot], rows = tokens * group;
  if (tile * kRowTile >= rows) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t first_position = args.tables.first_positions[slot];
  const int first_row = args.tables.first_rows[slot];
  const uint32_t* pages = args.tables.open_pages + int64_t{slot} * args.tables.page_stride;

  // What this lane's rows see.
  const int window = args.pages.visibility.sliding_window;
  int64_t first[2], last[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = tile * kRowTile + g + 8 * i;
    last[i] = r < rows ? first_position + r / group : -1;
    first[i] = window > 0 ? last[i] - window + 1 : 0;
  }
  // This block's groups of keys.
  const int64_t end = first_position + tokens;
  const int64_t lowest = window > 0 ? max(int64_t{0}, first_position - window + 1) : 0;
  const int64_t begin_group = lowest / kKeys, groups = (end + kKeys - 1) / kKeys - begin_group;
  const int64_t worth = (groups + kSplitGroups - 1) / kSplitGroups;
  const int splits = worth < p.splits ? static_cast<int>(worth) : p.splits;
  if (split >= splits) return;
  const int64_t from = begin_group + groups * split / splits;
  const int64_t to = begin_group + groups * (split + 1) / splits;

  auto* q = reinterpret_cast<__half*>(shared);
  __half* ring = q + R::kQueryHalves + warp * R::kWarpHalves;
  State<kD> state;
#pragma unroll
  for (int i = 0; i < 2; ++i) state.maximum[i] = -INFINITY, state.sum[i] = 0.0f;
#pragma unroll
  for (int n = 0; n < kD / 8; ++n)
    state.out[n][0] = state.out[n][1] = state.out[n][2] = state.out[n][3] = 0.0f;

  const auto fetch = [&](int64_t key_group, int stage) {
    if (key_group < to) {
      __half* place = ring + stage * 2 * R::kSideHalves;
      FetchSide<kD>(args, pages, kv_head, key_group * kKeys, end, false, place, lane);
      FetchSide<kD>(args, pages, kv_head, key_group * kKeys, end, true, place + R::kSideHalves,
                    lane);
    }
    CommitCopies();
  };
#pragma unroll
  for (int s = 0; s < R::kStages - 1; ++s) fetch(from + warp + s * kRowWarps, s);

  const float to_log2 = args.scale * 1.4426950408889634f;
#pragma unroll 8
  for (int i = threadIdx.x; i < kRowTile * kD; i += 32 * kRowWarps) {
    const int r = tile * kRowTile + i / kD, d = i % kD;
    float value = 0.0f;
    if (r < rows) {
      value = args.q[(first_row + r / group) * args.q_stride +
                     (int64_t{kv_head} * group + r % group) * kD + d];
    }
    q[i / kD * R::kStride + d] = __float2half_rn(value * to_log2);
  }
  __syncthreads();

  int stage = 0;
  for (int64_t key_group = from + warp; key_group < to; key_group += kRowWarps) {
    WaitCopies<R::kStages - 2>();
    __syncwarp();
    const __half* place = ring + stage * 2 * R::kSideHalves;
    Attend16<kD>(q, place, place + R::kSideHalves, first, last, key_group * kKeys, lane, state);
    __syncwarp();  // all lanes are done with the stage that is filled next
    fetch(key_group + (R::kStages - 1) * kRowWarps, (stage + R::kStages - 1) % R::kStages);
    stage = (stage + 1) % R::kStages;
  }
  WaitCopies<0>();
  __syncthreads();

  // The warps' states side by side, then their sum: to the workspace, or straight to the output.
  constexpr int kState = kRowTile * (kD + 2);
  auto* states = reinterpret_cast<float*>(shared);
  float* mine = states + warp * kState;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    state.sum[i] += __shfl_xor_sync(0xffffffffu, state.sum[i], 1);
    state.sum[i] += __shfl_xor_sync(0xffffffffu, state.sum[i], 2);
    float* row = mine + (g + 8 * i) * (kD + 2);
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      row[8 * n + 2 * t] = state.out[n][2 * i];
      row[8 * n + 2 * t + 1] = state.out[n][2 * i + 1];
    }
    if (t == 0) row[kD] = state.maximum[i], row[kD + 1] = state.sum[i];
  }
  __syncthreads();
  const int tile_rows = min(kRowTile, rows - tile * kRowTile);
  const auto out_row = [&](int r) {
    const int row = tile * kRowTile + r;
    return args.out + (first_row + row / group) * args.out_stride +
           (int64_t{kv_head} * group + row % group) * kD;
  };
  const int64_t item = int64_t{slot} * gridDim.y + blockIdx.y;
  float* partials = p.partials + item * p.splits * kRowTile * kD;
  float2* weights = p.weights + item * p.splits * kRowTile;
  for (int i = threadIdx.x; i < tile_rows * kD; i += 32 * kRowWarps) {
    const int r = i / kD, d = i % kD;
    float m, l;
    const float sum = MergeWarps<kD>(states, r, d, m, l);
    if (splits == 1) {
      out_row(r)[d] = l > 0.0f ? sum / l : 0.0f;
    } else {
      partials[(split * kRowTile + r) * kD + d] = sum;
      if (d == 0) weights[split * kRowTile + r] = {m, l};
    }
  }
  if (splits == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0)
    last_block = atomicAdd(p.counters + item, 1u) == static_cast<unsigned>(splits - 1);
  __syncthreads();
  if (!last_block) return;
  __threadfence();
  for (int r = warp; r < tile_rows; r += kRowWarps) {
    MergeSplits<kD>(partials + r * kD, weights + r, splits, states + warp * kMostSplits, out_row(r),
                    lane);
  }
  if (threadIdx.x == 0) p.counters[item] = 0;
}

int RowTiles(const RowAttentionArgs& args) {
  return (args.tokens * (args.q_heads / args.pages.open.kv_heads) + kRowTile - 1) / kRowTile;
}
int64_t Items(const RowAttentionArgs& args) {
  return int64_t{args.tables.slots} * args.pages.open.kv_heads * RowTiles(args);
}
// Two blocks per multiprocessor of a large device, whatever the lengths: they are not known here.
int Splits(const RowAttentionArgs& args) {
  const int64_t splits = (2 * 132 + Items(args) - 1) / Items(args);
  return static_cast<int>(splits < 1 ? 1 : splits > kMostSplits ? kMostSplits : splits);
}
// At one place for calls of all shapes: a counter must never lie where another call has sums.
constexpr int64_t kMostItems = 1 << 16;
constexpr int64_t kCounterBytes = kMostItems * 4;

template <int kD>
void Launch(const Params& params, cudaStream_t stream) {
  using R = Ring<kD>;
  constexpr int kMergeBytes = kRowWarps * kRowTile * (kD + 2) * 4;
  constexpr int kBytes = R::kBytes > kMergeBytes ? R::kBytes : kMergeBytes;
  cudaFuncSetAttribute(RowAttention<kD>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const dim3 grid(static_cast<unsigned>(params.splits),
                  static_cast<unsigned>(params.args.pages.open.kv_heads * params.row_tiles),
                  static_cast<unsigned>(params.args.tables.slots));
  LaunchChainedAs({grid, 32 * kRowWarps, kBytes}, RowAttention<kD>, stream, params);
}

}  // namespace

int64_t RowAttentionWorkspaceBytes(const RowAttentionArgs& args) {
  return kCounterBytes + Items(args) * Splits(args) * kRowTile * (args.pages.open.head_dim + 2) * 4;
}

void LaunchRowAttention(const RowAttentionArgs& args, void* workspace, cudaStream_t stream) {
  Params params;
  params.args = args;
  params.counters = static_cast<unsigned*>(workspace);
  params.splits = Splits(args);
  params.partials = reinterpret_cast<float*>(static_cast<char*>(workspace) + kCounterBytes);
  params.weights = reinterpret_cast<float2*>(
      params.partials + Items(args) * params.splits * kRowTile * args.pages.open.head_dim);
  params.row_tiles = RowTiles(args);
  switch (args.pages.open.head_dim) {
    case 64:
      return Launch<64>(params, stream);
    case 80:
      return Launch<80>(params, stream);
    case 96:
      return Launch<96>(params, stream);
    case 112:
      return Launch<112>(params, stream);
    case 128:
      return Launch<128>(params, stream);
    case 192:
      return Launch<192>(params, stream);
    case 256:
      return Launch<256>(params, stream);
  }
}

}  // namespace tq::cuda
