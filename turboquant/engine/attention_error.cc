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
MatrixView<const float> ColumnsOf(const Matrix& m, int64_t begin, int64_t end) {
  return {m.view.data + begin, m.view.rows, end - begin, m.view.stride};
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
  const int64_t head_dim = probe.k.cols, tokens = probe.k.rows;
  const int64_t first_key = int64_t{probe.first_page} * kPageTokens;  // the first compressed one
  std::vector<int64_t> positions;  // of the queries: they have a compressed page before their own
  for (int64_t t = first_key + kPageTokens; t < tokens; t += probe.query_step)
    positions.push_back(t);
  const auto n = static_cast<int64_t>(positions.size());
  std::vector<double> errors(stored.size(), 0.0);
  if (n == 0) return errors;

  Matrix q(n, head_dim), scores(n, tokens);
  for (int64_t i = 0; i < n; ++i)
    std::copy_n(probe.q.row(positions[static_cast<size_t>(i)]), head_dim, q.view.row(i));
  MultiplyTransposed(q.view, probe.k, scores.view);

  // Weights of a query: `fixed` on keys that are never compressed (before first_key, and its own
  // page's), the rest on compressed ones. Outputs are kept unnormalised: only the rest changes.
  const auto first_visible = [&](int64_t position) {
    return probe.sliding_window == 0 ? 0
                                     : std::max<int64_t>(0, position - probe.sliding_window + 1);
  };
  const auto page_begin = [](int64_t position) { return position / kPageTokens * kPageTokens; };
  std::vector<float> offsets(static_cast<size_t>(n));
  std::vector<double> fixed_sums(static_cast<size_t>(n)), exact_sums(static_cast<size_t>(n));
  Matrix rest(n, tokens - first_key);  // weights of compressed keys
  for (int64_t i = 0; i < n; ++i) {
    const int64_t position = positions[static_cast<size_t>(i)], seen = first_visible(position);
    float* row = scores.view.row(i);
    float most = -INFINITY;
    for (int64_t j = seen; j <= position; ++j) most = std::max(most, row[j] *= probe.scale);
    offsets[static_cast<size_t>(i)] = most;
    const int64_t own = page_begin(position), compressed = std::max(first_key, seen);
    std::fill(row, row + seen, 0.0f);
    std::fill(row + position + 1, row + tokens, 0.0f);
    const double before = Exponentials(row, seen, std::max(seen, first_key), most);
    const double after = Exponentials(row, std::max(own, seen), position + 1, most);
    fixed_sums[static_cast<size_t>(i)] = before + after;
    double sum = 0;
    if (compressed < own) {
      sum = Exponentials(row, compressed, own, most);
      std::copy(row + compressed, row + own, rest.view.row(i) + (compressed - first_key));
      std::fill(row + compressed, row + own, 0.0f);
    }
    exact_sums[static_cast<size_t>(i)] = before + after + sum;
  }
  const MatrixView<const float> late_values = RowsOf(probe.v, first_key, tokens);
  Matrix fixed_out(n, head_dim), exact_out(n, head_dim), out(n, head_dim);
  Multiply(ColumnsOf(scores, 0, tokens), probe.v, fixed_out.view);
  Multiply(rest.view, late_values, exact_out.view);

  Matrix stored_q(n, head_dim);
  for (size_t s = 0; s < stored.size(); ++s) {
    stored_q.floats = q.floats;
    stored_q.view.data = stored_q.floats.data();
    ToStoredBasis(stored[s].map.queries, stored_q.view);
    MultiplyTransposed(stored_q.view, {stored[s].decoded.data(), tokens - first_key, head_dim},
                       rest.view);
    std::vector<double> sums = fixed_sums;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t position = positions[static_cast<size_t>(i)];
      const int64_t begin = std::max(first_key, first_visible(position)) - first_key;
      const int64_t end = page_begin(position) - first_key;
      float* row = rest.view.row(i);
      std::fill(row, row + std::min(begin, end), 0.0f);
      std::fill(row + end, row + rest.view.cols, 0.0f);
      for (int64_t j = begin; j < end; ++j) row[j] *= probe.scale;
      if (begin < end)
        sums[static_cast<size_t>(i)] +=
            Exponentials(row, begin, end, offsets[static_cast<size_t>(i)]);
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
