// SPDX-License-Identifier: Apache-2.0
// The reference vector with which a page opens.
#pragma once

#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/kv_view.h"

namespace tq {

// r [D] of page `page` > 0 (keys in tiles): the mean of the previous page's decoded keys. Where
// that page has lost its open form (a deep truncation), its sealed form still has the same value:
// as its own reference, which stays as a page ages, or in the copied 8-bit keys.
void OpeningReference(const PageCodec& codec, const KvLayerView& view, int page, int head,
                      float* r);

}  // namespace tq
