// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/page_codec.h"

#include "turboquant/codec/cpu/page_codec_kernels.h"

namespace tq {

const PageCodec& GetPageCodec(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return scalar::kPageCodec;
    case Isa::kAvx2:
      return avx2::kPageCodec;
    case Isa::kAvx512:
      return avx512::kPageCodec;
  }
  return scalar::kPageCodec;
}

}  // namespace tq
