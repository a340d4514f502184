// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/opening_reference.h"

#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/base/half.h"

namespace tq {

void OpeningReference(const PageCodec& codec, const KvLayerView& view, int page, int head,
                      float* r) {
  if (view.open_pages[page - 1] != kNoPage) {
    codec.MeanKey(view.open, view.OpenHead(page - 1, head), r);
    return;
  }
  TQ_CHECK(view.sealed_pages[page - 1] != kNoPage);
  const std::byte* sealed = view.SealedHead(page - 1, head);
  if (view.sealed.k == view.open.k) {
    codec.MeanKey(view.sealed, sealed, r);
    return;
  }
  for (int dim = 0; dim < view.sealed.head_dim; ++dim) {
    Half h;
    std::memcpy(&h, sealed + view.sealed.reference_offset + 2 * dim, sizeof(h));
    r[dim] = HalfToFloat(h);
  }
}

}  // namespace tq
