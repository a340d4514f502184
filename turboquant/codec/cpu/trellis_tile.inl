// SPDX-License-Identifier: Apache-2.0
// A tile of head vectors to trellis codes: the encodings that trellis_search.h lists, and which
// rings of each are kept. Included inside an instruction set's namespace after what it needs:
//   kRings: how many rings are encoded at once;
//   EncodeRings(bits, inputs, metrics, coded, levels): one lap over them;
//   FiniteHalf, SquareRoot, WriteScale.

static constexpr int kMaxTrellisCodes = 512 * 32;  // of a tile
static constexpr int kMaxTrellisTokens = 128;
static constexpr int kMaxTrellisUnits = kMaxTrellisCodes / (32 * kUnitCodes);

// Before a loop whose iterations do not depend on each other; Clang needs no telling.
#ifdef __clang__
#define TQ_INDEPENDENT
#else
#define TQ_INDEPENDENT _Pragma("GCC ivdep")
#endif

// Copies of our own: shared ones would be weak symbols of every instruction set.
static constexpr auto kTrellisCopies = kTrellises;
static constexpr auto kKeyGains = kTrellisKeyGains;
static constexpr auto kValueGains = kTrellisValueGains;

// Half to even, |x| < 2^22.
static inline float RoundToInteger(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }
static inline float ClampTo(float x, float limit) {
  return x > limit ? limit : x < -limit ? -limit : x;
}

