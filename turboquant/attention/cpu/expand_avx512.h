// SPDX-License-Identifier: Apache-2.0
// Packed codes of a tile to bytes in L1, in the order that VNNI dot products want. Nothing is
// decoded to floats, and no code crosses to another lane's dims: words are transposed so that the
// eight lanes g of one t lie side by side, then a multishift and a byte permute make levels of
// nibbles.
//
// Keys, u8 levels + 128:  [token / 8 in tile][t pair][D / 16][ t even: 8 tokens | t odd: 8 tokens ]
//   of 4 bytes: dims t D/4 + 4 s ...
// Values, s8 levels:      [token quad][D / 16][16 dims] of 4 bytes: the quad's tokens.
// 4-bit levels lack a half that is added to sums later.
#pragma once

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/codec/codebook.h"
#include "turboquant/codec/cpu/intrinsics.h"
#include "turboquant/codec/page_layout.h"
#include "turboquant/codec/trellis.h"

namespace tq::avx512 {
namespace {

// Stream words of the 32 lanes of a tile: x [t][g 0..3], y [t][g 4..7].
struct Words {
  __m512i x, y;
};

// 16-byte pieces: four words of every lane.
inline void Transpose4(const std::byte* lines, __m512i* out, int stride) {
  const auto* p = reinterpret_cast<const __m512i*>(lines);
  const __m512i l0 = _mm512_loadu_si512(p), l1 = _mm512_loadu_si512(p + 1);
  const __m512i l2 = _mm512_loadu_si512(p + 2), l3 = _mm512_loadu_si512(p + 3);
  const __m512i a = _mm512_unpacklo_epi32(l0, l1), b = _mm512_unpackhi_epi32(l0, l1);
  const __m512i c = _mm512_unpacklo_epi32(l2, l3), d = _mm512_unpackhi_epi32(l2, l3);
  out[0] = _mm512_unpacklo_epi64(a, c);
  out[stride] = _mm512_unpackhi_epi64(a, c);
  out[2 * stride] = _mm512_unpacklo_epi64(b, d);
  out[3 * stride] = _mm512_unpackhi_epi64(b, d);
}

// 8-byte pieces: two words of every lane.
inline void Transpose2(const std::byte* lines, __m512i* out, int stride) {
  const auto* p = reinterpret_cast<const __m512i*>(lines);
  const __m512i l0 = _mm512_loadu_si512(p), l1 = _mm512_loadu_si512(p + 1);
  const __m512i even = _mm512_setr_epi32(0, 8, 16, 24, 2, 10, 18, 26, 4, 12, 20, 28, 6, 14, 22, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  out[0] = _mm512_permutex2var_epi32(l0, even, l1);
  out[stride] = _mm512_permutex2var_epi32(l0, odd, l1);
}

static_assert(sizeof(Words) == 2 * sizeof(__m512i));

template <int kPieceBytes>
inline void LoadPiece(const std::byte* piece, Words* out) {
  if constexpr (kPieceBytes == 16) {
    Transpose4(piece, &out->x, 2);
    Transpose4(piece + 256, &out->y, 2);
  } else {
    Transpose2(piece, &out->x, 2);
    Transpose2(piece + 128, &out->y, 2);
  }
}

// Three selector words of a 3-bit unit carry the fourth in the spare bits of their nibbles.
inline __m512i FourthSelector(__m512i w0, __m512i w1, __m512i w2) {
  const __m512i low = _mm512_ternarylogic_epi32(
      _mm512_set1_epi32(0x11111111), _mm512_srli_epi32(w0, 3), _mm512_srli_epi32(w1, 2), 0xCA);
  return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0x33333333), low, _mm512_srli_epi32(w2, 1),
                                   0xCA);
}

struct alignas(64) Bytes {
  int8_t at[64];
  __m512i Load() const { return _mm512_load_si512(at); }
};

// Levels by the low six bits that a multishift leaves: only the code's own bits matter.
constexpr Bytes MakeTable(int bits, int offset) {
  Bytes table = {};
  if (bits == 8) return table;
  for (int i = 0; i < 64; ++i) {
    // 4 bits: the table is asked for with the sign at bit 3.
    const uint32_t code = static_cast<uint32_t>(i) & ((1u << bits) - 1);
    const int doubled = CodebookOfBits(bits).DoubledLevel(code);
    // Arithmetic shift: half-integers are rounded down.
    table.at[i] = static_cast<int8_t>((doubled >> 1) + offset);
  }
  return table;
}
template <int kBits, int kOffset>
inline constexpr Bytes kLevels = MakeTable(kBits, kOffset);

// Byte i of each dword pair: the nibble at bit 4 i + shift of its dword.
constexpr Bytes NibbleControl(int shift_low_half, int shift_high_half) {
  Bytes control = {};
  for (int i = 0; i < 64; ++i) {
    const int shift = i < 32 ? shift_low_half : shift_high_half;
    control.at[i] = static_cast<int8_t>((i & 4) * 8 + (i & 3) * 4 + shift);
  }
  return control;
}
template <int kShiftLowHalf, int kShiftHighHalf>
inline constexpr Bytes kControl = NibbleControl(kShiftLowHalf, kShiftHighHalf);

// Levels of the nibbles that `control` picks; `sign` holds 4-bit codes' signs at bit 3 of bytes.
template <int kBits>
inline __m512i Levels(__m512i words, __m512i control, __m512i table, __m512i sign) {
  __m512i index = _mm512_multishift_epi64_epi8(control, words);
  if constexpr (kBits == 4) {
    index = _mm512_ternarylogic_epi32(_mm512_set1_epi8(8), sign, index, 0xCA);
  }
  return _mm512_permutexvar_epi8(index, table);
}

// Words of a unit as four selectors of eight codes. 2 bits: a word is two selectors, and the second
// one's shift is part of the control.
template <int kBits>
inline Words Selector(const Words* words, int k) {
  if constexpr (kBits == 2) return words[k / 2];
  if constexpr (kBits == 3) {
    if (k == 3) {
      return {FourthSelector(words[0].x, words[1].x, words[2].x),
              FourthSelector(words[0].y, words[1].y, words[2].y)};
    }
  }
  return words[k];
}

// Trellis codes: nibbles of selectors hold a cell and, as their top bit, a gate (codec/trellis.h).
// By group of eight codes: for the sum of base and step, and for half.
struct Selectors {
  __m512i step[4], half[4];
};

inline __m512i Mux(int mask, __m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<int8_t>(mask)), a, b, 0xCA);
}

