// SPDX-License-Identifier: Apache-2.0
// The page codec of each instruction set.
#pragma once

#include "turboquant/codec/page_codec.h"

namespace tq {
namespace scalar {
extern const PageCodec kPageCodec;
}
namespace avx2 {
extern const PageCodec kPageCodec;
}
namespace avx512 {
extern const PageCodec kPageCodec;
}
}  // namespace tq