// The one order of additions that every device follows: 16 strided sums, then a tree.
static inline float TrellisSquares(const float* x, int n) {
  float sums[16] = {};
  for (int i = 0; i < n; i += 16) {
    for (int j = 0; j < 16; ++j) sums[j] += x[i + j] * x[i + j];
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// Of a token's code: sums over its dims.
struct TrellisSums {
  int product;  // of level and target
  int square;   // of levels
};

// Codes and what belongs to them stand [unit][ring position][lane].
struct TrellisWork {
  alignas(64) int16_t targets[kMaxTrellisCodes];
  alignas(64) int8_t levels[kMaxTrellisCodes];  // of the last encoding
  alignas(64) int8_t best_levels[kMaxTrellisCodes];
  uint32_t coded[kMaxTrellisUnits][32];  // word 0 of the last encoding
  uint32_t best_coded[kMaxTrellisUnits][32];
  alignas(64) uint16_t metrics[kMaxTrellisUnits * 32 / kRings][kTrellisStates][kRings];
  uint8_t rows[kMaxTrellisUnits][kUnitCodes];  // token of a position, in lane 0
  uint8_t each_row[kMaxTrellisTokens];         // that there is in rows
  int row_count;
  uint8_t lane_tokens[32];  // to be added
  TrellisSums best_sums[kMaxTrellisTokens];
  float best_scores[kMaxTrellisTokens];  // of groups
};

// Something of every token, by row (what rows[][] has) and lane.
template <class T>
struct ByLane {
  alignas(64) T of[kMaxTrellisTokens][32];
};
template <class T, class Value>
static inline void SpreadTokens(const TrellisWork& work, const Value& value, ByLane<T>& out) {
  for (int i = 0; i < work.row_count; ++i) {
    const int row = work.each_row[i];
    for (int lane = 0; lane < 32; ++lane) {
      out.of[row][lane] = static_cast<T>(value(row + work.lane_tokens[lane]));
    }
  }
}

static void SumLevels(const TrellisGroups& groups, const TrellisWork& work, TrellisSums* sums) {
  ByLane<int32_t> products, squares;
  const auto zero = [](int) { return 0; };
  SpreadTokens(work, zero, products);
  SpreadTokens(work, zero, squares);
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    for (int p = 0; p < kUnitCodes; ++p) {
      const int row = work.rows[unit][p];
      const int8_t* levels = work.levels + (unit * kUnitCodes + p) * 32;
      const int16_t* targets = work.targets + (unit * kUnitCodes + p) * 32;
      int32_t* product = products.of[row];
      int32_t* square = squares.of[row];
      TQ_INDEPENDENT
      for (int lane = 0; lane < 32; ++lane) {
        product[lane] += levels[lane] * targets[lane];
        square[lane] += levels[lane] * levels[lane];
      }
    }
  }
  for (int token = 0; token < groups.tile.tokens; ++token) sums[token] = {};
  for (int i = 0; i < work.row_count; ++i) {
    const int row = work.each_row[i];
    for (int lane = 0; lane < 32; ++lane) {
      TrellisSums& sum = sums[row + work.lane_tokens[lane]];
      sum.product += products.of[row][lane];
      sum.square += squares.of[row][lane];
    }
  }
}

// TrellisScaled in the form that compilers make pmulhrsw of.
static inline int16_t Scaled(int target, int factor) {
  return static_cast<int16_t>(((target * factor >> 14) + 1) >> 1);
}

// The gain at which a vector's code fits it best: one that favoured length would be the target's
// projection.
static int GainOf(const TrellisSums& sums) {
  if (sums.product <= 0) return kTrellisGainOne;
  constexpr float kOne = kTrellisTargetGrid * kTrellisGainOne;
  const float gain = kOne * static_cast<float>(sums.square) / static_cast<float>(sums.product);
  const float least = kTrellisMinGain, most = kTrellisMaxGain;
  return static_cast<int>(RoundToInteger(gain < least ? least : gain > most ? most : gain));
}

// One lap over all rings, each token at its gain, the class of positions shaken.
static void EncodeTile(const TrellisGroups& groups, int bits, const int* gains, int shaken_class,
                       int shake, TrellisWork& work) {
  ByLane<int16_t> plain, shaken;
  const int grid = TrellisGrid(bits);
  SpreadTokens(
      work, [&](int token) { return gains[token] * grid; }, plain);
  SpreadTokens(
      work, [&](int token) { return TrellisShaken(gains[token], shake) * grid; }, shaken);
  alignas(64) int16_t inputs[kUnitCodes][32];
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    for (int p = 0; p < kUnitCodes; ++p) {
      const int16_t* targets = work.targets + (unit * kUnitCodes + p) * 32;
      const ByLane<int16_t>& factors = p % kTrellisClasses == shaken_class ? shaken : plain;
      const int16_t* factor = factors.of[work.rows[unit][p]];
      TQ_INDEPENDENT
      for (int lane = 0; lane < 32; ++lane) {
        const int16_t x = Scaled(targets[lane], factor[lane]);
        const auto most = static_cast<int16_t>(x < kTrellisMaxInput ? x : kTrellisMaxInput);
        inputs[p][lane] = most > -kTrellisMaxInput ? most : -kTrellisMaxInput;
      }
    }
    for (int lane = 0; lane < 32; lane += kRings) {
      EncodeRings(bits, &inputs[0][lane], work.metrics[(unit * 32 + lane) / kRings],
                  work.coded[unit] + lane, work.levels + unit * kUnitCodes * 32 + lane);
    }
  }
}

// The rings of a unit whose lane has all bits set in `mask`.
static inline void CopyRings(const uint8_t* mask, int unit, const int8_t* levels,
                             const uint32_t (*coded)[32], int8_t* to_levels,
                             uint32_t (*to_coded)[32]) {
  for (int lane = 0; lane < 32; ++lane) {
    to_coded[unit][lane] = mask[lane] != 0 ? coded[unit][lane] : to_coded[unit][lane];
  }
  for (int i = unit * kUnitCodes * 32; i < (unit + 1) * kUnitCodes * 32; i += 32) {
    TQ_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) {
      to_levels[i + lane] = static_cast<int8_t>((levels[i + lane] & mask[lane]) |
                                                (to_levels[i + lane] & ~mask[lane]));
    }
  }
}

