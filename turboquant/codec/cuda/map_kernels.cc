// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/cuda/map_kernels.h"

#include "turboquant/base/error.h"
#include "turboquant/codec/cuda/launch.h"
#include "turboquant/codec/cuda/map_params.h"

namespace tq::cuda {
namespace {

// From this many rows on, reading a matrix once for 64 rows is worth more than many blocks.
constexpr int64_t kManyRows = 32;

}  // namespace

void LaunchMapRows(const MapRowsArgs& args, Stream stream) {
  const MapParams p = {args.x,     args.rows,     args.stride,
                       args.heads, args.matrices, args.heads / args.map_heads};
  const bool many = args.rows >= kManyRows;
  const MapKernelFn kernel = many ? MapManyKernelOf(args.head_dim) : MapFewKernelOf(args.head_dim);
  TQ_CHECK(kernel != nullptr);  // a page layout has refused other head dims
  const int rows = many ? kMapManyRows : kMapFewRows;
  const int64_t blocks = (args.rows + rows - 1) / rows * args.heads;
  LaunchMaybeOverlapping(
      true, kernel, static_cast<int>(blocks), many ? kMapManyThreads : kMapFewThreads,
      many ? MapManyMemory(args.head_dim) : MapFewMemory(args.head_dim), stream, p);
}

}  // namespace tq::cuda
