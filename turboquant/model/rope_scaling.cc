// SPDX-License-Identifier: Apache-2.0
#include "turboquant/model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tq {

std::vector<double> RopeFrequencies(double base, int rotary_dim) {
  std::vector<double> frequencies(rotary_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / rotary_dim);
  return frequencies;
}

void ScaleLinear(std::vector<double>& frequencies, double factor) {
  for (double& f : frequencies) f /= factor;
}

void ScaleYarn(std::vector<double>& frequencies, double base, const YarnParameters& yarn) {
  const auto pairs = static_cast<double>(frequencies.size());
  // The pair that turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    return pairs * std::log(yarn.original_context / (turns * 2 * std::numbers::pi)) /
           std::log(base);
  };
  const double low = std::max(std::floor(pair_of(yarn.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_of(yarn.beta_slow)), 2 * pairs - 1);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp =
        std::clamp((static_cast<double>(i) - low) / std::max(high - low, 1e-3), 0.0, 1.0);
    const double own = (1 - ramp) * yarn.extrapolation;
    frequencies[i] = frequencies[i] / yarn.factor * (1 - own) + frequencies[i] * own;
  }
}

double YarnMagnitude(const YarnParameters& yarn) {
  return yarn.attention_factor * (yarn.factor > 1 ? 1 + 0.1 * std::log(yarn.factor) : 1.0);
}

void DivideFrequencies(std::vector<double>& frequencies, std::span<const float> factors) {
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= factors[i];
}

std::vector<float> Llama3Factors(std::span<const double> frequencies,
                                 const Llama3Parameters& llama3) {
  std::vector<float> factors(frequencies.size());
  const double low_wavelength = llama3.original_context / llama3.low_freq_factor;
  const double high_wavelength = llama3.original_context / llama3.high_freq_factor;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi / frequencies[i];
    double divisor = 1;
    if (wavelength > low_wavelength) {
      divisor = llama3.factor;
    } else if (wavelength > high_wavelength) {
      const double smooth = (llama3.original_context / wavelength - llama3.low_freq_factor) /
                            (llama3.high_freq_factor - llama3.low_freq_factor);
      divisor = 1 / ((1 - smooth) / llama3.factor + smooth);
    }
    factors[i] = static_cast<float>(divisor);
  }
  return factors;
}

}  // namespace tq
