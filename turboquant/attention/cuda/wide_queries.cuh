// SPDX-License-Identifier: Apache-2.0
// Query rows of a wide kernel: from the model by way of registers, as there are many.
#pragma once

#include "turboquant/attention/cuda/decode_queries.cuh"
#include "turboquant/codec/cuda/quad_rotation.cuh"

namespace tq::cuda {

// A lane's four dims of a rotated row: as floats and in 16-bit form, with its scale and sum.
template <class Block>
TQ_DEVICE void LeaveWideQuery(const Block& block, int row, float4 x) {
  const int lane = block.lane;
  x = ScaleQuad(x, block.p.score_scale);
  reinterpret_cast<float4*>(block.Row(row))[lane] = x;
  const float largest = BitsToFloat(LargestOfLanes(FloatBits(Max(kLeastQuery, AbsMax(x)))));
  const float inverse = FastDivide(kLargestQuery, largest);
  const int values[4] = {RoundToInt(x.x * inverse), RoundToInt(x.y * inverse),
                         RoundToInt(x.z * inverse), RoundToInt(x.w * inverse)};
  uint32_t low = 0, high = 0;
  int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low |= (static_cast<uint32_t>(values[i]) & 0xffu) << 8 * i;
    high |= (static_cast<uint32_t>((values[i] + 128) >> 8) & 0xffu) << 8 * i;
    sum += values[i];
  }
  const int at = WideQueryByte<Block::kDim>(row, 0, 4 * lane);
  auto* bytes = block.template Shared<std::byte>(block.at.bytes);
  *reinterpret_cast<uint32_t*>(bytes + at) = low;
  *reinterpret_cast<uint32_t*>(bytes + at + 16) = high;  // the next column
  LeaveScaleAndSum(block, row, largest, sum);
}

// Rows of a segment, zeros where there is no query; several of a warp are on their way at once.
template <class Block>
TQ_DEVICE void PrepareWideQueries(const Block& block, const Segment& s) {
  constexpr int kDim = Block::kDim;
  constexpr int kAtOnce = (Block::kColumns + kMostDecodeWarps - 1) / kMostDecodeWarps;
  static_assert(kDim == 128);  // four dims of a lane
  const DecodeParams& p = block.p;
  for (int first = block.warp; first < Block::kColumns; first += kAtOnce * block.warps) {
    float4 x[kAtOnce][1];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = first + i * block.warps;
      const QueryPlace place = PlaceOf(p, s, row);
      const bool valid = row < Block::kColumns && place.token < s.work.tokens;
      const float* from = p.q + (s.work.first_row + place.token) * p.q_stride + place.head * kDim;
      x[i][0] = valid ? LoadL2(reinterpret_cast<const float4*>(from) + block.lane) : float4{};
      if (row < Block::kColumns && block.lane == 0) {
        block.ColumnAt(row).position = valid ? s.work.first_position + place.token : -1;
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (p.rotate_q) RotateQuads(p.q_rotation, QuadPlace<kDim>::Alone(), x[i]);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = first + i * block.warps;
      if (row < Block::kColumns) LeaveWideQuery(block, row, x[i][0]);
    }
  }
  PublishToGroupMma();
}

}  // namespace tq::cuda
