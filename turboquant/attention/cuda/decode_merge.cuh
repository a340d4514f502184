// SPDX-License-Identifier: Apache-2.0
// The sum of parts of a row of outputs (attention/online_softmax.h): parts of warps in shared
// memory, parts of blocks in global memory.
#pragma once

#include "turboquant/attention/cuda/decode_queries.cuh"
#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/cuda/rotation.cuh"

namespace tq::cuda {

// m and l of a row, and four of its outputs.
struct PartialSum {
  float m = kLeastScore;
  float l = 0;
  float4 o = {};
};

// Parts first, first + step ... below count. The loads of Parts::kBatch of them are on their way
// together.
constexpr float kNoPart = 2 * kLeastScore;
template <class Parts>
TQ_DEVICE PartialSum MergeParts(const Parts& parts, int first, int step, int count, int column,
                                int quad) {
  constexpr int kBatch = Parts::kBatch;
  PartialSum sum;
  for (int base = first; base < count; base += kBatch * step) {
    float2 state[kBatch];
    float4 o[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      // Past the end some part counts nothing: no branches between the loads.
      const int part = base + i * step;
      const int loaded = part < count ? part : first;
      state[i] = parts.State(loaded, column);
      o[i] = parts.Output(loaded, column, quad);
      if (part >= count) state[i].x = kNoPart;
    }
    float m = sum.m;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) m = Max(m, state[i].x);
    PartialSum scaled = {m, 0, {}};
    const float decay = Exp2(sum.m - m);
    scaled.l = sum.l * decay;
    AddScaled(scaled.o, decay, sum.o);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float factor = Exp2(state[i].x - m);
      scaled.l = FusedMulAdd(factor, state[i].y, scaled.l);
      AddScaled(scaled.o, factor, o[i]);
    }
    sum = scaled;
  }
  return sum;
}

// Parts of consecutive blocks in global memory; the first one begins the head.
template <int kDim>
struct BlockParts {
  static constexpr int kBatch = 4;  // of a warp's
  const DecodeParams& p;
  int first;

  // O of the columns, then m and l of each.
  TQ_DEVICE static float* Of(const DecodeParams& p, int number, bool begins_head) {
    return p.partials +
           (static_cast<int64_t>(2 * number + (begins_head ? 1 : 0)) * (kDim + 2) << p.columns_log);
  }
  TQ_DEVICE static float2* States(const DecodeParams& p, float* part) {
    return reinterpret_cast<float2*>(part + (kDim << p.columns_log));
  }
  TQ_DEVICE float2 State(int part, int column) const {
    return LoadL2(States(p, Of(p, first + part, part == 0)) + column);
  }
  TQ_DEVICE float4 Output(int part, int column, int quad) const {
    return LoadL2(reinterpret_cast<const float4*>(Of(p, first + part, part == 0)) +
                  column * (kDim / 4) + quad);
  }
};

// A row to the model: its parts merged, divided by l, rotated back. row: in shared memory.
template <int kDim, class Parts>
TQ_DEVICE void FinishRow(const DecodeParams& p, const Segment& s, const QueryPlace& place,
                         const Parts& parts, int count, int column, float* row, int lane) {
  for (int quad = lane; quad < kDim / 4; quad += 32) {
    const PartialSum sum = MergeParts(parts, 0, 1, count, column, quad);
    *reinterpret_cast<float4*>(row + quad * 4) =
        ScaleQuad(sum.o, sum.l > 0 ? FastDivide(1.0f, sum.l) : 0.0f);
  }
  SyncWarp();
  if (p.rotate_out) RotateRow<kDim>(p.out_rotation, row, lane);
  float* to = p.out + (s.work.first_row + place.token) * p.out_stride + place.head * kDim;
  for (int d = lane; d < kDim; d += 32) to[d] = row[d];
}

}  // namespace tq::cuda
