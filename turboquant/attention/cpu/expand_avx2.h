// SPDX-License-Identifier: Apache-2.0
// Packed codes of a tile to 16-bit words in L1, in the order that vpmaddwd wants: the words of the
// eight lanes g of one t are brought side by side, nibbles look up levels with a byte shuffle, and
// bytes become pairs of 16-bit words.
//
// All are u16 levels + 128 in pairs (dwords):
// Keys:    [token / 8 in tile][D / 2][8 tokens]: dims {0, 2} or {1, 3} of four.
// Values:  [token / 2][D]: the two tokens.
// 4-bit levels lack a half that is added to sums later.
#pragma once

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/trellis.h"

namespace tq::avx2 {
namespace {

// Four 16-byte lines of g = 0..3 and of g = 4..7, `stride` apart -> four vectors [word of 8 g].
inline void Transpose(const std::byte* lines, int stride, __m256i* out) {
  __m256i line[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const auto* low = reinterpret_cast<const __m128i*>(lines + g * stride);
    const auto* high = reinterpret_cast<const __m128i*>(lines + (g + 4) * stride);
    line[g] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)),
                                      _mm_loadu_si128(high), 1);
  }
  const __m256i a = _mm256_unpacklo_epi32(line[0], line[1]);
  const __m256i b = _mm256_unpackhi_epi32(line[0], line[1]);
  const __m256i c = _mm256_unpacklo_epi32(line[2], line[3]);
  const __m256i d = _mm256_unpackhi_epi32(line[2], line[3]);
  out[0] = _mm256_unpacklo_epi64(a, c);
  out[1] = _mm256_unpackhi_epi64(a, c);
  out[2] = _mm256_unpacklo_epi64(b, d);
  out[3] = _mm256_unpackhi_epi64(b, d);
}

// One piece of all lanes -> out [t][..], the vectors of one t `stride` apart from the next one's.
template <int kPieceBytes>
inline void LoadPiece(const std::byte* piece, __m256i* out, int stride) {
  if constexpr (kPieceBytes == 16) {
    for (int t = 0; t < 4; ++t) Transpose(piece + 16 * t, 64, out + t * stride);
  } else {
    for (int t = 0; t < 4; t += 2) {
      __m256i both[4];
      Transpose(piece + 8 * t, 32, both);
      out[t * stride] = both[0];
      out[t * stride + 1] = both[1];
      out[(t + 1) * stride] = both[2];
      out[(t + 1) * stride + 1] = both[3];
    }
  }
}

struct alignas(32) Bytes {
  int8_t at[32];
  __m256i Load() const { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }
};

// Levels + 128 of nibbles; bits above a code do not matter. 4 bits: sign at bit 3.
constexpr Bytes MakeTable(int bits) {
  Bytes table = {};
  for (int i = 0; i < 32; ++i) {
    const uint32_t code = static_cast<uint32_t>(i) & ((1u << bits) - 1);
    // Arithmetic shift: half-integers are rounded down.
    table.at[i] = static_cast<int8_t>((CodebookOfBits(bits).DoubledLevel(code) >> 1) + 128);
  }
  return table;
}
template <int kBits>
inline constexpr Bytes kLevels = MakeTable(kBits);

// Shuffle control that repeats four bytes in all dwords: offsets into the dword, or -1 for zero.
constexpr Bytes InDwords(int a, int b, int c, int d) {
  Bytes control = {};
  const int offsets[] = {a, b, c, d};
  for (int i = 0; i < 32; ++i) {
    const int offset = offsets[i % 4];
    control.at[i] = static_cast<int8_t>(offset < 0 ? -1 : i % 16 / 4 * 4 + offset);
  }
  return control;
}
inline constexpr Bytes kLowPair = InDwords(0, -1, 1, -1);
inline constexpr Bytes kHighPair = InDwords(2, -1, 3, -1);
inline constexpr Bytes kEvenSigns = InDwords(0, 2, 0, 2);
inline constexpr Bytes kOddSigns = InDwords(1, 3, 1, 3);

// Eight codes of each lane as pairs of u16: codes {0, 2}, {1, 3}, {4, 6}, {5, 7}.
struct Pairs {
  __m256i p02, p13, p46, p57;
};

