// SPDX-License-Identifier: Apache-2.0
// Rotation over vectors; included inside tq::avx2 and tq::avx512 after these are defined:
//   Vector, kWidth, Load, Store, Broadcast, Add, Sub, Mul, FusedMulAdd, Butterfly<stride> (within a
//   vector).
//
// Rows are taken kRows at a time such that one vector holds whole blocks of `inner`: vector a *
// kInnerVectors + j.

// Sums of P_m: +-1 times x is exact, so a fused multiply-add rounds once, as an addition or
// subtraction does.
template <int kOrder, int kInnerVectors>
static inline void MultiplyPaley(const float* paley, Vector* v) {
  constexpr int kBlock =
      kWidth == 16 ? kOrder : (kOrder == 12 ? 12 : kOrder / 2);  // accumulators fit registers
  for (int j = 0; j < kInnerVectors; ++j) {
    Vector out[kOrder];
    for (int block = 0; block < kOrder; block += kBlock) {
      Vector sums[kBlock];
#pragma GCC unroll 32
      for (int a = 0; a < kBlock; ++a) sums[a] = Mul(v[j], Broadcast(paley[(block + a) * kOrder]));
      for (int i = 1; i < kOrder; ++i) {
        const Vector x = v[i * kInnerVectors + j];
#pragma GCC unroll 32
        for (int a = 0; a < kBlock; ++a)
          sums[a] = FusedMulAdd(x, Broadcast(paley[(block + a) * kOrder + i]), sums[a]);
      }
#pragma GCC unroll 32
      for (int a = 0; a < kBlock; ++a) out[block + a] = sums[a];
    }
    for (int a = 0; a < kOrder; ++a) v[a * kInnerVectors + j] = out[a];
  }
}

template <int kOrder, int kInner>
static inline void Transform(const float* paley, Vector* v) {
  constexpr int kInnerVectors = kInner < kWidth ? 1 : kInner / kWidth;
  constexpr int kVectors = kOrder * kInnerVectors;
  for (int i = 0; i < kVectors; ++i) {
    if constexpr (kInner > 1) v[i] = Butterfly<1>(v[i]);
    if constexpr (kInner > 2) v[i] = Butterfly<2>(v[i]);
    if constexpr (kInner > 4) v[i] = Butterfly<4>(v[i]);
    if constexpr (kInner > 8 && kWidth > 8) v[i] = Butterfly<8>(v[i]);
  }
#pragma GCC unroll 8
  for (int half = 1; half < kInnerVectors; half *= 2) {
    for (int block = 0; block < kVectors; block += 2 * half) {
      for (int i = block; i < block + half; ++i) {
        const Vector sum = Add(v[i], v[i + half]);
        v[i + half] = Sub(v[i], v[i + half]);
        v[i] = sum;
      }
    }
  }
  if constexpr (kOrder > 1) MultiplyPaley<kOrder, kInnerVectors>(paley, v);
}

template <int kOrder, int kInner>
static void RotateAll(const RotationPlan& plan, float* x, int64_t count, int64_t stride) {
  constexpr int kDims = kOrder * kInner;
  constexpr int kVectors = kInner < kWidth ? kOrder : kDims / kWidth;
  constexpr int kRows = kInner < kWidth ? kWidth / kInner : 1;
  for (int64_t row = 0; row < count; row += kRows) {
    float* first = x + row * stride;
    Vector v[kVectors];
    if constexpr (kRows == 1) {
      for (int i = 0; i < kVectors; ++i) {
        v[i] = Load(first + i * kWidth);
        if (!plan.back) v[i] = Mul(v[i], Load(plan.before + i * kWidth));
      }
      Transform<kOrder, kInner>(plan.paley, v);
      for (int i = 0; i < kVectors; ++i)
        Store(first + i * kWidth, Mul(v[i], Load(plan.after + i * kWidth)));
    } else {
      // Several rows side by side: block a of each row in one vector.
      const int rows = count - row < kRows ? static_cast<int>(count - row) : kRows;
      alignas(64) float tile[kRows * kDims] = {};
      for (int r = 0; r < rows; ++r) {
        for (int i = 0; i < kDims; i += kWidth) {
          Vector value = Load(first + r * stride + i);
          if (!plan.back) value = Mul(value, Load(plan.before + i));
          Store(tile + r * kDims + i, value);
        }
      }
      for (int a = 0; a < kOrder; ++a) v[a] = LoadBlocks<kInner>(tile + a * kInner, kDims);
      Transform<kOrder, kInner>(plan.paley, v);
      for (int a = 0; a < kOrder; ++a) StoreBlocks<kInner>(tile + a * kInner, kDims, v[a]);
      for (int r = 0; r < rows; ++r) {
        for (int i = 0; i < kDims; i += kWidth) {
          Store(first + r * stride + i, Mul(Load(tile + r * kDims + i), Load(plan.after + i)));
        }
      }
    }
  }
}

void RotateRows(const RotationPlan& plan, float* x, int64_t count, int64_t stride) noexcept {
  switch (plan.head_dim) {
    case 64:
      return RotateAll<1, 64>(plan, x, count, stride);
    case 80:
      return RotateAll<20, 4>(plan, x, count, stride);
    case 96:
      return RotateAll<12, 8>(plan, x, count, stride);
    case 112:
      return RotateAll<28, 4>(plan, x, count, stride);
    case 128:
      return RotateAll<1, 128>(plan, x, count, stride);
    case 192:
      return RotateAll<12, 16>(plan, x, count, stride);
    case 256:
      return RotateAll<1, 256>(plan, x, count, stride);
    case 512:
      return RotateAll<1, 512>(plan, x, count, stride);
    default:
      return scalar::RotateRows(plan, x, count, stride);
  }
}
