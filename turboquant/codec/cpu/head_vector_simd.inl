// SPDX-License-Identifier: Apache-2.0
// The arithmetic of one head vector, sixteen values at a time, in the order that the scalar codec
// states. Included after f16_*.inl. Codes are bytes in the order of dims here;
// tile_shuffle_simd.inl brings them into tiles.

static constexpr float kMaxFloat = 0x1.fffffep127f;
static constexpr float kMaxHalf = 65504.0f;
static constexpr float kMaxBFloat16 = 0x1.fep127f;

static inline float HalfAt(const void* p) {
  uint16_t h;
  __builtin_memcpy(&h, p, 2);
  return _cvtsh_ss(h);
}
static inline void StoreHalf(void* p, uint16_t h) { __builtin_memcpy(p, &h, 2); }
static inline uint16_t FiniteHalf(float x) {
  const float clamped = x > kMaxHalf ? kMaxHalf : x < -kMaxHalf ? -kMaxHalf : x;
  return _cvtss_sh(clamped, _MM_FROUND_TO_NEAREST_INT);
}
static inline float HalfValue(uint16_t h) { return _cvtsh_ss(h); }
static inline float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

static inline F16 Sanitize(F16 x) { return ClampF(NanToZero(x), kMaxFloat); }

// int8 codes of z - r under the returned f16 scale. r null means none; n a multiple of 16, at most
// 512.
static inline uint16_t EncodeVector8(const float* z, const float* r, int n, std::byte* codes) {
  float x[512];
  F16 absmax = SetF(0);
  for (int i = 0; i < n; i += 16) {
    F16 value = Sanitize(LoadF(z + i));
    if (r != nullptr) value = SubF(value, LoadF(r + i));
    StoreF(x + i, value);
    absmax = MaxF(absmax, AbsF(value));
  }
  const uint16_t stored = FiniteHalf(MaxOf(absmax) / 127.0f);
  const float scale = HalfValue(stored);
  if (scale == 0) {
    __builtin_memset(codes, 0, static_cast<size_t>(n));
    return stored;
  }
  const F16 divisor = SetF(scale);
  for (int i = 0; i < n; i += 16) {
    StoreBytes(codes + i, RoundI(ClampF(DivF(LoadF(x + i), divisor), 127.0f)));
  }
  return stored;
}

// (level byte [+ 1/2]) * scale [+ r]: kHalf for 4 bits, whose levels are half-integers.
template <bool kHalf>
static inline F16 Decode16(const std::byte* levels, F16 scale, const float* r) {
  F16 value = LoadBytes(levels);
  if constexpr (kHalf) value = AddF(value, SetF(0.5f));
  value = MulF(value, scale);
  return r != nullptr ? AddF(value, LoadF(r)) : value;
}

static inline void DecodeVector(const std::byte* levels, float scale, const float* r, bool half,
                                int n, float* out) {
  const F16 wide = SetF(scale);
  if (half) {
    for (int i = 0; i < n; i += 16)
      StoreF(out + i, Decode16<true>(levels + i, wide, r == nullptr ? r : r + i));
  } else {
    for (int i = 0; i < n; i += 16)
      StoreF(out + i, Decode16<false>(levels + i, wide, r == nullptr ? r : r + i));
  }
}

static inline void AddTo(float* sums, const float* x, int n) {
  for (int i = 0; i < n; i += 16) StoreF(sums + i, AddF(LoadF(sums + i), LoadF(x + i)));
}

// One codec's constants, taken from its codebook once per call.
struct Quantizer {
  const float* thresholds;
  int squares[8];  // (2 level)^2 of each magnitude
  float gain;      // sigma * sqrt(D)
};

// Norm-matched codes of a vector of level bytes (decoded, r added, the sealed page's own mean taken
// off); returns the f16 scale. `codes` may be `bytes`.
template <int kBits>
static inline uint16_t SealVector(const Quantizer& q, const std::byte* bytes, float scale,
                                  const float* r, bool half, const float* mean, int n,
                                  std::byte* codes) {
  constexpr int kMagnitudes = 1 << (kBits - 1);
  float x[512];
  const F16 wide = SetF(scale);
  F16 sums = SetF(0);
  for (int i = 0; i < n; i += 16) {
    const float* reference = r == nullptr ? r : r + i;
    F16 value = half ? Decode16<true>(bytes + i, wide, reference)
                     : Decode16<false>(bytes + i, wide, reference);
    if (mean != nullptr) value = SubF(value, LoadF(mean + i));
    StoreF(x + i, value);
    sums = AddF(sums, MulF(value, value));
  }
  const float norm = SquareRoot(SumTree(sums));
  const F16 gain = SetF(norm > 0 ? q.gain / norm : 0.0f);
  I16 squares = SetI(0);
  for (int i = 0; i < n; i += 16) {
    const F16 y = MulF(LoadF(x + i), gain);
    const F16 magnitude = AbsF(y);
    I16 index = SetI(0);
    for (int m = 0; m + 1 < kMagnitudes; ++m)
      index = CountGreater(index, magnitude, SetF(q.thresholds[m]));
    squares = AddI(squares, Lookup8(q.squares, index));
    // Two and three bits: magnitudes - 1 - index is (magnitudes + index) with all bits flipped.
    if constexpr (kBits != 4) index = AddI(index, SetI(kMagnitudes));
    StoreBytes(codes + i, XorWhereNegative(index, y, kBits == 4 ? 8 : 2 * kMagnitudes - 1));
  }
  const float level_norm = SquareRoot(static_cast<float>(SumOf(squares))) * 0.5f;
  return FiniteHalf(norm / level_norm);
}
