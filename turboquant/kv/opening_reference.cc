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
  int form = kSealedForm;
  while (form - kSealedForm < view.num_aged && view.PageId(form, page - 1) == kNoPage) ++form;
  TQ_CHECK(view.PageId(form, page - 1) != kNoPage);
  const PageLayout& layout = view.Layout(form);
  const std::byte* sealed = view.Head(form, page - 1, head);
  if (layout.k == view.open.k) {
    codec.MeanKey(layout, sealed, r);
    return;
  }
  for (int dim = 0; dim < layout.head_dim; ++dim) {
    Half h;
    std::memcpy(&h, sealed + layout.reference_offset + 2 * dim, sizeof(h));
    r[dim] = HalfToFloat(h);
  }
}

}  // namespace tq