// Of the rings encoded last, those that come no nearer to the targets than the best ones, every
// vector at the gain that suits all that was encoded last, go back to the best ones.
static void KeepBetterRings(const TrellisGroups& groups, const TrellisSums* sums,
                            TrellisWork& work) {
  ByLane<int16_t> factors;
  SpreadTokens(
      work, [&](int token) { return GainOf(sums[token]) * kTrellisJudgeGrid; }, factors);
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    alignas(64) int32_t nearer[32] = {};
    for (int p = 0; p < kUnitCodes; ++p) {
      const int at = (unit * kUnitCodes + p) * 32;
      const int16_t* factor = factors.of[work.rows[unit][p]];
      const int16_t* targets = work.targets + at;
      const int8_t *levels = work.levels + at, *best_levels = work.best_levels + at;
      alignas(64) int16_t steps[32], twice[32];  // each loop's types are of one size, or it is slow
      for (int lane = 0; lane < 32; ++lane) {
        twice[lane] = Scaled(targets[lane], factor[lane]);
      }
      for (int lane = 0; lane < 32; ++lane) {
        const int16_t level = levels[lane], best = best_levels[lane];
        steps[lane] = static_cast<int16_t>(level - best);
        twice[lane] = static_cast<int16_t>(2 * twice[lane] - kTrellisJudgeGrid * (level + best));
      }
      for (int lane = 0; lane < 32; ++lane) nearer[lane] += steps[lane] * twice[lane];
    }
    uint8_t back[32];
    for (int lane = 0; lane < 32; ++lane) back[lane] = nearer[lane] <= 0 ? 255 : 0;
    CopyRings(back, unit, work.best_levels, work.best_coded, work.levels, work.coded);
  }
}

// Of all codes of equal length the best has the greatest: its cosine, squared.
static float ScoreOf(const TrellisSums& sums) {
  const auto product = static_cast<float>(sums.product);
  return sums.square > 0 ? product * product / static_cast<float>(sums.square) : 0.0f;
}

// What was encoded last replaces the best of those groups that it serves better.
static void AcceptBetter(const TrellisGroups& groups, bool first, const TrellisSums* sums,
                         TrellisWork& work) {
  float scores[kMaxTrellisTokens] = {};
  for (int token = 0; token < groups.tile.tokens; ++token) {
    scores[groups.OfToken(token)] += ScoreOf(sums[token]);
  }
  bool better[kMaxTrellisTokens];
  for (int group = 0; group < groups.count(); ++group) {
    better[group] = first || scores[group] > work.best_scores[group];
    if (better[group]) work.best_scores[group] = scores[group];
  }
  for (int token = 0; token < groups.tile.tokens; ++token) {
    if (better[groups.OfToken(token)]) work.best_sums[token] = sums[token];
  }
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    uint8_t taken[32];
    for (int lane = 0; lane < 32; ++lane) taken[lane] = better[groups.OfUnit(lane, unit)] ? 255 : 0;
    CopyRings(taken, unit, work.levels, work.coded, work.best_levels, work.best_coded);
  }
}

static void TryEncoding(const TrellisGroups& groups, int bits, const int* gains, int shaken_class,
                        int shake, bool first, TrellisWork& work) {
  EncodeTile(groups, bits, gains, shaken_class, shake, work);
  TrellisSums sums[kMaxTrellisTokens];
  SumLevels(groups, work, sums);
  if (!first) {
    KeepBetterRings(groups, sums, work);
    SumLevels(groups, work, sums);
  }
  AcceptBetter(groups, first, sums, work);
}

static void SearchTile(const TrellisGroups& groups, int bits, TrellisWork& work) {
  const bool keys = groups.side == Side::kKey;
  const float* first_gains = keys ? kKeyGains.data() : kValueGains.data();
  const size_t gain_count = keys ? kKeyGains.size() : kValueGains.size();
  const int rounds = keys ? kTrellisKeyRounds : kTrellisValueRounds;
  int gains[kMaxTrellisTokens];
  for (size_t i = 0; i < gain_count; ++i) {
    for (int token = 0; token < groups.tile.tokens; ++token) {
      gains[token] = TrellisGainOf(first_gains[i]);
    }
    TryEncoding(groups, bits, gains, -1, 0, i == 0, work);
  }
  for (int round = 0; round < rounds; ++round) {
    const int shake = TrellisShake(bits, round, rounds);
    for (int shaken = 0; shaken < kTrellisClasses; ++shaken) {
      for (int token = 0; token < groups.tile.tokens; ++token) {
        gains[token] = GainOf(work.best_sums[token]);
      }
      TryEncoding(groups, bits, gains, shaken, shake, false, work);
    }
  }
}

