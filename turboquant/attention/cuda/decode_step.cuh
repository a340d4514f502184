// SPDX-License-Identifier: Apache-2.0
// One step of one warp: scores of the step's tokens, their softmax against the running maximum, and
// the weighted sum of values, for every column set.
#pragma once

#include <type_traits>

#include "turboquant/attention/cuda/decode_instances.h"
#include "turboquant/attention/cuda/decode_work.cuh"
#include "turboquant/attention/cuda/tile_products.cuh"

namespace tq::cuda {

inline constexpr float kLeastScore = -1e30f;  // kNoScore of online_softmax.h
// Below every score, and such that rounding a product of this size leaves what exp2 can take.
inline constexpr float kHiddenScore = -1e9f;

// Lane 4g + t: row t of each set.
template <int kDim, int kSets>
struct WarpState {
  uint32_t q[kSets][kDim / 16];  // B operands
  float q_scale[kSets];          // a score is q_scale * x
  int32_t q_sum[kSets];
  int32_t position[kSets];
  float reference[kSets];  // q . r of the page, as an x
  float m[kSets];          // what sums are relative to: no more than kHeadroom below the largest
  float l[kSets];          // of this lane's tokens
  float o[kSets][kDim / 8];

  TQ_DEVICE void Clear() {
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
      m[n] = kLeastScore;
      l[n] = 0;
      reference[n] = 0;
#pragma unroll
      for (int i = 0; i < kDim / 8; ++i) o[n][i] = 0;
    }
  }
};

struct StepMask {
  const DecodeParams& p;
  const Segment& segment;
  const Unit& unit;

  // kAges: pages may age.
  template <bool kAges>
  TQ_DEVICE bool All(int tokens) const {
    if (kAges && p.ages.count > 0) {
      return AllVisible(p.EndsOfSlot(segment.work.slot), segment.queries, unit, tokens);
    }
    return AllVisible(p.visibility, segment.queries, unit, tokens);
  }
  template <bool kAges>
  TQ_DEVICE PositionRange Range(int position) const {
    if (kAges && p.ages.count > 0) {
      return VisibleRange(p.EndsOfSlot(segment.work.slot), position, unit);
    }
    return VisibleRange(p.visibility, segment.queries.sealed_below, position, unit);
  }
};

// The largest value over lanes with the same t.
TQ_DEVICE float MaxOverRows(float x) {
  x = Max(x, ShuffleXor(x, 4));
  x = Max(x, ShuffleXor(x, 8));
  return Max(x, ShuffleXor(x, 16));
}

// The sum.
TQ_DEVICE float SumOverRows(float x) {
  x += ShuffleXor(x, 4);
  x += ShuffleXor(x, 8);
  return x + ShuffleXor(x, 16);
}

// Invisible tokens get a hidden score and value scale 0 (what lies past the end may be anything).
// A lane has every eighth token of the step from its `first` on; position and scale: of set n's
// row.
template <bool kAges, int kSets, int kScores, class Position, class Scale>
TQ_DEVICE void HideInvisible(const StepMask& mask, int first, Position&& position, Scale&& scale,
                             float (&x)[kSets][kScores], float (&v)[kScores]) {
  const int begin = mask.unit.page * kPageTokens + mask.unit.token + first;
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    if (begin + 8 * i > mask.segment.queries.last) v[i] = 0;
  }
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const PositionRange range = mask.Range<kAges>(position(n));
    const float hidden = FastDivide(kHiddenScore, scale(n));
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int at = begin + 8 * i;
      if (at < range.begin || at >= range.end) x[n][i] = hidden;
    }
  }
}

// Level products in x become scores but for the query's scale; v: the step's value scales.
template <int kDim, int kHalves, bool kAges, int kSets>
TQ_DEVICE void Scores(const std::byte* scales, int tile_bytes, int lane, const StepMask& mask,
                      const WarpState<kDim, kSets>& state, float (&x)[kSets][4 * kHalves],
                      float (&v)[4 * kHalves]) {
  using T = Tile<kDim>;
  const int g = lane >> 2;
#pragma unroll
  for (int h = 0; h < kHalves; ++h) {
    const uint4 s = *reinterpret_cast<const uint4*>(scales + h / T::kHalves * tile_bytes +
                                                    h % T::kHalves * 128 + g * 16);
    const float k[4] = {HalfLow(s.x), HalfHigh(s.x), HalfLow(s.y), HalfHigh(s.y)};
    v[4 * h] = HalfLow(s.z);
    v[4 * h + 1] = HalfHigh(s.z);
    v[4 * h + 2] = HalfLow(s.w);
    v[4 * h + 3] = HalfHigh(s.w);
#pragma unroll
    for (int n = 0; n < kSets; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x[n][4 * h + i] = FusedMulAdd(x[n][4 * h + i], k[i], state.reference[n]);
      }
    }
  }
  if (mask.All<kAges>(32 * kHalves)) return;
  HideInvisible<kAges>(
      mask, g, [&](int n) { return state.position[n]; }, [&](int n) { return state.q_scale[n]; }, x,
      v);
}