template <int kBits, int kParity>
inline __m512i ParityPlane(__m512i coded) {
  __m512i plane = _mm512_setzero_si512();
  constexpr uint8_t kTaps = TrellisOfBits(kBits).taps[kParity];
  if (kTaps & 1u) plane = coded;
  if (kTaps & 2u) plane = _mm512_xor_si512(plane, _mm512_rol_epi32(coded, 1));
  if (kTaps & 4u) plane = _mm512_xor_si512(plane, _mm512_rol_epi32(coded, 2));
  if (kTaps & 8u) plane = _mm512_xor_si512(plane, _mm512_rol_epi32(coded, 3));
  if (kTaps & 16u) plane = _mm512_xor_si512(plane, _mm512_rol_epi32(coded, 4));
  if (kTaps & 32u) plane = _mm512_xor_si512(plane, _mm512_rol_epi32(coded, 5));
  return plane;
}

// `w`: words of a unit, one half of the lanes.
template <int kBits>
inline Selectors TrellisSelectors(const __m512i* w) {
  Selectors s;
  const __m512i z0 = ParityPlane<kBits, 0>(w[0]), z1 = ParityPlane<kBits, 1>(w[0]);
  if constexpr (kBits == 4) {
    const __m512i cells[] = {w[1], w[2], w[3], FourthSelector(w[1], w[2], w[3])};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const auto up = static_cast<unsigned>(3 - j);
      s.step[j] = Mux(0x77, cells[j], _mm512_slli_epi32(z1, up));
      s.half[j] = Mux(0x77, cells[j], _mm512_slli_epi32(z0, up));
    }
    return s;
  }
  // Pairs of planes, brought together for groups 0 and 2, 1 and 3.
  const auto even = [](__m512i a, __m512i b) { return Mux(0x55, a, _mm512_slli_epi32(b, 1)); };
  const auto odd = [](__m512i a, __m512i b) { return Mux(0x55, _mm512_srli_epi32(a, 1), b); };
  const __m512i z2 = ParityPlane<kBits, 2>(w[0]);
  if constexpr (kBits == 2) {
    const __m512i e = even(z1, z0), o = odd(z1, z0);
    const __m512i e2 = even(w[1], z2), o2 = odd(w[1], z2);
    s.step[0] = Mux(0x33, e2, _mm512_slli_epi32(e, 2));
    s.step[1] = Mux(0x33, o2, _mm512_slli_epi32(o, 2));
    s.step[2] = Mux(0x33, _mm512_srli_epi32(e2, 2), e);
    s.step[3] = Mux(0x33, _mm512_srli_epi32(o2, 2), o);
  } else {
    const __m512i e = even(z2, z1), o = odd(z2, z1);
    s.step[0] = Mux(0x33, w[1], _mm512_slli_epi32(e, 2));
    s.step[1] = Mux(0x33, _mm512_srli_epi32(w[1], 2), _mm512_slli_epi32(o, 2));
    s.step[2] = Mux(0x33, w[2], e);
    s.step[3] = Mux(0x33, _mm512_srli_epi32(w[2], 2), o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      s.half[j] = Mux(0x77, s.step[j], _mm512_slli_epi32(z0, static_cast<unsigned>(3 - j)));
    }
  }
  return s;
}

