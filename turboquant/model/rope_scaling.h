// SPDX-License-Identifier: Apache-2.0
// Rotary frequencies after the scaling rules that model files name.
#pragma once

#include <span>
#include <vector>

namespace tq {

// base^(-2 i / rotary_dim), [rotary_dim / 2] radians per position.
std::vector<double> RopeFrequencies(double base, int rotary_dim);

// Position interpolation (Chen et al. 2023): all positions divided by `factor`.
void ScaleLinear(std::vector<double>& frequencies, double factor);

// YaRN (Peng et al. 2023): fast dims keep their frequency, slow ones are divided by `factor`, a
// ramp lies between the dims that turn beta_fast and beta_slow times over the original context.
struct YarnParameters {
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double extrapolation = 1;  // weight of the fast dims' own frequency
  double attention_factor = 1;
};
void ScaleYarn(std::vector<double>& frequencies, double base, const YarnParameters& yarn);
// What cos and sin are multiplied by: attention_factor (1 + 0.1 ln factor).
double YarnMagnitude(const YarnParameters& yarn);

// Frequencies divided one by one: how converted files carry llama3's rule ("rope_freqs.weight").
void DivideFrequencies(std::vector<double>& frequencies, std::span<const float> factors);

// Those divisors as Llama 3.1 defines them.
struct Llama3Parameters {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_context = 8192;
};
std::vector<float> Llama3Factors(std::span<const double> frequencies,
                                 const Llama3Parameters& llama3);

}  // namespace tq