// Makes room for scores that lie more than kHeadroom (a power of two) above what sums are relative
// to: rare, so most steps need no maximum over the warp.
inline constexpr float kHeadroom = 8;
template <int kDim, int kSets, int kScores>
TQ_DEVICE void RaiseReference(const float (&x)[kSets][kScores], WarpState<kDim, kSets>& state) {
  float largest[kSets];
  bool rises = false;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    largest[n] = x[n][0];
#pragma unroll
    for (int i = 1; i < kScores; ++i) largest[n] = Max(largest[n], x[n][i]);
    rises |= largest[n] * state.q_scale[n] > state.m[n] + kHeadroom;
  }
  if (!AnyLane(rises)) return;
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    const float m = Max(state.m[n], MaxOverRows(largest[n]) * state.q_scale[n]);
    const float decay = Exp2(state.m[n] - m);
    state.m[n] = m;
    state.l[n] *= decay;
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) state.o[n][i] *= decay;
  }
}

inline constexpr float kLargestWeight = 65500.0f;
// Two weights as 16-bit numbers, their low bytes first.
TQ_DEVICE uint32_t WeightPair(float a, float b, float to_weight) {
  constexpr float kRound = 8388608.0f;  // 2^23
  return Prmt(FloatBits(FusedMulAdd(a, to_weight, kRound)),
              FloatBits(FusedMulAdd(b, to_weight, kRound)), 0x5140u);
}

// Scores to 16-bit weights: exp2(score - m) v over their largest of the step, so one token of full
// weight and any number of small ones keep their sum. gain: what weighted levels are to be
// multiplied by.
template <int kDim, int kHalves, int kSets>
TQ_DEVICE void Softmax(const float (&x)[kSets][4 * kHalves], const float (&v)[4 * kHalves],
                       WarpState<kDim, kSets>& state, Weights<kHalves> (&weights)[kSets],
                       float (&gain)[kSets]) {
  RaiseReference(x, state);
#pragma unroll
  for (int n = 0; n < kSets; ++n) {
    float top = 0;
    float w[4 * kHalves];
#pragma unroll
    for (int i = 0; i < 4 * kHalves; ++i) {
      const float e = Exp2(FusedMulAdd(x[n][i], state.q_scale[n], -state.m[n]));
      state.l[n] += e;
      w[i] = e * v[i];
      top = Max(top, w[i]);
    }
    top = MaxOverRows(top);
    const float to_weight = top > 1e-30f ? FastDivide(kLargestWeight, top) : 0.0f;
    gain[n] = top * (1.0f / kLargestWeight);
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        // Columns 2t and 2t + 1 of row g.
        weights[n].b[h][i] =
            Transpose8x8(WeightPair(w[4 * h + 2 * i], w[4 * h + 2 * i + 1], to_weight));
      }
    }
  }
}

template <class C>
TQ_DEVICE LevelTables LoadTables(const uint32_t* levels, int lane) {
  LevelTables tables;
#pragma unroll
  for (int i = 0; i < C::kTables; ++i) tables.t[i] = levels[(C::kTable + i) * 32 + lane];
  return tables;
}

// Tiles within a head block, behind the reference vector.
template <int kDim>
inline constexpr int kTilesOffset = (kDim * 2 + 63) / 64 * 64;

// Offsets in a tile of codecs K and V, as MakePageLayout has them.
template <class K, class V, int kDim>
struct PairTile {
  static constexpr int kValues = Tile<kDim>::kLayout.side_bytes(K::kWords);
  static constexpr int kScales = kValues + Tile<kDim>::kLayout.side_bytes(V::kWords);
  static constexpr int kBytes = kScales + Tile<kDim>::kLayout.scale_bytes();
};

// Pages of one pair of codecs, known when compiled.
template <class K, class V, int kDim, int kHalves, int kSets>
TQ_DEVICE void TileStep(const std::byte* stage, const uint32_t* levels, int lane,
                        const StepMask& mask, WarpState<kDim, kSets>& state) {
  using T = Tile<kDim>;
  using Offsets = PairTile<K, V, kDim>;
  constexpr int tile_bytes = Offsets::kBytes;
  float x[kSets][4 * kHalves];
  float v[4 * kHalves];
  const LevelTables k_tables = LoadTables<K>(levels, lane);
#pragma unroll
  for (int tile = 0; tile < kHalves / T::kHalves; ++tile) {
    KeyProducts<K, kDim>(stage + tile * tile_bytes, lane, k_tables, state.q, state.q_sum,
                         4 * T::kHalves * tile, x);
  }
  Scores<kDim, kHalves, false>(stage + Offsets::kScales, tile_bytes, lane, mask, state, x, v);
  Weights<kHalves> weights[kSets];
  float gain[kSets];
  Softmax<kDim, kHalves>(x, v, state, weights, gain);
  ValueProducts<V, kDim, kHalves>(stage + Offsets::kValues, tile_bytes, lane,
                                  LoadTables<V>(levels, lane), weights, gain, state.o);
}

