// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/channel_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tq::lab {
namespace {

constexpr double kStrength = 0.2;

}  // namespace

std::vector<float> ChannelMeans(MatrixView<const float> rows) {
  std::vector<double> sum(static_cast<size_t>(rows.cols));
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t d = 0; d < rows.cols; ++d) sum[static_cast<size_t>(d)] += rows.row(r)[d];
  }
  const double count = static_cast<double>(std::max<int64_t>(rows.rows, 1));
  std::vector<float> mean(sum.size());
  std::transform(sum.begin(), sum.end(), mean.begin(),
                 [&](double x) { return static_cast<float>(x / count); });
  return mean;
}

std::vector<float> ChannelScales(MatrixView<const float> rows, const float* reference) {
  const auto dims = static_cast<size_t>(rows.cols);
  std::vector<double> rms(dims);
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (size_t d = 0; d < dims; ++d) {
      const double x = double{rows.row(r)[d]} - (reference != nullptr ? reference[d] : 0.0f);
      rms[d] += x * x;
    }
  }
  for (double& x : rms) x = std::sqrt(x / static_cast<double>(std::max<int64_t>(rows.rows, 1)));
  const double mean = std::accumulate(rms.begin(), rms.end(), 0.0) / static_cast<double>(dims);
  std::vector<float> scales(dims, 1.0f);
  for (size_t d = 0; d < dims; ++d) {
    // A channel that is zero throughout takes the limit.
    if (mean > 0)
      scales[d] = static_cast<float>(std::clamp(std::pow(mean / rms[d], kStrength), 0.5, 2.0));
  }
  return scales;
}

}  // namespace tq::lab
