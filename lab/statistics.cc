// SPDX-License-Identifier: Apache-2.0
#include "lab/statistics.h"

#include <algorithm>
#include <cmath>

#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

double PlainMean(std::span<const float> samples) {
  double sum = 0;
  for (const float x : samples) sum += x;
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

}  // namespace

Estimate Mean(std::span<const float> samples) {
  Estimate result{PlainMean(samples), 0};
  if (samples.size() <= 10) return result;
  double squares = 0;
  for (const float x : samples) squares += (x - result.value) * (x - result.value);
  const auto n = static_cast<double>(samples.size());
  result.error = std::sqrt(squares / n / (n - 1));
  return result;
}

Estimate BlockMean(std::span<const float> samples, int block) {
  const size_t size = static_cast<size_t>(block);
  const size_t blocks = samples.size() / size;
  if (blocks < 8) return Mean(samples);
  std::vector<double> means;
  double total = 0;
  for (size_t b = 0; b < blocks; ++b) {
    means.push_back(PlainMean(samples.subspan(b * size, size)));
    total += means.back();
  }
  total /= static_cast<double>(blocks);
  double squares = 0;
  for (const double m : means) squares += (m - total) * (m - total);
  const auto n = static_cast<double>(blocks);
  return {PlainMean(samples), std::sqrt(squares / (n * (n - 1)))};
}

Estimate BlockDifference(std::span<const float> a, std::span<const float> b, int block) {
  TQ_CHECK(a.size() == b.size());
  std::vector<float> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return BlockMean(difference, block);
}

double CovarianceOfMeans(std::span<const float> a, std::span<const float> b) {
  TQ_CHECK(a.size() == b.size());
  if (a.size() < 10) return 0;
  const double mean_a = PlainMean(a), mean_b = PlainMean(b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - mean_a) * (b[i] - mean_b);
  const auto n = static_cast<double>(a.size());
  return sum / n / (n - 1);
}

Estimate ExpOfMean(std::span<const float> samples) {
  const Estimate mean = Mean(samples);
  const double value = std::exp(mean.value);
  return {value, value * mean.error};
}

Estimate PairedDifference(std::span<const float> a, std::span<const float> b) {
  const Estimate mean_a = Mean(a), mean_b = Mean(b);
  const double variance =
      mean_a.error * mean_a.error + mean_b.error * mean_b.error - 2 * CovarianceOfMeans(a, b);
  return {mean_a.value - mean_b.value, std::sqrt(std::max(variance, 0.0))};
}

Share WilsonShare(int64_t hits, int64_t samples) {
  TQ_CHECK(hits >= 0 && hits <= samples);
  if (samples == 0) return {};
  constexpr double kZ = 1.959963985;  // of 95 %
  const auto n = static_cast<double>(samples);
  const double p = static_cast<double>(hits) / n, z2 = kZ * kZ / n;
  const double centre = (p + z2 / 2) / (1 + z2);
  const double half = kZ * std::sqrt(p * (1 - p) / n + z2 / (4 * n)) / (1 + z2);
  return {p, std::max(centre - half, 0.0), std::min(centre + half, 1.0)};
}

double Percentile(std::span<const float> sorted, double fraction) {
  TQ_CHECK(!sorted.empty());
  const double place = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return (1 - part) * sorted[below] + part * sorted[above];
}

std::vector<float> Sorted(std::span<const float> samples) {
  std::vector<float> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace tq::lab
