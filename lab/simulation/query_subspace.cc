// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/query_subspace.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/codebook.h"

namespace tq::lab {
namespace {

using Doubles = std::vector<double>;

constexpr int kIterations = 40;  // of the subspace; what it misses then is nearly as large

double Dot(const double* a, const double* b, size_t n) {
  return std::inner_product(a, a + n, b, 0.0);
}

// Gram and Schmidt, rows [rank][D] in place.
void Orthonormalise(Doubles& rows, size_t dims) {
  for (size_t begin = 0; begin < rows.size(); begin += dims) {
    double* row = rows.data() + begin;
    for (int again = 0; again < 2; ++again) {  // once more, against cancellation
      for (size_t before = 0; before < begin; before += dims) {
        const double part = Dot(row, rows.data() + before, dims);
        for (size_t d = 0; d < dims; ++d) row[d] -= part * rows[before + d];
      }
    }
    const double norm = std::sqrt(Dot(row, row, dims));
    for (size_t d = 0; d < dims; ++d) row[d] = norm > 0 ? row[d] / norm : 0;
  }
}

// rows <- rows M, M symmetric.
Doubles Times(const Doubles& rows, std::span<const double> m, size_t dims) {
  Doubles out(rows.size());
  for (size_t begin = 0; begin < rows.size(); begin += dims) {
    for (size_t i = 0; i < dims; ++i)
      out[begin + i] = Dot(rows.data() + begin, m.data() + i * dims, dims);
  }
  return out;
}

Doubles LargestDirections(std::span<const double> moment, size_t dims, size_t rank) {
  Doubles rows(rank * dims);
  Random random(1);
  for (double& x : rows) x = random.Gaussian();
  Orthonormalise(rows, dims);
  for (int i = 0; i < kIterations; ++i) {
    rows = Times(rows, moment, dims);
    Orthonormalise(rows, dims);
  }
  return rows;
}

// L with L L^T = a, in place of the lower triangle.
void Cholesky(Doubles& a, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      const double rest = a[i * n + j] - Dot(&a[i * n], &a[j * n], j);
      a[i * n + j] = i == j ? std::sqrt(rest) : rest / a[j * n + j];
    }
  }
}

// The level nearest to x, in units of the codebook.
float NearestLevel(const Codebook& book, float x) {
  const float size = std::abs(x);
  const auto index =
      static_cast<size_t>(std::lower_bound(book.thresholds.begin(), book.thresholds.end(), size) -
                          book.thresholds.begin());
  return std::copysign(static_cast<float>(book.doubled[index]) / 2, x);
}

float Norm(const float* x, size_t n) { return std::sqrt(std::inner_product(x, x + n, x, 0.0f)); }

}  // namespace

QuerySubspace::QuerySubspace(std::span<const double> moment, int dims, int rank) : dims_(dims) {
  const auto n = static_cast<size_t>(dims);
  TQ_CHECK(moment.size() == n * n && rank >= 1);
  const size_t r = std::min(static_cast<size_t>(rank), n - 1);
  double all = 0, inside = 0;
  for (size_t d = 0; d < n; ++d) all += moment[d * n + d];
  if (all > 0 && std::isfinite(all)) {
    directions_ = LargestDirections(moment, n, r);
    const Doubles image = Times(directions_, moment, n);
    inside = Dot(image.data(), directions_.data(), image.size());
    const double outside = std::max(all - inside, 1e-6 * all);
    weight_ =
        std::max(inside / static_cast<double>(r) / (outside / static_cast<double>(n - r)) - 1, 0.0);
  }
  // Harm is e^T (I + w U^T U) e. As in GPTQ (Frantar et al., arXiv 2210.17323), the rows of the
  // upper factor of the inverse say how the values behind an error make up for it best.
  Doubles inverse(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t at = 0; at < directions_.size(); at += n)
        sum += directions_[at + i] * directions_[at + j];
      inverse[i * n + j] = (i == j ? 1.0 : 0.0) - weight_ / (1 + weight_) * sum;
    }
  }
  Cholesky(inverse, n);
  feedback_.resize(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j)
      feedback_[i * n + j] = static_cast<float>(inverse[j * n + i] / inverse[i * n + i]);
  }
}

void QuerySubspace::Code(const FakeCodec& codec, int bits, MatrixView<float> rows) const {
  const auto n = static_cast<size_t>(dims_);
  TQ_CHECK(rows.cols == dims_);
  const Codebook& book = CodebookOfBits(bits);
  std::vector<float> norms, left(n);
  for (int64_t r = 0; r < rows.rows; ++r) {
    float* x = rows.row(r);
    norms.push_back(Norm(x, n));
    if (!(norms.back() > 0)) continue;
    const float gain = CodebookGain(bits, dims_) / norms.back();
    // A code is read back with the norm kept, so that it is a little longer than its level.
    for (size_t d = 0; d < n; ++d) left[d] = NearestLevel(book, x[d] * gain);
    const float longer = norms.back() * gain / std::max(Norm(left.data(), n), 1e-30f);
    std::copy_n(x, n, left.begin());
    for (size_t i = 0; i < n; ++i) {
      const float level = NearestLevel(book, left[i] * gain);
      const float error = left[i] - level * longer / gain;
      for (size_t j = i + 1; j < n; ++j) left[j] -= error * feedback_[i * n + j];
      x[i] = level / gain;
    }
  }
  codec(rows);
  for (int64_t r = 0; r < rows.rows; ++r) {
    float* x = rows.row(r);
    const float now = Norm(x, n), factor = now > 0 ? norms[static_cast<size_t>(r)] / now : 0;
    for (size_t d = 0; d < n; ++d) x[d] *= factor;
  }
}

double QuerySubspace::Harm(std::span<const float> error) const {
  const Doubles e(error.begin(), error.end());
  double harm = Dot(e.data(), e.data(), e.size());
  for (size_t at = 0; at < directions_.size(); at += e.size()) {
    const double part = Dot(e.data(), directions_.data() + at, e.size());
    harm += weight_ * part * part;
  }
  return harm / dims_;
}

}  // namespace tq::lab
