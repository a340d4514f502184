// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/attention_error.h"

#include <algorithm>
#include <cmath>

#include "turboquant/base/error.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/engine/linear_algebra.h"

namespace tq {
namespace {

// A matrix that owns its floats.
struct Matrix {
  Matrix(int64_t rows, int64_t cols)
      : floats(static_cast<size_t>(rows * cols)), view(floats.data(), rows, cols) {}
  std::vector<float> floats;
  MatrixView<float> view;
};

MatrixView<const float> RowsOf(MatrixView<const float> m, int64_t begin, int64_t end) {
  return {m.row(begin), end - begin, m.cols, m.stride};
}

void ToStoredBasis(const float* matrix, MatrixView<float> x) {
  const int head_dim = static_cast<int>(x.cols);
  if (matrix != nullptr) {
    MapRows(matrix, x.data, x.rows, x.stride, head_dim);
  } else {
    RotateRows(x.data, x.rows, x.stride, head_dim, Side::kKey);
  }
}

// Scores -> weights e^(score - offset), in place; those of columns [begin, end) of a row only.
double Exponentials(float* row, int64_t begin, int64_t end, float offset) {
  double sum = 0;
  for (int64_t j = begin; j < end; ++j) sum += row[j] = std::exp(row[j] - offset);
  return sum;
}

}  // namespace

std::vector<float> SealedKeys(MatrixView<const float> k, int first_page, Codec codec,
                              const KeyMap& map) {
  const int head_dim = static_cast<int>(k.cols), pages = static_cast<int>(k.rows / kPageTokens);
  TQ_CHECK(k.rows % kPageTokens == 0 && 0 < first_page && first_page <= pages);
  const PageLayout open = MakePageLayout(head_dim, 1, Codec::kTurbo8, Codec::kTurbo8);
  const PageLayout sealed = MakePageLayout(head_dim, 1, codec, Codec::kTurbo8);
  const PageCodec& pages_of = GetPageCodec();
  AlignedBuffer<std::byte> open_bytes(open.bytes()), sealed_bytes(sealed.bytes());
  std::ranges::fill(open_bytes.span(), std::byte{0});
  std::ranges::fill(sealed_bytes.span(), std::byte{0});

  // With the page before the first, whose keys give the first one's opening reference.
  const MatrixView<const float> raw = RowsOf(k, (first_page - 1) * kPageTokens, k.rows);
  Matrix z(raw.rows, head_dim);
  for (int64_t t = 0; t < raw.rows; ++t) std::copy_n(raw.row(t), head_dim, z.view.row(t));
  ToStoredBasis(map.keys, z.view);
  std::vector<float> mean(static_cast<size_t>(head_dim));
  for (int page = first_page; page < pages; ++page) {
    const int64_t begin = int64_t{page - first_page + 1} * kPageTokens;
    std::ranges::fill(mean, 0.0f);
    for (int64_t t = begin - kPageTokens; t < begin; ++t) {
      for (int i = 0; i < head_dim; ++i)
        mean[static_cast<size_t>(i)] += z.view.row(t)[i] * (1.0f / kPageTokens);
    }
    pages_of.SetReference(open, open_bytes.data(), mean.data());
    pages_of.EncodeKeys(open, open_bytes.data(), 0, RowsOf(z.view, begin, begin + kPageTokens));
    pages_of.SealKeys(open, open_bytes.data(), sealed, sealed_bytes.data(), {});
    pages_of.DecodeKeys(sealed, sealed_bytes.data(), 0, {z.view.row(begin), kPageTokens, head_dim});
  }
  return {z.floats.begin() + int64_t{kPageTokens} * head_dim, z.floats.end()};
}

std::vector<double> OutputErrors(const AttentionProbe& probe, std::span<const StoredKeys> stored) {
  const int64_t head_dim = probe.k.cols;
  const int64_t first_key = int64_t{probe.first_page} * kPageTokens;  // the first compressed one
  const int64_t own = int64_t{probe.query_page} * kPageTokens;        // of the queries' own page
  const int64_t tokens = own + kPageTokens, compressed = own - first_key;
  TQ_CHECK(compressed > 0 && tokens <= probe.k.rows);
  const int64_t n = (kPageTokens + probe.query_step - 1) / probe.query_step;
  const auto position_of = [&](int64_t i) { return own + i * probe.query_step; };

  Matrix q(n, head_dim), scores(n, tokens);
  for (int64_t i = 0; i < n; ++i) std::copy_n(probe.q.row(position_of(i)), head_dim, q.view.row(i));
  MultiplyTransposed(q.view, RowsOf(probe.k, 0, tokens), scores.view);

  // Weights of a query: those on keys that are never compressed (before first_key, and its own
  // page's) stay in `scores`, those on compressed ones go to `rest`. Outputs are kept unnormalised:
  // only the rest changes.
  const auto first_visible = [&](int64_t position) {
    return probe.sliding_window == 0 ? 0
                                     : std::max<int64_t>(0, position - probe.sliding_window + 1);
  };
  std::vector<float> offsets(static_cast<size_t>(n));
  std::vector<double> fixed_sums(static_cast<size_t>(n)), exact_sums(static_cast<size_t>(n));
  Matrix rest(n, compressed);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t position = position_of(i), seen = first_visible(position);
    float* row = scores.view.row(i);
    float most = -INFINITY;
    for (int64_t j = seen; j <= position; ++j) most = std::max(most, row[j] *= probe.scale);
    offsets[static_cast<size_t>(i)] = most;
    const int64_t begin = std::clamp(seen, first_key, own);
    std::fill(row, row + seen, 0.0f);
    std::fill(row + position + 1, row + tokens, 0.0f);
    const double before = Exponentials(row, seen, first_key, most);
    const double after = Exponentials(row, std::max(own, seen), position + 1, most);
    fixed_sums[static_cast<size_t>(i)] = before + after;
    exact_sums[static_cast<size_t>(i)] = before + after + Exponentials(row, begin, own, most);
    std::copy(row + begin, row + own, rest.view.row(i) + (begin - first_key));
    std::fill(row + begin, row + own, 0.0f);
  }
  const MatrixView<const float> late_values = RowsOf(probe.v, first_key, own);
  Matrix fixed_out(n, head_dim), exact_out(n, head_dim), out(n, head_dim);
  Multiply(scores.view, RowsOf(probe.v, 0, tokens), fixed_out.view);
  Multiply(rest.view, late_values, exact_out.view);