inline Pairs PairsOf(__m256i even, __m256i odd) {
  const __m256i low = kLowPair.Load(), high = kHighPair.Load();
  return {_mm256_shuffle_epi8(even, low), _mm256_shuffle_epi8(odd, low),
          _mm256_shuffle_epi8(even, high), _mm256_shuffle_epi8(odd, high)};
}

// Signs of 4-bit codes at bit 3 of the bytes of their magnitudes (SignBit4 in unit_bits.h).
inline __m256i Signs(__m256i words, const Bytes& order) {
  const __m256i s = _mm256_shuffle_epi8(words, order.Load());
  return _mm256_and_si256(_mm256_blend_epi16(_mm256_srli_epi16(s, 4), s, 0xAA),
                          _mm256_set1_epi8(8));
}

// `words`: a selector of eight codes per lane.
template <int kBits>
inline Pairs LookUp(__m256i words) {
  const __m256i mask = _mm256_set1_epi8(kBits == 4 ? 7 : 15);
  __m256i even = _mm256_and_si256(words, mask);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi16(words, 4), mask);
  if constexpr (kBits == 4) {
    even = _mm256_or_si256(even, Signs(words, kEvenSigns));
    odd = _mm256_or_si256(odd, Signs(words, kOddSigns));
  }
  const __m256i table = kLevels<kBits>.Load();
  const __m256i a = _mm256_shuffle_epi8(table, even);
  const __m256i b = _mm256_shuffle_epi8(table, odd);
  return PairsOf(a, b);
}

// Three selector words of a 3-bit unit carry the fourth in the spare bits of their nibbles.
inline __m256i FourthSelector(const __m256i* w) {
  const auto bit = [](__m256i shifted, int mask) {
    return _mm256_and_si256(shifted, _mm256_set1_epi8(static_cast<int8_t>(mask)));
  };
  return _mm256_or_si256(bit(_mm256_srli_epi32(w[0], 3), 0x11),
                         _mm256_or_si256(bit(_mm256_srli_epi32(w[1], 2), 0x22),
                                         bit(_mm256_srli_epi32(w[2], 1), 0x44)));
}

// Codes 8 k .. 8 k + 7 of a unit whose words are w.
template <int kBits>
inline Pairs UnitPairs(const __m256i* w, int k) {
  if constexpr (kBits == 8) {
    const __m256i flip = _mm256_set1_epi8(-128);
    const __m256i byte = _mm256_set1_epi16(255);
    const __m256i a = _mm256_xor_si256(w[2 * k], flip);
    const __m256i b = _mm256_xor_si256(w[2 * k + 1], flip);
    return {_mm256_and_si256(a, byte), _mm256_srli_epi16(a, 8), _mm256_and_si256(b, byte),
            _mm256_srli_epi16(b, 8)};
  } else if constexpr (kBits == 2) {
    return LookUp<2>(k % 2 == 0 ? w[k / 2] : _mm256_srli_epi32(w[k / 2], 2));
  } else {
    return LookUp<kBits>(kBits == 3 && k == 3 ? FourthSelector(w) : w[k]);
  }
}

// Trellis codes: nibbles of selectors hold a cell and, as their top bit, a gate (codec/trellis.h).
// By group of eight codes: for the sum of base and step, and for half.
struct Selectors {
  __m256i step[4], half[4];
};

inline __m256i Mux(int mask, __m256i a, __m256i b) {
  const __m256i m = _mm256_set1_epi8(static_cast<int8_t>(mask));
  return _mm256_or_si256(_mm256_and_si256(m, a), _mm256_andnot_si256(m, b));
}

template <int kBits, int kParity>
inline __m256i ParityPlane(__m256i coded) {
  constexpr uint8_t kTaps = TrellisOfBits(kBits).taps[kParity];
  __m256i plane = _mm256_setzero_si256();
#pragma GCC unroll 6
  for (int i = 0; i < kTrellisMemory; ++i) {
    if (kTaps >> i & 1u) {
      plane = _mm256_xor_si256(
          plane, _mm256_or_si256(_mm256_slli_epi32(coded, i), _mm256_srli_epi32(coded, 32 - i)));
    }
  }
  return plane;
}