// Level + offset is the sum of two entries; gates are bit 3.
constexpr Bytes MakeTrellisTable(int bits, bool half, int offset) {
  Bytes table = {};
  if (bits == 8) return table;
  const Trellis& trellis = TrellisOfBits(bits);
  for (int i = 0; i < 64; ++i) {
    const auto cell = static_cast<size_t>(i % 8);
    const bool gate = i % 16 >= 8;
    const int whole = trellis.base[cell] + (gate ? 0 : trellis.step[cell]) - 128 + offset;
    table.at[i] = static_cast<int8_t>(half ? (gate ? 0 : trellis.half[cell]) : whole);
  }
  return table;
}
template <int kBits, bool kHalf, int kOffset>
inline constexpr Bytes kTrellisTable = MakeTrellisTable(kBits, kHalf, kOffset);

// Selectors of a unit: Words of the four groups of eight codes, and for trellis codes the second
// ones.
template <int kBits, bool kTrellis>
struct UnitSelectors {
  explicit UnitSelectors(const Words* words) {
    if constexpr (kTrellis) {
      __m512i x[kBits], y[kBits];
      for (int w = 0; w < kBits; ++w) {
        x[w] = words[w].x;
        y[w] = words[w].y;
      }
      const Selectors sx = TrellisSelectors<kBits>(x), sy = TrellisSelectors<kBits>(y);
      for (int k = 0; k < 4; ++k) {
        first[k] = {sx.step[k], sy.step[k]};
        if constexpr (kBits != 2) second[k] = {sx.half[k], sy.half[k]};
      }
    } else {
      for (int k = 0; k < 4; ++k) first[k] = Selector<kBits>(words, k);
    }
  }
  // Scalar codes of 2 bits: a word is two selectors.
  static constexpr int Odd(int k) { return kBits == 2 && !kTrellis ? k & 1 : 0; }

  Words first[4];
  Words second[4];
};

// Looks levels up, plus an offset.
template <int kBits, bool kTrellis, int kOffset>
struct LevelTables {
  LevelTables()
      : first(kTrellis ? kTrellisTable<kBits, false, kOffset>.Load()
                       : kLevels<kBits, kOffset>.Load()),
        second(kTrellisTable<kBits, true, kOffset>.Load()) {}

  // `sign` holds 4-bit codes' signs at bit 3 of bytes.
  __m512i Of(__m512i words, __m512i halves, __m512i control, __m512i sign) const {
    if constexpr (!kTrellis) return Levels<kBits>(words, control, first, sign);
    const __m512i level =
        _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(control, words), first);
    if constexpr (kBits == 2) return level;
    return _mm512_add_epi8(
        level, _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(control, halves), second));
  }

  __m512i first;
  __m512i second;  // trellis codes: of half
};