  std::vector<double> errors(stored.size(), 0.0);
  Matrix stored_q(n, head_dim);
  for (size_t s = 0; s < stored.size(); ++s) {
    std::ranges::copy(q.floats, stored_q.floats.begin());
    ToStoredBasis(stored[s].map.queries, stored_q.view);
    MultiplyTransposed(stored_q.view, {stored[s].decoded.data(), compressed, head_dim}, rest.view);
    std::vector<double> sums = fixed_sums;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t begin = std::clamp(first_visible(position_of(i)), first_key, own) - first_key;
      float* row = rest.view.row(i);
      std::fill(row, row + begin, 0.0f);
      for (int64_t j = begin; j < compressed; ++j) row[j] *= probe.scale;
      sums[static_cast<size_t>(i)] +=
          Exponentials(row, begin, compressed, offsets[static_cast<size_t>(i)]);
    }
    Multiply(rest.view, late_values, out.view);
    for (int64_t i = 0; i < n; ++i) {
      const double sum = sums[static_cast<size_t>(i)], exact = exact_sums[static_cast<size_t>(i)];
      for (int64_t d = 0; d < head_dim; ++d) {
        const double with = (double{fixed_out.view.row(i)[d]} + out.view.row(i)[d]) / sum;
        const double without =
            (double{fixed_out.view.row(i)[d]} + exact_out.view.row(i)[d]) / exact;
        errors[s] += (with - without) * (with - without);
      }
    }
  }
  return errors;
}

}  // namespace tq