// Steps of a page: halves of 32 tokens that one step takes. Open pages: one tile. Sealed pages of a
// fixed pair: 64 tokens.
template <int kDim>
inline constexpr int kOpenHalves = Tile<kDim>::kHalves;
inline constexpr int kFixedHalves = 2;

// Calls fn with the bytes of a step and of a tile, as constants.
template <class K, class V, int kDim, int kHalves, class Fn>
TQ_DEVICE void WithBytes(Fn&& fn) {
  constexpr int kTile = PairTile<K, V, kDim>::kBytes;
  fn(std::integral_constant<int, kHalves / Tile<kDim>::kHalves * kTile>(),
     std::integral_constant<int, kTile>());
}

// Pages that are never sealed, of 8 bits.
struct OpenPair {
  static constexpr bool kAges = false;
  template <int kDim, int kSets, class Fn>
  TQ_DEVICE static void WithStepBytes(const DecodeParams&, int, Fn&& fn) {
    constexpr int kHalves = IsWide(kDim, kSets) ? WideStepTokens(true) / 32 : kOpenHalves<kDim>;
    WithBytes<Turbo8, Turbo8, kDim, kHalves>(fn);
  }
  template <int kDim, int kSets>
  TQ_DEVICE static void Step(const DecodeParams&, int, const std::byte* stage,
                             const uint32_t* levels, int lane, const StepMask& mask,
                             WarpState<kDim, kSets>& state) {
    TileStep<Turbo8, Turbo8, kDim, kOpenHalves<kDim>>(stage, levels, lane, mask, state);
  }
  // step: a WideStep for the codecs and tiles that it is called with.
  template <int kDim, class Step>
  TQ_DEVICE static void WithWideStep(int, Step&& step) {
    step.template operator()<Turbo8, Turbo8, WideStepTokens(true) / Tile<kDim>::kTokens>();
  }
};

// Sealed pages of codecs K and V, open pages of 8 bits.
template <class K, class V>
struct FixedPair {
  static constexpr bool kAges = false;
  template <int kDim, int kSets, class Fn>
  TQ_DEVICE static void WithStepBytes(const DecodeParams& p, int form, Fn&& fn) {
    constexpr int kHalves = IsWide(kDim, kSets) ? WideStepTokens(false) / 32 : kFixedHalves;
    if (form != kOpenForm) {
      WithBytes<K, V, kDim, kHalves>(fn);
    } else {
      OpenPair::WithStepBytes<kDim, kSets>(p, form, fn);
    }
  }
  template <int kDim, int kSets>
  TQ_DEVICE static void Step(const DecodeParams& p, int form, const std::byte* stage,
                             const uint32_t* levels, int lane, const StepMask& mask,
                             WarpState<kDim, kSets>& state) {
    if (form != kOpenForm) {
      TileStep<K, V, kDim, kFixedHalves>(stage, levels, lane, mask, state);
    } else {
      OpenPair::Step(p, form, stage, levels, lane, mask, state);
    }
  }
  template <int kDim, class Step>
  TQ_DEVICE static void WithWideStep(int form, Step&& step) {
    if (form != kOpenForm) {
      step.template operator()<K, V, WideStepTokens(false) / Tile<kDim>::kTokens>();
    } else {
      OpenPair::WithWideStep<kDim>(form, step);
    }
  }
};

// Any pair of codecs in tiles, of any form: switched once per step and side.
struct AnyPair {
  static constexpr bool kAges = true;
  template <int kDim, int, class Fn>
  TQ_DEVICE static void WithStepBytes(const DecodeParams& p, int number, Fn&& fn) {
    const PageForm& form = p.Form(number);
    fn(static_cast<int>(form.tile_bytes) * (Tile<kDim>::kLayout.tiles_per_page() >> form.step_log),
       static_cast<int>(form.tile_bytes));
  }
  template <int kDim, int kSets>
  TQ_DEVICE static void Step(const DecodeParams& p, int number, const std::byte* stage,
                             const uint32_t* levels, int lane, const StepMask& mask,
                             WarpState<kDim, kSets>& state) {
    constexpr int kHalves = kOpenHalves<kDim>;
    const PageForm& form = p.Form(number);
    const int tile_bytes = static_cast<int>(form.tile_bytes);
    float x[kSets][4 * kHalves];
    float v[4 * kHalves];
    WithTileCodec(form.k, [&](auto codec) {
      using K = decltype(codec);
      KeyProducts<K, kDim>(stage, lane, LoadTables<K>(levels, lane), state.q, state.q_sum, 0, x);
    });
    Scores<kDim, kHalves, kAges>(stage + form.scale_offset, tile_bytes, lane, mask, state, x, v);
    Weights<kHalves> weights[kSets];
    float gain[kSets];
    Softmax<kDim, kHalves>(x, v, state, weights, gain);
    WithTileCodec(form.v, [&](auto codec) {
      using V = decltype(codec);
      ValueProducts<V, kDim, kHalves>(stage + form.v_offset, tile_bytes, lane,
                                      LoadTables<V>(levels, lane), weights, gain, state.o);
    });
  }
};

}  // namespace tq::cuda
