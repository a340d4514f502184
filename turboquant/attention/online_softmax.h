// SPDX-License-Identifier: Apache-2.0
// The state of softmax over part of the keys, and how two parts become one. Splits over threads and
// pages, sealed and open forms, fresh keys: all of them merge like this and in no other way.
//
// Scores are in base 2 (already times log2 e). A part stands for
//   m = max of its scores, l = sum of 2^(x - m), o = sum of 2^(x - m) v.
#pragma once

#include <math.h>

#include <cstdint>

namespace tq {

// Maximum of no scores at all: finite, so that differences of it are numbers.
inline constexpr float kNoScore = -1e30f;

// One query column's state; o [D].
struct SoftmaxPart {
  float m = kNoScore;
  float l = 0;
  float* o = nullptr;
};

// Factors by which both sides' l and o are multiplied when they become one part with maximum m.
struct MergeFactors {
  float m, into, from;
};
[[gnu::always_inline]] inline MergeFactors FactorsOf(float m_into, float m_from) {
  const float m = m_into > m_from ? m_into : m_from;
  return {m, ::exp2f(m_into - m), ::exp2f(m_from - m)};
}

inline void MergeInto(SoftmaxPart& into, const SoftmaxPart& from, int dims) {
  const MergeFactors f = FactorsOf(into.m, from.m);
  into.m = f.m;
  into.l = into.l * f.into + from.l * f.from;
  for (int d = 0; d < dims; ++d) into.o[d] = into.o[d] * f.into + from.o[d] * f.from;
}

// o / l; zero where nothing was visible.
inline void FinishInto(const SoftmaxPart& part, int dims, float* out) {
  const float inverse = part.l > 0 ? 1.0f / part.l : 0.0f;
  for (int d = 0; d < dims; ++d) out[d] = part.o[d] * inverse;
}

}  // namespace tq
