// SPDX-License-Identifier: Apache-2.0
// Included by one unit per instruction set, inside its namespace. Plain loops over kLanes values
// that compilers turn into vectors; no std:: calls (see cmake/tq_targets.cmake). Requires:
// row_math.h, included outside the namespace.

constexpr int kLanes = 16;

// e^x for x <= 0 to about 1e-7 relative; below -87: e^-87. Cody-Waite reduction, polynomial of
// degree 6.
inline float Exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float shifted =
      x * 1.44269504f + 12582912.0f;  // rounds x / ln 2 to an integer, kept in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  int32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(static_cast<uint32_t>(bits + 127) << 23);
  float scale;
  __builtin_memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

SoftmaxStats Softmax(const float* logits, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  float maxima[kLanes];
  for (int l = 0; l < kLanes; ++l) maxima[l] = -__builtin_inff();
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int l = 0; l < kLanes; ++l)
      maxima[l] = logits[i + l] > maxima[l] ? logits[i + l] : maxima[l];
  }
  float max = maxima[0];
  for (int l = 1; l < kLanes; ++l) max = maxima[l] > max ? maxima[l] : max;
  for (int64_t i = whole; i < n; ++i) max = logits[i] > max ? logits[i] : max;

  double sums[kLanes] = {};
  for (int64_t i = 0; i < whole; i += kLanes) {
    float terms[kLanes];
    for (int l = 0; l < kLanes; ++l) terms[l] = Exp(logits[i + l] - max);
    for (int l = 0; l < kLanes; ++l) sums[l] += static_cast<double>(terms[l]);
  }
  double sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += sums[l];
  for (int64_t i = whole; i < n; ++i) sum += static_cast<double>(Exp(logits[i] - max));

  SoftmaxStats stats;
  stats.max = max;
  stats.log_sum_exp = __builtin_log(sum);
  stats.argmax = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (logits[i] == max) {
      stats.argmax = static_cast<int>(i);
      break;
    }
  }
  return stats;
}

inline float DivergenceTerm(float p_logit, float p_offset, float q_logit, float q_offset,
                            float cutoff) {
  const float log_p = p_logit - p_offset;
  const float term = Exp(log_p) * (log_p - (q_logit - q_offset));
  return log_p > cutoff ? term : 0.0f;
}

double Divergence(const float* p_logits, float p_offset, const float* q_logits, float q_offset,
                  int64_t n, float cutoff) {
  const int64_t whole = n / kLanes * kLanes;
  double sums[kLanes] = {};
  for (int64_t i = 0; i < whole; i += kLanes) {
    float terms[kLanes];
    for (int l = 0; l < kLanes; ++l)
      terms[l] = DivergenceTerm(p_logits[i + l], p_offset, q_logits[i + l], q_offset, cutoff);
    for (int l = 0; l < kLanes; ++l) sums[l] += static_cast<double>(terms[l]);
  }
  double sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += sums[l];
  for (int64_t i = whole; i < n; ++i) {
    sum +=
        static_cast<double>(DivergenceTerm(p_logits[i], p_offset, q_logits[i], q_offset, cutoff));
  }
  return sum;
}

void Encode(const float* logits, float low, float scale, int64_t n, uint16_t* codes) {
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    // Not (x > low) also sends NaN to 0.
    const float code = logits[i] > low ? inverse * (logits[i] - low) : 0.0f;
    const float capped = code < 65535.0f ? code : 65535.0f;
    const float shifted = capped + 12582912.0f;  // round to nearest even
    int32_t bits;
    __builtin_memcpy(&bits, &shifted, sizeof bits);
    codes[i] = static_cast<uint16_t>(bits & 0xffff);
  }
}

void Decode(const uint16_t* codes, float scale, float low, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = scale * static_cast<float>(codes[i]) + low;
}

extern const RowMath kRowMath;
const RowMath kRowMath = {Softmax, Divergence, Encode, Decode};
