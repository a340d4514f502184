// SPDX-License-Identifier: Apache-2.0
// Head vectors that are rotated on their way, a warp or a part of one each.
#include "turboquant/attention/cuda/prefill_quads.cuh"
#include "turboquant/attention/cuda/rotated_rows.h"
#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/codec/cuda/head_dims.h"
#include "turboquant/codec/cuda/quad_rotation.cuh"

namespace tq::cuda {
namespace {

constexpr int kWarps = 8;

template <int kDim>
TQ_KERNEL(kWarps * 32, 1)
QueriesToHalf(const QueriesToHalfArgs args, const TQ_GRID_CONSTANT RotationTable rotation) {
  using Place = QuadPlace<kDim>;
  LetNextStart();
  WaitForInputs();
  Place place;
  const int vectors = static_cast<int>(args.rows) * args.q_heads;
  if (!place.Find(BlockId() * kWarps + WarpId(), vectors, args.q_heads)) return;
  const float* q = args.q + place.row * args.stride + place.head * kDim;
  uint16_t* out = args.out + (place.row * args.q_heads + place.head) * kDim;
  float4 v[Place::kQuads];
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    v[i] = {0, 0, 0, 0};
    if (place.Has(i)) v[i] = *reinterpret_cast<const float4*>(q + place.Dim(i));
  }
  RotateQuads(rotation, place, v);
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    if (place.Has(i)) *reinterpret_cast<uint2*>(out + place.Dim(i)) = ToHalves4(v[i]);
  }
}

// Blocks of a multiprocessor: enough loads on their way, as far as registers allow.
template <int kDim>
inline constexpr int kMergeBlocks = !RotatesInRegisters(kDim) ? 1
                                    : kDim == 128             ? 6
                                                              : 4;

template <int kDim>
TQ_KERNEL(kWarps * 32, kMergeBlocks<kDim>)
MergePartsBack(const MergePartsArgs args, const TQ_GRID_CONSTANT RotationTable rotation) {
  using Place = QuadPlace<kDim>;
  LetNextStart();
  WaitForInputs();
  Place place;
  if (!place.Find(BlockId() * kWarps + WarpId(), args.tokens * args.q_heads, args.q_heads)) return;
  const auto column = [&](int quad) { return place.head * kDim + place.Dim(quad); };
  float4 v[Place::kQuads];
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    v[i] = {0, 0, 0, 0};
    if (place.Has(i)) v[i] = MergedQuad(args, place.row, column(i));
  }
  RotateQuads(rotation, place, v);
#pragma unroll
  for (int i = 0; i < Place::kQuads; ++i) {
    if (place.Has(i)) StoreResult(args, place.row, column(i), v[i]);
  }
}

template <class Args>
using Kernel = void (*)(Args, RotationTable);

template <class Args>
void Launch(Kernel<Args> kernel, const Args& args, int64_t rows, Side side, bool back,
            cudaStream_t stream) {
  const int64_t of_block = int64_t{kWarps} * QuadVectorsOfWarp(args.head_dim);
  LaunchChainedWithMemory(
      kernel, dim3(static_cast<unsigned>((rows * args.q_heads + of_block - 1) / of_block)),
      kWarps * 32, static_cast<size_t>(kWarps * QuadScratchBytes(args.head_dim)), stream, args,
      MakeRotationTable(args.head_dim, side, back));
}

}  // namespace

void LaunchQueriesToHalf(const QueriesToHalfArgs& args, cudaStream_t stream) {
  const auto kernel = ForHeadDim<Kernel<QueriesToHalfArgs>>(
      args.head_dim, []<int kDim>() -> Kernel<QueriesToHalfArgs> { return QueriesToHalf<kDim>; });
  Launch(kernel, args, args.rows, Side::kKey, false, stream);
}

void LaunchMergePartsBack(const MergePartsArgs& args, cudaStream_t stream) {
  const auto kernel = ForHeadDim<Kernel<MergePartsArgs>>(
      args.head_dim, []<int kDim>() -> Kernel<MergePartsArgs> { return MergePartsBack<kDim>; });
  Launch(kernel, args, args.tokens, Side::kValue, true, stream);
}

}  // namespace tq::cuda