// The words of the best codes.
static void WriteWords(const TileSide& s, const TrellisWork& work, std::byte* codes) {
  const Trellis& trellis = kTrellisCopies[static_cast<size_t>(s.bits - 2)];
  uint8_t free_of[1 << kTrellisMaxParities][256];  // by parity and level
  for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
    for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
      free_of[z][trellis.Level(free, z) & 255] = static_cast<uint8_t>(free);
    }
  }
  for (int unit = 0; unit < s.tile.units; ++unit) {
    for (int lane = 0; lane < 32; ++lane) {
      uint32_t words[4] = {work.best_coded[unit][lane]};
      for (int n = 0; n < kUnitCodes; ++n) {
        const int p = RingPosition(n);
        const int8_t level = work.best_levels[(unit * kUnitCodes + p) * 32 + lane];
        SetFreeBits(s.bits, words, n,
                    uint32_t{free_of[RingParity(trellis, words[0], p)][level & 255]});
      }
      for (int w = 0; w < s.bits; ++w) {
        __builtin_memcpy(codes + WordOffset(s.tile, s.bits, lane, unit, w), &words[w], 4);
      }
    }
  }
}

// x: rows [tokens][D] of a tile.
static void SealTrellisTile(const TileSide& s, bool other_in_rows, const float* x, std::byte* head,
                            int tile, TrellisWork& work) {
  const TrellisGroups groups(s.tile, s.side);
  const int tokens = s.tile.tokens, dims = s.tile.head_dim;
  const float target = TrellisGain(s.bits, dims);
  float norms[kMaxTrellisTokens], factors[kMaxTrellisTokens];
  for (int token = 0; token < tokens; ++token) {
    norms[token] = SquareRoot(TrellisSquares(x + token * dims, dims));
    factors[token] = norms[token] > 0 ? target / norms[token] : 0.0f;
  }
  for (int lane = 0; lane < 32; ++lane) {
    work.lane_tokens[lane] = static_cast<uint8_t>(groups.TokenOfLane(lane));
  }
  bool known[kMaxTrellisTokens] = {};
  work.row_count = 0;
  for (int unit = 0; unit < s.tile.units; ++unit) {
    for (int p = 0; p < kUnitCodes; ++p) {
      const int row = groups.TokenOfCode(unit, CodeAt(p)), dim = groups.DimOfCode(unit, CodeAt(p));
      work.rows[unit][p] = static_cast<uint8_t>(row);
      if (!known[row]) work.each_row[work.row_count++] = static_cast<uint8_t>(row);
      known[row] = true;
      for (int lane = 0; lane < 32; ++lane) {
        const int token = row + work.lane_tokens[lane];
        const float y = x[token * dims + dim + groups.DimOfLane(lane)] * factors[token];
        work.targets[(unit * kUnitCodes + p) * 32 + lane] = static_cast<int16_t>(
            RoundToInteger(ClampTo(y * kTrellisTargetGrid, kTrellisMaxTarget)));
      }
    }
  }
  __builtin_memset(work.metrics, 0, sizeof work.metrics);
  SearchTile(groups, s.bits, work);
  WriteWords(s, work, head + s.CodesOffset(tile));
  for (int token = 0; token < tokens; ++token) {
    const float length = SquareRoot(static_cast<float>(work.best_sums[token].square));
    const float scale = length > 0 ? norms[token] / length : 0.0f;
    WriteScale(s, other_in_rows, head, tile * tokens + token, FiniteHalf(scale));
  }
}

#undef TQ_INDEPENDENT
