// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cuda/transform_kernels.h"

#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/launch.h"
#include "turboquant/codec/cuda/transform_params.h"

namespace tq::cuda {
namespace {

void LaunchTransform(const TransformArgs& args, bool back, Stream stream) {
  TransformParams p = {};
  p.x = args.x;
  p.stride = args.stride;
  p.vectors = static_cast<int>(args.rows * args.heads);
  p.heads = args.heads;
  p.rotation = MakeRotationTable(args.head_dim, args.side, back);
  const TransformKernelFn kernel = TransformKernelOf(args.head_dim);
  TQ_CHECK(kernel != nullptr);  // MakeRotationTable refuses other head dims
  const int vectors = TransformVectors(args.head_dim);
  LaunchMaybeOverlapping(true, kernel, (p.vectors + vectors - 1) / vectors, kTransformThreads,
                         TransformMemory(args.head_dim), stream, p);
}

}  // namespace

void LaunchToStored(const TransformArgs& args, Stream stream) {
  LaunchTransform(args, false, stream);
}

void LaunchToModel(const TransformArgs& args, Stream stream) {
  LaunchTransform(args, true, stream);
}

}  // namespace tq::cuda
