// SPDX-License-Identifier: Apache-2.0
// Rotations of head vectors that lie in registers, four neighbouring dims at a time, so that
// memory is read and written in 16 bytes a lane. The bits of RotateRow.
#pragma once

#include "turboquant/codec/cuda/float4_ops.cuh"
#include "turboquant/codec/cuda/rotation.cuh"

namespace tq::cuda {

// Head vectors that a warp takes at once.
constexpr int QuadVectorsOfWarp(int head_dim) {
  return RotatesInRegisters(head_dim) && head_dim < 128 ? 128 / head_dim : 1;
}

// Which head vector of a warp a lane has, and which dims of it. Vectors are numbered row by row,
// `heads` to a row.
template <int kDim>
struct QuadPlace {
  static constexpr int kVectors = QuadVectorsOfWarp(kDim);
  static constexpr int kLanes = 32 / kVectors;                           // of a head vector
  static constexpr int kQuads = (kDim + 4 * kLanes - 1) / (4 * kLanes);  // of a lane

  // The warp's only one.
  TQ_DEVICE static QuadPlace Alone() {
    QuadPlace place;
    place.Find(0, 1, 1);
    return place;
  }
  // False: the warp has none.
  TQ_DEVICE bool Find(int warp, int vectors, int heads) {
    const int first = warp * kVectors, vector = first + LaneId() / kLanes;
    here_ = vector < vectors;
    row = vector / heads;
    head = vector % heads;
    return first < vectors;
  }
  TQ_DEVICE int Dim(int quad) const { return 4 * (LaneId() % kLanes + kLanes * quad); }
  // False: the lane takes part in the rotation, with whatever it has.
  TQ_DEVICE bool Has(int quad) const { return here_ && Dim(quad) < kDim; }

  int64_t row;
  int head;

 private:
  bool here_;
};

TQ_DEVICE float4 ShuffledXor(const float4& v, int mask) {
  return {ShuffleXor(v.x, mask), ShuffleXor(v.y, mask), ShuffleXor(v.z, mask),
          ShuffleXor(v.w, mask)};
}
// The butterflies of strides 1 and 2.
TQ_DEVICE float4 ButterflyQuad(const float4& v) {
  const float a = AddRn(v.x, v.y), b = SubRn(v.x, v.y), c = AddRn(v.z, v.w), d = SubRn(v.z, v.w);
  return {AddRn(a, c), AddRn(b, d), SubRn(a, c), SubRn(b, d)};
}

// v[i]: dims Dim(i) .. + 3 of the lane's place. All lanes take part.
template <int kDim>
TQ_DEVICE void RotateQuads(const RotationTable& table, const QuadPlace<kDim>& place,
                           float4 (&v)[QuadPlace<kDim>::kQuads]) {
  using Place = QuadPlace<kDim>;
  if constexpr (RotatesInRegisters(kDim)) {
    const auto signs = [&](const uint32_t* words, int quad) {
      return words[place.Dim(quad) / 32] >> (place.Dim(quad) % 32);
    };
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      const uint32_t negative = signs(table.negate_before, i);
      const auto signed_ = [&](float x, int bit) { return (negative >> bit & 1u) != 0 ? -x : x; };
      v[i] = ButterflyQuad(
          {signed_(v[i].x, 0), signed_(v[i].y, 1), signed_(v[i].z, 2), signed_(v[i].w, 3)});
    }
#pragma unroll
    for (int step = 1; step < Place::kLanes; step *= 2) {
#pragma unroll
      for (int i = 0; i < Place::kQuads; ++i) {
        const float4 other = ShuffledXor(v[i], step);
        v[i] = (LaneId() & step) != 0 ? SubQuads(other, v[i]) : AddQuads(v[i], other);
      }
    }
#pragma unroll
    for (int step = 1; step < Place::kQuads; step *= 2) {
#pragma unroll
      for (int i = 0; i < Place::kQuads; ++i) {
        if ((i & step) != 0) continue;
        const float4 low = v[i], high = v[i + step];
        v[i] = AddQuads(low, high);
        v[i + step] = SubQuads(low, high);
      }
    }
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      const uint32_t negative = signs(table.negate_after, i);
      const auto scaled = [&](float x, int bit) {
        return MulRn(x, (negative >> bit & 1u) != 0 ? -table.scale : table.scale);
      };
      v[i] = {scaled(v[i].x, 0), scaled(v[i].y, 1), scaled(v[i].z, 2), scaled(v[i].w, 3)};
    }
  } else {
    float* scratch = reinterpret_cast<float*>(SharedMemory()) + WarpId() * kDim;
    SyncWarp();
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      if (place.Dim(i) < kDim) *reinterpret_cast<float4*>(scratch + place.Dim(i)) = v[i];
    }
    SyncWarp();
    RotateRow<kDim>(table, scratch, LaneId());
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      if (place.Dim(i) < kDim) v[i] = *reinterpret_cast<const float4*>(scratch + place.Dim(i));
    }
  }
}

// Rotates a warp's head vectors on their way from load(place, quad) to store(place, quad, v), which
// are called for the quads that the lane has. kTurns: times as many vectors as a warp takes at
// once, all loaded before the first is stored.
template <int kDim, int kTurns = 1, class Load, class Store>
TQ_DEVICE void RotateVectors(const RotationTable& table, int warp, int vectors, int heads,
                             const Load& load, const Store& store) {
  using Place = QuadPlace<kDim>;
  Place places[kTurns];
  float4 v[kTurns][Place::kQuads];
  if (!places[0].Find(warp * kTurns, vectors, heads)) return;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    if (turn > 0) places[turn].Find(warp * kTurns + turn, vectors, heads);
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      v[turn][i] = {0, 0, 0, 0};
      if (places[turn].Has(i)) v[turn][i] = load(places[turn], i);
    }
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    RotateQuads(table, places[turn], v[turn]);
#pragma unroll
    for (int i = 0; i < Place::kQuads; ++i) {
      if (places[turn].Has(i)) store(places[turn], i, v[turn][i]);
    }
  }
}

}  // namespace tq::cuda
