// SPDX-License-Identifier: Apache-2.0
#include "turboquant/attention/cuda/row_attention.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq::cuda {

void CheckRowAttention(const PageLayout& layout) {
  constexpr int kDims[] = {64, 80, 96, 112, 128, 192, 256};
  for (const Codec codec : {layout.k, layout.v}) {
    if (codec == Codec::kF16 || (codec == Codec::kQ8_0 && layout.head_dim % 32 == 0)) continue;
    Throw(
        ErrorCode::kUnsupported,
        "device 'cuda' has no kernels for cache type {} at head dim {}; of the comparison types it "
        "runs f16 and q8_0 (head dims that are multiples of 32)",
        InfoOf(codec).name, layout.head_dim);
  }
  if (std::ranges::find(kDims, layout.head_dim) == std::end(kDims)) {
    Throw(ErrorCode::kUnsupported,
          "device 'cuda' has no kernels for f16 and q8_0 caches of head dim {}; these are: 64, 80, "
          "96, 112, 128, 192, 256",
          layout.head_dim);
  }
}

}  // namespace tq::cuda
