// SPDX-License-Identifier: Apache-2.0
// What compression does to the attention of one KV head: the same queries over its sealed pages and
// over 8-bit copies of them. Plain loops, for a sample of steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/matrix_view.h"
#include "turboquant/kv/kv_view.h"

namespace tq {

// Page number -> one head's block as it was in the open page.
using PageCopies = std::map<int, AlignedBuffer<std::byte>>;

// Sums over queries.
struct AttentionDrift {
  int64_t queries = 0;
  double error = 0;   // |output over sealed pages - output over copies|^2
  double output = 0;  // |output over copies|^2
  double moved = 0;   // share of the attention that went to other tokens: total variation, 0 to 1

  AttentionDrift& operator+=(const AttentionDrift& other);
  // Relative error of the output; infinite if an output is no number.
  double RelativeError() const;
  double Moved() const { return queries > 0 ? moved / static_cast<double>(queries) : 0; }
};

// queries [T][group * D], in the basis of the pages, of the last T tokens in the cache. Sealed
// pages without a copy count as unharmed. No queries in the result if no sealed page has one.
AttentionDrift MeasureAttentionDrift(const KvLayerView& kv, int kv_head,
                                     MatrixView<const float> queries, float scale,
                                     const PageCopies& copies);

}  // namespace tq
