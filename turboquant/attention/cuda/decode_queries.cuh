// SPDX-License-Identifier: Apache-2.0
// Query rows: from the model to 16-bit operands.
#pragma once

#include "turboquant/attention/cuda/decode_block.cuh"
#include "turboquant/attention/cuda/decode_step.cuh"
#include "turboquant/codec/cuda/rotation.cuh"

namespace tq::cuda {

// Where a query row of a segment lies in q and in out: in which query head of which token.
struct QueryPlace {
  int token;
  int head;
};
TQ_DEVICE QueryPlace PlaceOf(const DecodeParams& p, const Segment& s, int column) {
  const int r = (s.item << p.columns_log) + column;
  const auto token = static_cast<int>(p.by_group.Divide(static_cast<uint32_t>(r)));
  return {token, s.head * p.group + r - token * p.group};
}

// Asks for the rows of a round: the first crew's columns, then the second one's. Zeros where there
// is no query.
template <class Block>
TQ_DEVICE void CopyQueries(const Block& block, const Segment& first, const Segment& second,
                           int rows) {
  const DecodeParams& p = block.p;
  for (int r = block.warp; r < rows; r += block.warps) {
    const Segment s = Select(r < block.columns, first, second);
    const QueryPlace place = PlaceOf(p, s, r & (block.columns - 1));
    const bool valid = place.token < s.work.tokens;
    const float* from =
        valid ? p.q + (s.work.first_row + place.token) * p.q_stride + place.head * Block::kDim
              : p.q;
    for (int d = block.lane * 4; d < Block::kDim; d += 128) {
      CopyAsync(reinterpret_cast<std::byte*>(block.Row(r) + d),
                reinterpret_cast<const std::byte*>(from + d), valid ? 16 : 0);
    }
    if (block.lane == 0) {
      block.ColumnAt(r).position = valid ? s.work.first_position + place.token : -1;
    }
  }
}

// Of a 16-bit query: its bytes and their products stay in range, and queries of nothing have a
// scale.
inline constexpr float kLargestQuery = 32600.0f;
inline constexpr float kLeastQuery = 1e-20f;

// largest: of the row's floats; sum: of the lane's 16-bit values.
template <class Block>
TQ_DEVICE void LeaveScaleAndSum(const Block& block, int row, float largest, int32_t sum) {
  sum = SumOfLanes(sum);
  if (block.lane == 0) {
    Column& column = block.ColumnAt(row);
    column.scale = largest * (1.0f / kLargestQuery);
    column.sum = sum;
  }
}

// Rotated rows of floats, their 16-bit form, scale and sum.
template <class Block>
TQ_DEVICE void PrepareQueries(const Block& block, int rows) {
  constexpr int kDim = Block::kDim;
  constexpr int kParts = (kDim + 31) / 32;
  const int lane = block.lane;
  for (int r = block.warp; r < rows; r += block.warps) {
    float* row = block.Row(r);
    if (block.p.rotate_q) RotateRow<kDim>(block.p.q_rotation, row, lane);
    float x[kParts];
    float largest = kLeastQuery;
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      x[j] = d < kDim ? row[d] * block.p.score_scale : 0.0f;
      if (d < kDim) row[d] = x[j];
      largest = Max(largest, Abs(x[j]));
    }
    largest = BitsToFloat(LargestOfLanes(FloatBits(largest)));
    const float inverse = FastDivide(kLargestQuery, largest);
    int8_t* bytes = block.template Shared<int8_t>(block.at.bytes);
    int32_t sum = 0;
#pragma unroll
    for (int j = 0; j < kParts; ++j) {
      const int d = 32 * j + lane;
      const int value = RoundToInt(x[j] * inverse);
      const int high = (value + 128) >> 8;
      if (d < kDim) {
        bytes[2 * r * kDim + d] = static_cast<int8_t>(value - high * 256);
        bytes[(2 * r + 1) * kDim + d] = static_cast<int8_t>(high);
      }
      sum += value;
    }
    LeaveScaleAndSum(block, r, largest, sum);
  }
}

// A warp's columns, from row `first_row` on.
template <class Block>
TQ_DEVICE void LoadColumns(const Block& block, int first_row,
                           WarpState<Block::kDim, Block::kSets>& state) {
  constexpr int kDim = Block::kDim;
  const int g = block.lane >> 2, t = block.lane & 3;
#pragma unroll
  for (int n = 0; n < Block::kSets; ++n) {
    // B operand: column g of a set is byte g % 2 of row g / 2.
    const std::byte* bytes = block.memory + block.at.bytes +
                             ((first_row + 4 * n + (g >> 1)) * 2 + (g & 1)) * kDim + t * (kDim / 4);
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      state.q[n][c] = *reinterpret_cast<const uint32_t*>(bytes + 4 * c);
    }
    const Column& column = block.ColumnAt(first_row + 4 * n + t);
    state.q_scale[n] = column.scale;
    state.q_sum[n] = column.sum;
    state.position[n] = column.position;
  }
}

// Query rows from first_row on times the page's reference vector: lane (g, t) gets sum[n] of row
// 4 n + t.
template <class Block, int kSets>
TQ_DEVICE void ReferenceProducts(const Block& block, const std::byte* stage, int first_row,
                                 float (&sum)[kSets]) {
  // Lane (g, t) takes dims [g D/8, (g + 1) D/8) of row t.
  constexpr int kDim = Block::kDim;
  constexpr int kPart = kDim / 8;
  const int g = block.lane >> 2, t = block.lane & 3;
  const std::byte* r = stage + block.p.stage_bytes - kDim * 2 + g * kPart * 2;
  using Pairs = std::conditional_t<kPart % 8 == 0, uint4, uint32_t>;
  constexpr int kStep = sizeof(Pairs) / 2;
  float even[kSets] = {}, odd[kSets] = {};
#pragma unroll
  for (int d = 0; d < kPart; d += kStep) {
    const auto pairs = std::bit_cast<Words<Pairs>>(*reinterpret_cast<const Pairs*>(r + d * 2));
#pragma unroll
    for (int i = 0; i < kStep / 2; ++i) {
      const float r0 = HalfLow(pairs.of[i]), r1 = HalfHigh(pairs.of[i]);
#pragma unroll
      for (int n = 0; n < kSets; ++n) {
        const float2 x = *reinterpret_cast<const float2*>(block.Row(first_row + 4 * n + t) +
                                                          g * kPart + d + 2 * i);
        even[n] = FusedMulAdd(x.x, r0, even[n]);
        odd[n] = FusedMulAdd(x.y, r1, odd[n]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    sum[n] = SumOverRows(even[n] + odd[n]);
  }
}

// What a page adds to its scores.
template <class Block>
TQ_DEVICE void AddReference(const Block& block, const std::byte* stage, int first_row,
                            WarpState<Block::kDim, Block::kSets>& state) {
  float sum[Block::kSets];
  ReferenceProducts(block, stage, first_row, sum);
#pragma unroll
  for (int n = 0; n < Block::kSets; ++n) {
    state.reference[n] = FastDivide(sum[n], state.q_scale[n]);
  }
}

}  // namespace tq::cuda
