// SPDX-License-Identifier: Apache-2.0
// Means with standard errors, percentiles, and quantities derived from paired samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tq::lab {

struct Estimate {
  double value = 0;
  double error = 0;  // one standard error; 0 where there are too few samples (10 or fewer) to tell
};

// Mean and sqrt(variance / (n - 1)), variance with n below: what llama-perplexity prints.
Estimate Mean(std::span<const float> samples);

// Mean with the standard error of the means of consecutive blocks: honest where neighbours are
// correlated, as the positions of a text are. Falls back to Mean if there are fewer than 8 whole
// blocks.
Estimate BlockMean(std::span<const float> samples, int block);

// mean(a - b) with its error over blocks. Same length.
Estimate BlockDifference(std::span<const float> a, std::span<const float> b, int block);

// Covariance of the two means (0 for fewer than 10 samples). Same length.
double CovarianceOfMeans(std::span<const float> a, std::span<const float> b);

// exp(mean) with its error propagated: perplexity from negative log-likelihoods.
Estimate ExpOfMean(std::span<const float> samples);

// mean(a) - mean(b) of paired samples, its error from both errors and the covariance.
Estimate PairedDifference(std::span<const float> a, std::span<const float> b);

// A share in [0, 1] and the interval that holds the true one with 95 % (Wilson 1927): sound for few
// samples and for shares of 0 and 1, where a standard error is not.
struct Share {
  double value = 0, low = 0, high = 1;
};
Share WilsonShare(int64_t hits, int64_t samples);

// sorted ascending, not empty; linear between neighbours; fraction in [0, 1].
double Percentile(std::span<const float> sorted, double fraction);

std::vector<float> Sorted(std::span<const float> samples);

}  // namespace tq::lab