// Words of a unit.
template <int kBits>
inline Selectors TrellisSelectors(const __m256i* w) {
  Selectors s;
  const __m256i z0 = ParityPlane<kBits, 0>(w[0]), z1 = ParityPlane<kBits, 1>(w[0]);
  if constexpr (kBits == 4) {
    const __m256i cells[] = {w[1], w[2], w[3], FourthSelector(w + 1)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      s.step[j] = Mux(0x77, cells[j], _mm256_slli_epi32(z1, 3 - j));
      s.half[j] = Mux(0x77, cells[j], _mm256_slli_epi32(z0, 3 - j));
    }
    return s;
  }
  // Pairs of planes, brought together for groups 0 and 2, 1 and 3.
  const auto even = [](__m256i a, __m256i b) { return Mux(0x55, a, _mm256_slli_epi32(b, 1)); };
  const auto odd = [](__m256i a, __m256i b) { return Mux(0x55, _mm256_srli_epi32(a, 1), b); };
  const __m256i z2 = ParityPlane<kBits, 2>(w[0]);
  if constexpr (kBits == 2) {
    const __m256i e = even(z1, z0), o = odd(z1, z0);
    const __m256i e2 = even(w[1], z2), o2 = odd(w[1], z2);
    s.step[0] = Mux(0x33, e2, _mm256_slli_epi32(e, 2));
    s.step[1] = Mux(0x33, o2, _mm256_slli_epi32(o, 2));
    s.step[2] = Mux(0x33, _mm256_srli_epi32(e2, 2), e);
    s.step[3] = Mux(0x33, _mm256_srli_epi32(o2, 2), o);
  } else {
    const __m256i e = even(z2, z1), o = odd(z2, z1);
    s.step[0] = Mux(0x33, w[1], _mm256_slli_epi32(e, 2));
    s.step[1] = Mux(0x33, _mm256_srli_epi32(w[1], 2), _mm256_slli_epi32(o, 2));
    s.step[2] = Mux(0x33, w[2], e);
    s.step[3] = Mux(0x33, _mm256_srli_epi32(w[2], 2), o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) s.half[j] = Mux(0x77, s.step[j], _mm256_slli_epi32(z0, 3 - j));
  }
  return s;
}

// Level + 128 is the sum of two entries; gates are bit 3.
constexpr Bytes MakeTrellisTable(int bits, bool half) {
  Bytes table = {};
  const Trellis& trellis = TrellisOfBits(bits);
  for (int i = 0; i < 32; ++i) {
    const auto cell = static_cast<size_t>(i % 8);
    const bool gate = i % 16 >= 8;
    table.at[i] = static_cast<int8_t>(half ? (gate ? 0 : trellis.half[cell])
                                           : trellis.base[cell] + (gate ? 0 : trellis.step[cell]));
  }
  return table;
}
template <int kBits, bool kHalf>
inline constexpr Bytes kTrellisTable = MakeTrellisTable(kBits, kHalf);

template <int kBits>
inline Pairs LookUpTrellis(__m256i step, __m256i half) {
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i steps = kTrellisTable<kBits, false>.Load();
  __m256i a = _mm256_shuffle_epi8(steps, _mm256_and_si256(step, mask));
  __m256i b = _mm256_shuffle_epi8(steps, _mm256_and_si256(_mm256_srli_epi16(step, 4), mask));
  if constexpr (kBits != 2) {
    const __m256i halves = kTrellisTable<kBits, true>.Load();
    a = _mm256_add_epi8(a, _mm256_shuffle_epi8(halves, _mm256_and_si256(half, mask)));
    b = _mm256_add_epi8(
        b, _mm256_shuffle_epi8(halves, _mm256_and_si256(_mm256_srli_epi16(half, 4), mask)));
  }
  return PairsOf(a, b);
}

inline void Store(std::byte* p, __m256i x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }

// Where keys go.
struct KeyPlaces {
  KeyPlaces(const TileLayout& tile, std::byte* out)
      : at(out), quarter(tile.head_dim / 8 * 32), fours(tile.head_dim / 16), left(fours) {}

  // The next four codes of all lanes go to Next() + t * quarter.
  std::byte* Next() {
    std::byte* here = at;
    at += 64;
    if (--left == 0) {
      at += 3 * quarter;
      left = fours;
    }
    return here;
  }
  // pairs [t] of eight codes.
  void Put(int, const Pairs* pairs) {
    std::byte* first = Next();
    std::byte* second = Next();
#pragma GCC unroll 4
    for (int t = 0; t < 4; ++t) {
      Store(first + t * quarter, pairs[t].p02);
      Store(first + t * quarter + 32, pairs[t].p13);
      Store(second + t * quarter, pairs[t].p46);
      Store(second + t * quarter + 32, pairs[t].p57);
    }
  }

