// SPDX-License-Identifier: Apache-2.0
// Softmax over the 128 scores of a page, for any Vec. Included inside an ISA's namespace after
// its Vec, its QuantiseWeights and <math.h>.

// Fills scores outside [first, last) so that they weigh nothing.
inline void MaskScores(float* scores, int first, int last) {
  for (int i = 0; i < first; ++i) scores[i] = kNoScore;
  for (int i = last; i < kPageTokens; ++i) scores[i] = kNoScore;
}

inline float LargestScore(const float* scores) {
  Vec::F largest = Vec::Load(scores);
  for (int i = Vec::kWidth; i < kPageTokens; i += Vec::kWidth) {
    largest = Vec::Max(largest, Vec::Load(scores + i));
  }
  return Vec::Largest(largest);
}

// Merges a page with maximum page_m and sum page_l into m and l; returns the factor of what is
// there already, and in *page_factor that of the page.
inline float MergePage(float page_m, float page_l, float* m, float* l, float* page_factor) {
  const MergeFactors f = FactorsOf(*m, page_m);
  *m = f.m;
  *l = *l * f.into + page_l * f.from;
  *page_factor = f.from;
  return f.into;
}

void Weigh(const Columns& columns, int column, int first, int last,
           const float* value_scales) noexcept {
  float* x = columns.scores + column * kPageTokens;
  MaskScores(x, first, last);
  const float page_m = LargestScore(x);
  const Vec::F minus_m = Vec::Set1(-page_m);
  Vec::F sum = Vec::Zero();
  Vec::F largest = Vec::Zero();
  for (int i = 0; i < kPageTokens; i += Vec::kWidth) {
    const Vec::F w = Vec::Exp2(Vec::Add(Vec::Load(x + i), minus_m));
    sum = Vec::Add(sum, w);
    if (value_scales != nullptr) {
      const Vec::F u = Vec::Mul(w, Vec::Load(value_scales + i));
      largest = Vec::Max(largest, u);
      Vec::Store(x + i, u);
    } else {
      Vec::Store(x + i, w);
    }
  }
  float page_factor;
  columns.keep[column] =
      MergePage(page_m, Vec::Sum(sum), &columns.m[column], &columns.l[column], &page_factor);
  if (value_scales == nullptr) {
    const Vec::F factor = Vec::Set1(page_factor);
    for (int i = 0; i < kPageTokens; i += Vec::kWidth) {
      Vec::Store(x + i, Vec::Mul(Vec::Load(x + i), factor));
    }
    return;
  }
  // Block float: the largest weight of the page times its V scale becomes kWeightLevels.
  const float top = Vec::Largest(largest);
  const bool any = top > 1e-30f;
  columns.p_scale[column] = any ? page_factor * top / kWeightLevels : 0.0f;
  columns.p_sum[column] =
      QuantiseWeights(x, any ? kWeightLevels / top : 0.0f, columns.p_codes + column * kWeightBytes);
}

float WeighRow(float* x, int first, int last, float* m, float* l) noexcept {
  if (first >= last) {
    for (int i = 0; i < kPageTokens; i += Vec::kWidth) Vec::Store(x + i, Vec::Zero());
    return 1.0f;
  }
  MaskScores(x, first, last);
  // The running maximum itself is the reference: weights need no second factor.
  const float top = LargestScore(x);
  const float new_m = top > *m ? top : *m;
  const float keep = ::exp2f(*m - new_m);
  const Vec::F minus_m = Vec::Set1(-new_m);
  Vec::F sum = Vec::Zero();
  for (int i = 0; i < kPageTokens; i += Vec::kWidth) {
    const Vec::F w = Vec::Exp2(Vec::Add(Vec::Load(x + i), minus_m));
    sum = Vec::Add(sum, w);
    Vec::Store(x + i, w);
  }
  *m = new_m;
  *l = *l * keep + Vec::Sum(sum);
  return keep;
}