template <int kBits, bool kTrellis>
struct KeyEmitter {
  explicit KeyEmitter(const TileLayout& tile, std::byte* out)
      : at(out), steps(tile.head_dim / 16), left(steps) {
    control[0][0] = kControl<0, 0>.Load();
    control[0][1] = kControl<2, 2>.Load();
    control[1][0] = kControl<16, 16>.Load();
    control[1][1] = kControl<18, 18>.Load();
  }

  // Four codes of all lanes, [8 g of t | 8 g of t + 1] for both t pairs.
  void Put(__m512i t01, __m512i t23) {
    _mm512_store_si512(at, t01);
    _mm512_store_si512(at + steps * 64, t23);
    at += 64;
    if (--left == 0) {
      at += steps * 64;
      left = steps;
    }
  }

  void Unit(const Words* words) {
    const __m512i i01 = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i i23 = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    if constexpr (kBits == 8) {
      const __m512i flip = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        Put(_mm512_xor_si512(_mm512_permutex2var_epi64(words[j].x, i01, words[j].y), flip),
            _mm512_xor_si512(_mm512_permutex2var_epi64(words[j].x, i23, words[j].y), flip));
      }
    } else {
      const UnitSelectors<kBits, kTrellis> selectors(words);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const Words& s = selectors.first[k];
        const int odd = selectors.Odd(k);
        const __m512i a = _mm512_permutex2var_epi64(s.x, i01, s.y);
        const __m512i b = _mm512_permutex2var_epi64(s.x, i23, s.y);
        __m512i c = a, d = b;
        if constexpr (kTrellis && kBits != 2) {
          c = _mm512_permutex2var_epi64(selectors.second[k].x, i01, selectors.second[k].y);
          d = _mm512_permutex2var_epi64(selectors.second[k].x, i23, selectors.second[k].y);
        }
        Put(tables.Of(a, c, control[0][odd], _mm512_srli_epi32(a, 4)),
            tables.Of(b, d, control[0][odd], _mm512_srli_epi32(b, 4)));
        Put(tables.Of(a, c, control[1][odd], a), tables.Of(b, d, control[1][odd], b));
      }
    }
  }

  LevelTables<kBits, kTrellis, 128> tables;
  __m512i control[2][2];  // [nibbles 0..3 or 4..7][2 bits: low or high pair]
  std::byte* at;
  int64_t steps;  // D / 16
  int64_t left;   // in this token
};

template <int kBits, bool kTrellis>
struct ValueEmitter {
  ValueEmitter(const TileLayout& tile, std::byte* out)
      : base(out), row(tile.head_dim / 16 * 64), halves(tile.tokens / 32) {
    control[0] = kControl<0, 16>.Load();
    control[1] = kControl<2, 18>.Load();
    sign_shift = _mm512_maskz_mov_epi32(0x00ff, _mm512_set1_epi32(4));
  }

  // Where the quads of 16 tokens (number `second` of the m-tile's 32) of the next m-tile go.
  std::byte* At(int second) const { return base + (half * 8 + second * 4) * row + block * 64; }
  void NextTile() {
    if (++half == halves) {
      half = 0;
      ++block;
    }
  }

  // Eight codes: dims g in the low nibbles' half, g + 8 in the high ones'.
  void Quads(const UnitSelectors<kBits, kTrellis>& selectors, int k, std::byte* out) {
    const Words& s = selectors.first[k];
#pragma GCC unroll 4
    for (int t = 0; t < 4; ++t) {
      const __m512i index = _mm512_setr_epi64(2 * t, 2 * t + 1, 8 + 2 * t, 9 + 2 * t, 2 * t,
                                              2 * t + 1, 8 + 2 * t, 9 + 2 * t);
      const __m512i w = _mm512_permutex2var_epi64(s.x, index, s.y);
      __m512i halves = w;
      if constexpr (kTrellis && kBits != 2) {
        halves = _mm512_permutex2var_epi64(selectors.second[k].x, index, selectors.second[k].y);
      }
      const __m512i levels =
          tables.Of(w, halves, control[selectors.Odd(k)], _mm512_srlv_epi32(w, sign_shift));
      _mm512_store_si512(out + t * row, levels);
    }
  }