  std::byte* at;
  int64_t quarter;  // bytes of D/4 dims of eight tokens
  int fours;        // groups of four dims in them
  int left;
};

// Where values go.
struct ValuePlaces {
  ValuePlaces(const TileLayout& tile, std::byte* out)
      : base(out), row(tile.head_dim * int64_t{4}), halves(tile.tokens / 32) {}

  // Codes 8 k .. of a unit: a unit is two m-tiles of 32 tokens.
  void Put(int k, const Pairs* pairs) {
    std::byte* out = base + (half * 16 + k % 2 * 8) * row + block * 64;
#pragma GCC unroll 4
    for (int t = 0; t < 4; ++t) {
      Store(out + t * row, pairs[t].p02);
      Store(out + t * row + 32, pairs[t].p46);
      Store(out + (t + 4) * row, pairs[t].p13);
      Store(out + (t + 4) * row + 32, pairs[t].p57);
    }
    if (k % 2 == 1 && ++half == halves) {
      half = 0;
      ++block;
    }
  }

  std::byte* base;
  int64_t row;  // bytes of two tokens' D dims
  int halves;   // of 32 tokens in the tile
  int half = 0;
  int64_t block = 0;  // of 16 dims
};

// Pieces are read in the smallest groups that hold whole units.
template <int kBits, bool kTrellis, int kPieceBytes, typename Places>
inline void ExpandPieces(const TileLayout& tile, const std::byte* codes, Places places) {
  constexpr int kPieceWords = kPieceBytes / 4;
  constexpr int kUnits = kBits == 3 ? kPieceWords : kBits < kPieceWords ? kPieceWords / kBits : 1;
  constexpr int kWords = kUnits * kBits;  // of a lane
  for (int unit = 0; unit < tile.units; unit += kUnits) {
    __m256i words[4][kWords];
#pragma GCC unroll 4
    for (int p = 0; p < kWords / kPieceWords; ++p) {
      LoadPiece<kPieceBytes>(codes, &words[0][p * kPieceWords], kWords);
      codes += 32 * kPieceBytes;
    }
    for (int u = 0; u < kUnits; ++u) {
      [[maybe_unused]] Selectors selectors[4];
      if constexpr (kTrellis) {
        for (int t = 0; t < 4; ++t) selectors[t] = TrellisSelectors<kBits>(&words[t][u * kBits]);
      }
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        Pairs pairs[4];
#pragma GCC unroll 4
        for (int t = 0; t < 4; ++t) {
          if constexpr (kTrellis) {
            pairs[t] = LookUpTrellis<kBits>(selectors[t].step[k], selectors[t].half[k]);
          } else {
            pairs[t] = UnitPairs<kBits>(&words[t][u * kBits], k);
          }
        }
        places.Put(k, pairs);
      }
    }
  }
}

template <int kBits, bool kTrellis, typename Places>
inline void ExpandSide(const TileLayout& tile, const std::byte* codes, std::byte* out) {
  if (tile.piece_bytes == 16) {
    ExpandPieces<kBits, kTrellis, 16>(tile, codes, Places(tile, out));
  } else {
    ExpandPieces<kBits, kTrellis, 8>(tile, codes, Places(tile, out));
  }
}

// `codes`: of one tile of a side.
template <typename Places>
inline void ExpandTile(const TileLayout& tile, const std::byte* codes, const PageSide& side,
                       std::byte* out) {
  switch (side.bits) {
    case 2:
      return side.trellis ? ExpandSide<2, true, Places>(tile, codes, out)
                          : ExpandSide<2, false, Places>(tile, codes, out);
    case 3:
      return side.trellis ? ExpandSide<3, true, Places>(tile, codes, out)
                          : ExpandSide<3, false, Places>(tile, codes, out);
    case 4:
      return side.trellis ? ExpandSide<4, true, Places>(tile, codes, out)
                          : ExpandSide<4, false, Places>(tile, codes, out);
    default:
      return ExpandSide<8, false, Places>(tile, codes, out);
  }
}

}  // namespace
}  // namespace tq::avx2
