// SPDX-License-Identifier: Apache-2.0
// Rows of the comparison codecs over vectors; rows_scalar.cc defines them and takes what is left of
// a row.

static void EncodeQ8Block(const float* x, std::byte* block) {
  const uint16_t stored = EncodeVector8(x, nullptr, 32, block + 2);
  StoreHalf(block, stored);
}

static void EncodeQ4Block(const float* x, std::byte* block) {
  const F16 a = Sanitize(LoadF(x)), b = Sanitize(LoadF(x + 16));
  const float absmax = MaxOf(MaxF(AbsF(a), AbsF(b)));
  int first = FirstEqual(AbsF(a), SetF(absmax));
  if (first == 16) first = 16 + FirstEqual(AbsF(b), SetF(absmax));
  const float extreme = absmax == 0 ? 0.0f : x[first] < 0 ? -absmax : absmax;
  const uint16_t stored = FiniteHalf(extreme / -8.0f);
  const float scale = HalfValue(stored);
  StoreHalf(block, stored);
  const F16 half = SetF(8.5f), divisor = SetF(scale == 0 ? 1.0f : scale),
            keep = SetF(scale == 0 ? 0.0f : 1.0f);
  const auto codes = [&](F16 v) {
    const F16 ratio = MulF(ClampF(DivF(v, divisor), 8.0f), keep);
    return MinI(TruncateI(AddF(ratio, half)), SetI(15));
  };
  alignas(16) std::byte low[16], high[16];
  StoreBytes(low, codes(a));
  StoreBytes(high, codes(b));
  const __m128i upper = _mm_slli_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(high)), 4);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(block + 2),
                   _mm_or_si128(upper, _mm_load_si128(reinterpret_cast<const __m128i*>(low))));
}

static void EncodeRow(Codec codec, const float* x, int n, std::byte* row) {
  int i = 0;
  int value_bytes = 2;
  switch (codec) {
    case Codec::kF32:
      value_bytes = 4;
      for (; i + 16 <= n; i += 16) {
        float clean[16];
        StoreF(clean, Sanitize(LoadF(x + i)));
        __builtin_memcpy(row + 4 * i, clean, 64);
      }
      break;
    case Codec::kF16:
      for (; i + 16 <= n; i += 16)
        StoreHalves(row + 2 * i, ClampF(NanToZero(LoadF(x + i)), kMaxHalf));
      break;
    case Codec::kBf16:
      for (; i + 16 <= n; i += 16)
        StoreBFloat16(row + 2 * i, ClampF(NanToZero(LoadF(x + i)), kMaxBFloat16));
      break;
    case Codec::kQ8_0:
      for (; i < n; i += 32) EncodeQ8Block(x + i, row + i / 32 * 34);
      return;
    case Codec::kQ4_0:
      for (; i < n; i += 32) EncodeQ4Block(x + i, row + i / 32 * 18);
      return;
    default:
      return;
  }
  if (i < n) scalar::EncodeRow(codec, x + i, n - i, row + i * value_bytes);
}

// Decodes n values of a row from value `first`, a multiple of 32, on.
static void DecodeRow(Codec codec, const std::byte* row, int first, int n, float* out) {
  int i = 0;
  switch (codec) {
    case Codec::kF16:
      for (; i + 16 <= n; i += 16) StoreF(out + i, LoadHalves(row + 2 * (first + i)));
      break;
    case Codec::kBf16:
      for (; i + 16 <= n; i += 16) StoreF(out + i, LoadBFloat16(row + 2 * (first + i)));
      break;
    case Codec::kQ8_0:
      for (; i + 32 <= n; i += 32) {
        const std::byte* block = row + (first + i) / 32 * 34;
        const F16 scale = SetF(HalfAt(block));
        StoreF(out + i, MulF(LoadBytes(block + 2), scale));
        StoreF(out + i + 16, MulF(LoadBytes(block + 18), scale));
      }
      break;
    case Codec::kQ4_0:
      for (; i + 32 <= n; i += 32) {
        const std::byte* block = row + (first + i) / 32 * 18;
        const F16 scale = SetF(HalfAt(block));
        const __m128i mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
        const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2));
        alignas(16) std::byte codes[32];
        _mm_store_si128(reinterpret_cast<__m128i*>(codes),
                        _mm_sub_epi8(_mm_and_si128(packed, mask), eight));
        _mm_store_si128(reinterpret_cast<__m128i*>(codes + 16),
                        _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(packed, 4), mask), eight));
        StoreF(out + i, MulF(LoadBytes(codes), scale));
        StoreF(out + i + 16, MulF(LoadBytes(codes + 16), scale));
      }
      break;
    default:
      break;
  }
  // What is left, and f32, which is a copy. `first + i` is a multiple of 16; two-byte and four-byte
  // values have no blocks.
  if (i < n) scalar::DecodeRow(codec, row, first + i, n - i, out + i);
}
