// SPDX-License-Identifier: Apache-2.0
// What compressed keys do to the output of attention, measured with the product's own codecs on one
// KV head: the yardstick by which a key transform is judged.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "turboquant/base/matrix_view.h"
#include "turboquant/codec/transform.h"
#include "turboquant/engine/calibration.h"

namespace tq {

// Pages [first_page, num_pages) as they come back from a sealed page of keys of `codec`: in the
// stored basis under `map`, [128 (num_pages - first_page), D]. k [T, D] raw, whole pages.
std::vector<float> SealedKeys(MatrixView<const float> k, int first_page, Codec codec,
                              const KeyMap& map);

// The queries of one page, of one query head of the KV head.
struct AttentionProbe {
  MatrixView<const float> q;  // [T, D] raw, post-RoPE
  MatrixView<const float> k;  // [T, D]
  MatrixView<const float> v;  // [T, D]
  float scale = 1;
  int sliding_window = 0;  // 0: all
  int first_page = 0;      // the first page that is compressed
  int query_page = 0;      // behind it
  int query_step = 1;      // every how many-th position of the page asks
};

// Keys of one way to store them: the decoded pages from first_page on, up to query_page at least,
// and the map they stand in.
struct StoredKeys {
  std::vector<float> decoded;
  KeyMap map;
};

// Sum over the queries of |o' - o|^2, o the exact output, o' that with the keys of pages
// [first_page, query_page) in stored form: one sum per entry of `stored`.
std::vector<double> OutputErrors(const AttentionProbe& probe, std::span<const StoredKeys> stored);

}  // namespace tq
