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

// With one vector a warp has too little on its way: 17.5 us in place of 15.5 for 2048 x 32 of 128.
template <int kDim>
inline constexpr int kQueryTurns = kDim <= 128 && RotatesInRegisters(kDim) ? 4 : 1;

template <int kDim>
TQ_KERNEL(kWarps * 32, 1)
QueriesToHalf(const QueriesToHalfArgs args, const TQ_GRID_CONSTANT RotationTable rotation) {
  LetNextStart();
  WaitForInputs();
  RotateVectors<kDim, kQueryTurns<kDim>>(
      rotation, BlockId() * kWarps + WarpId(), static_cast<int>(args.rows) * args.q_heads,
      args.q_heads,
      [&](const auto& place, int i) {
        const float* q = args.q + place.row * args.stride + place.head * kDim;
        return *reinterpret_cast<const float4*>(q + place.Dim(i));
      },
      [&](const auto& place, int i, const float4& v) {
        uint16_t* out = args.out + (place.row * args.q_heads + place.head) * kDim;
        *reinterpret_cast<uint2*>(out + place.Dim(i)) = ToHalves4(v);
      });
}

// Blocks of a multiprocessor: enough loads on their way, as far as registers allow.
template <int kDim>
inline constexpr int kMergeBlocks = !RotatesInRegisters(kDim) ? 1
                                    : kDim == 128             ? 6
                                                              : 4;

template <int kDim>
TQ_KERNEL(kWarps * 32, kMergeBlocks<kDim>)
MergePartsBack(const MergePartsArgs args, const TQ_GRID_CONSTANT RotationTable rotation) {
  LetNextStart();
  WaitForInputs();
  const auto column = [](const auto& place, int i) { return place.head * kDim + place.Dim(i); };
  RotateVectors<kDim>(
      rotation, BlockId() * kWarps + WarpId(), args.tokens * args.q_heads, args.q_heads,
      [&](const auto& place, int i) { return MergedQuad(args, place.row, column(place, i)); },
      [&](const auto& place, int i, const float4& v) {
        StoreResult(args, place.row, column(place, i), v);
      });
}

template <class Args>
struct Kernel {
  void (*run)(Args, RotationTable);
  int turns;
};

template <class Args>
void Launch(const Kernel<Args>& kernel, const Args& args, int64_t rows, Side side, bool back,
            cudaStream_t stream) {
  const int64_t of_block = int64_t{kWarps} * QuadVectorsOfWarp(args.head_dim) * kernel.turns;
  LaunchChainedAs({dim3(static_cast<unsigned>((rows * args.q_heads + of_block - 1) / of_block)),
                   kWarps * 32, static_cast<size_t>(kWarps * QuadScratchBytes(args.head_dim))},
                  kernel.run, stream, args, MakeRotationTable(args.head_dim, side, back));
}

}  // namespace

void LaunchQueriesToHalf(const QueriesToHalfArgs& args, cudaStream_t stream) {
  const auto kernel = ForHeadDim<Kernel<QueriesToHalfArgs>>(
      args.head_dim, []<int kDim>() -> Kernel<QueriesToHalfArgs> {
        return {QueriesToHalf<kDim>, kQueryTurns<kDim>};
      });
  Launch(kernel, args, args.rows, Side::kKey, false, stream);
}

void LaunchMergePartsBack(const MergePartsArgs& args, cudaStream_t stream) {
  const auto kernel =
      ForHeadDim<Kernel<MergePartsArgs>>(args.head_dim, []<int kDim>() -> Kernel<MergePartsArgs> {
        return {MergePartsBack<kDim>, 1};
      });
  Launch(kernel, args, args.tokens, Side::kValue, true, stream);
}

}  // namespace tq::cuda