  void Unit(const Words* words) {
    if constexpr (kBits == 8) {
#pragma GCC unroll 4
      for (int j = 0; j < 8; j += 2) {
        Quads8(words[j], words[j + 1], At(j / 2 % 2));
        if (j == 2 || j == 6) NextTile();
      }
    } else {
      const UnitSelectors<kBits, kTrellis> selectors(words);
      Quads(selectors, 0, At(0));
      Quads(selectors, 1, At(1));
      NextTile();
      Quads(selectors, 2, At(0));
      Quads(selectors, 3, At(1));
      NextTile();
    }
  }

  void Quads8(const Words& low, const Words& high, std::byte* out) {
    const __m512i i01 = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i i23 = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const __m512i a01 = _mm512_permutex2var_epi64(low.x, i01, low.y);
    const __m512i b01 = _mm512_permutex2var_epi64(high.x, i01, high.y);
    const __m512i a23 = _mm512_permutex2var_epi64(low.x, i23, low.y);
    const __m512i b23 = _mm512_permutex2var_epi64(high.x, i23, high.y);
    _mm512_store_si512(out, _mm512_shuffle_i64x2(a01, b01, 0x44));
    _mm512_store_si512(out + row, _mm512_shuffle_i64x2(a01, b01, 0xEE));
    _mm512_store_si512(out + 2 * row, _mm512_shuffle_i64x2(a23, b23, 0x44));
    _mm512_store_si512(out + 3 * row, _mm512_shuffle_i64x2(a23, b23, 0xEE));
  }

  LevelTables<kBits, kTrellis, 0> tables;
  __m512i control[2];
  __m512i sign_shift;  // 4 bits: brings the sign to bit 3
  std::byte* base;
  int64_t row;  // bytes of a quad's D dims
  int halves;   // of 32 tokens in the tile
  int half = 0;
  int64_t block = 0;  // of 16 dims
};

// Pieces are read in the smallest groups that hold whole units.
template <int kBits, int kPieceBytes, typename Emitter>
inline void ExpandPieces(const TileLayout& tile, const std::byte* codes, Emitter emitter) {
  constexpr int kPieceWords = kPieceBytes / 4;
  constexpr int kUnits = kBits == 3 ? kPieceWords : kBits < kPieceWords ? kPieceWords / kBits : 1;
  constexpr int kPieces = kUnits * kBits / kPieceWords;
  for (int unit = 0; unit < tile.units; unit += kUnits) {
    Words words[kUnits * kBits];
#pragma GCC unroll 4
    for (int p = 0; p < kPieces; ++p) {
      LoadPiece<kPieceBytes>(codes + p * 32 * kPieceBytes, words + p * kPieceWords);
    }
    codes += kPieces * 32 * kPieceBytes;
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) emitter.Unit(words + u * kBits);
  }
}

template <template <int, bool> typename Emitter, int kBits, bool kTrellis>
inline void ExpandSide(const TileLayout& tile, const std::byte* codes, std::byte* out) {
  if (tile.piece_bytes == 16) {
    ExpandPieces<kBits, 16>(tile, codes, Emitter<kBits, kTrellis>(tile, out));
  } else {
    ExpandPieces<kBits, 8>(tile, codes, Emitter<kBits, kTrellis>(tile, out));
  }
}

// `codes`: of one tile of a side.
template <template <int, bool> typename Emitter>
inline void ExpandTile(const TileLayout& tile, const std::byte* codes, const PageSide& side,
                       std::byte* out) {
  switch (side.bits) {
    case 2:
      return side.trellis ? ExpandSide<Emitter, 2, true>(tile, codes, out)
                          : ExpandSide<Emitter, 2, false>(tile, codes, out);
    case 3:
      return side.trellis ? ExpandSide<Emitter, 3, true>(tile, codes, out)
                          : ExpandSide<Emitter, 3, false>(tile, codes, out);
    case 4:
      return side.trellis ? ExpandSide<Emitter, 4, true>(tile, codes, out)
                          : ExpandSide<Emitter, 4, false>(tile, codes, out);
    default:
      return ExpandSide<Emitter, 8, false>(tile, codes, out);
  }
}

}  // namespace
}  // namespace tq::avx512
