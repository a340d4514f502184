// SPDX-License-Identifier: Apache-2.0
// A tile of head vectors to trellis codes: the encodings that trellis_search.h lists, and which
// rings of each are kept. Included inside an instruction set's namespace after what it needs:
//   u16_*.inl: vectors of kRings 16-bit integers;
//   EncodeRings(bits, inputs, metrics, coded, levels): one lap over kRings rings;
//   FiniteHalf, SquareRoot, WriteScale.

static constexpr int kMaxTrellisCodes = 512 * 32;  // of a tile
static constexpr int kMaxTrellisTokens = 128;
static constexpr int kMaxTrellisUnits = kMaxTrellisCodes / (32 * kUnitCodes);
static constexpr int kMaxTrellisRows = kMaxTrellisTokens / 4;
static constexpr int kMaxUnitRows = kUnitCodes / 2;

// Before a loop whose iterations do not depend on each other; Clang needs no telling.
#ifdef __clang__
#define TQ_INDEPENDENT
#else
#define TQ_INDEPENDENT _Pragma("GCC ivdep")
#endif

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

// Of the rings of a unit: what they add to the sums of their tokens, a row's to a line.
struct UnitSums {
  alignas(64) int32_t product[kMaxUnitRows][32];
  alignas(64) int32_t square[kMaxUnitRows][32];
};
// Levels, coded bits (halves of words 0) and sums.
struct TrellisCodes {
  alignas(64) int8_t levels[kMaxTrellisCodes];
  alignas(64) uint16_t coded[kMaxTrellisUnits][2][32];
  UnitSums sums[kMaxTrellisUnits];
};

// Of the rings of a unit: all bits set where one is meant.
struct UnitMask {
  alignas(32) uint8_t of[32];
};

// Codes and what belongs to them stand [unit][ring position][lane].
struct TrellisWork {
  alignas(64) int16_t targets[kMaxTrellisCodes];
  TrellisCodes last, best;
  UnitMask kept[kMaxTrellisUnits];  // rings of the last encoding that come nearer than the best
  alignas(64) uint16_t metrics[kMaxTrellisUnits * 32 / kRings][kTrellisStates][kRings];
  // A row: the tokens that the lanes have at one ring position, groups.TokenOfLane from its first.
  uint8_t rows[kMaxTrellisUnits][kUnitCodes];
  // Those of a unit, and its ring positions row by row, an even number each.
  int unit_row_count[kMaxTrellisUnits];
  uint8_t unit_rows[kMaxTrellisUnits][kMaxUnitRows];
  uint8_t row_ends[kMaxTrellisUnits][kMaxUnitRows];
  uint8_t positions[kMaxTrellisUnits][kUnitCodes];
  uint8_t first_tokens[kMaxTrellisRows];
  int row_count;
  TrellisSums best_sums[kMaxTrellisTokens];
  float best_scores[kMaxTrellisTokens];  // of groups
};

// Something of every token, as the lanes of a row have it.
template <typename T>
struct ByLane {
  alignas(64) T of[kMaxTrellisRows][32];
};
template <typename T>
static void SpreadTokens(const TrellisGroups& groups, const TrellisWork& work, const T* of_token,
                         ByLane<T>& out) {
  for (int row = 0; row < work.row_count; ++row) {
    const T* x = of_token + work.first_tokens[row];
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < 4; ++j) out.of[row][4 * i + j] = x[groups.side == Side::kKey ? i : 2 * j];
    }
  }
}

// What the last encoding's rings add to their tokens.
static void SumRings(const TrellisGroups& groups, TrellisWork& work) {
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    UnitSums& sums = work.last.sums[unit];
    for (int part = 0; part < 32; part += kRings) {
      const int16_t* targets = work.targets + unit * kUnitCodes * 32 + part;
      const int8_t* levels = work.last.levels + unit * kUnitCodes * 32 + part;
      for (int row = 0, i = 0; row < work.unit_row_count[unit]; ++row) {
        SumsU products = {}, squares = {};
        for (; i < work.row_ends[unit][row]; i += 2) {
          const int p = work.positions[unit][i] * 32, q = work.positions[unit][i + 1] * 32;
          const U16 x = LoadBytesU(levels + p), y = LoadBytesU(levels + q);
          AddProductsU(x, LoadU(targets + p), y, LoadU(targets + q), products);
          AddProductsU(x, x, y, y, squares);
        }
        StoreSumsU(sums.product[row] + part, products);
        StoreSumsU(sums.square[row] + part, squares);
      }
    }
  }
}

// Lane by lane `a` where the mask is set, else `b`.
static inline int32_t Choose(uint8_t mask, int32_t a, int32_t b) {
  const int wide = static_cast<int8_t>(mask);
  return (a & wide) | (b & ~wide);
}

// Of tokens, from rings of the last encoding that are kept and the best ones' in place of others.
static void SumTokens(const TrellisGroups& groups, const TrellisWork& work, TrellisSums* sums) {
  alignas(64) int32_t products[kMaxTrellisRows][32], squares[kMaxTrellisRows][32];
  __builtin_memset(products, 0, sizeof products[0] * static_cast<size_t>(work.row_count));
  __builtin_memset(squares, 0, sizeof squares[0] * static_cast<size_t>(work.row_count));
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    const UnitSums &last = work.last.sums[unit], &best = work.best.sums[unit];
    const uint8_t* kept = work.kept[unit].of;
    for (int i = 0; i < work.unit_row_count[unit]; ++i) {
      int32_t *product = products[work.unit_rows[unit][i]],
              *square = squares[work.unit_rows[unit][i]];
      TQ_INDEPENDENT
      for (int lane = 0; lane < 32; ++lane) {
        product[lane] += Choose(kept[lane], last.product[i][lane], best.product[i][lane]);
        square[lane] += Choose(kept[lane], last.square[i][lane], best.square[i][lane]);
      }
    }
  }
  for (int token = 0; token < groups.tile.tokens; ++token) sums[token] = {};
  for (int row = 0; row < work.row_count; ++row) {
    TrellisSums* of_row = sums + work.first_tokens[row];
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < 4; ++j) {
        TrellisSums& sum = of_row[groups.side == Side::kKey ? i : 2 * j];
        sum.product += products[row][4 * i + j];
        sum.square += squares[row][4 * i + j];
      }
    }
  }
}

// The gain at which a vector's code fits it best: one that favoured length would be the target's
// projection. (Without branches, for loops over tokens.)
static inline int GainOf(const TrellisSums& sums) {
  constexpr float kOne = kTrellisTargetGrid * kTrellisGainOne;
  const bool fits = sums.product > 0;
  const float gain =
      kOne * static_cast<float>(sums.square) / static_cast<float>(fits ? sums.product : 1);
  const float least = kTrellisMinGain, most = kTrellisMaxGain;
  const auto rounded = static_cast<int>(RoundToInteger(gain < least  ? least
                                                       : gain > most ? most
                                                                     : gain));
  return fits ? rounded : kTrellisGainOne;
}

// One lap over all rings, each token at its gain.
static void EncodeTile(const TrellisGroups& groups, int bits, const int* gains, TrellisWork& work) {
  int16_t of_token[kMaxTrellisTokens];
  for (int token = 0; token < groups.tile.tokens; ++token) {
    of_token[token] = static_cast<int16_t>(gains[token] * TrellisGrid(bits));
  }
  ByLane<int16_t> factors;
  SpreadTokens(groups, work, of_token, factors);
  alignas(64) int16_t inputs[kUnitCodes][32];
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    for (int p = 0; p < kUnitCodes; ++p) {
      const int16_t* targets = work.targets + (unit * kUnitCodes + p) * 32;
      const int16_t* factor = factors.of[work.rows[unit][p]];
      for (int lane = 0; lane < 32; lane += kRings) {
        StoreU(inputs[p] + lane,
               ClampU(ScaledU(LoadU(targets + lane), LoadU(factor + lane)), kTrellisMaxInput));
      }
    }
    for (int lane = 0; lane < 32; lane += kRings) {
      EncodeRings(bits, &inputs[0][lane], work.metrics[(unit * 32 + lane) / kRings],
                  work.last.coded[unit][0] + lane,
                  work.last.levels + unit * kUnitCodes * 32 + lane);
    }
  }
}

// The rings of a unit that the mask has.
static inline void CopyRings(const UnitMask& mask, int unit, int rows, const TrellisCodes& from,
                             TrellisCodes& to) {
  for (int half = 0; half < 2; ++half) {
    TQ_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) {
      to.coded[unit][half][lane] = static_cast<uint16_t>(
          Choose(mask.of[lane], from.coded[unit][half][lane], to.coded[unit][half][lane]));
    }
  }
  for (int i = unit * kUnitCodes * 32; i < (unit + 1) * kUnitCodes * 32; i += 32) {
    TQ_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) {
      to.levels[i + lane] = static_cast<int8_t>((from.levels[i + lane] & mask.of[lane]) |
                                                (to.levels[i + lane] & ~mask.of[lane]));
    }
  }
  const UnitSums& sums = from.sums[unit];
  UnitSums& to_sums = to.sums[unit];
  for (int row = 0; row < rows; ++row) {
    TQ_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) {
      to_sums.product[row][lane] =
          Choose(mask.of[lane], sums.product[row][lane], to_sums.product[row][lane]);
      to_sums.square[row][lane] =
          Choose(mask.of[lane], sums.square[row][lane], to_sums.square[row][lane]);
    }
  }
}

// Keeps those of the rings encoded last that come nearer to the targets than the best ones, every
// vector at a gain of its own; twice that is given. Integers, as doubles (exact below 2^53), since
// compilers multiply those by vectors.
static void KeepBetterRings(const TrellisGroups& groups, const double* twice_gains,
                            TrellisWork& work) {
  ByLane<double> twice;
  SpreadTokens(groups, work, twice_gains, twice);
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    const UnitSums &last = work.last.sums[unit], &best = work.best.sums[unit];
    alignas(64) double nearer[32] = {};
    for (int i = 0; i < work.unit_row_count[unit]; ++i) {
      const double* gains = twice.of[work.unit_rows[unit][i]];
      TQ_INDEPENDENT
      for (int lane = 0; lane < 32; ++lane) {
        nearer[lane] += (last.product[i][lane] - best.product[i][lane]) * gains[lane] -
                        (last.square[i][lane] - best.square[i][lane]) * double{kTrellisJudgeGrid};
      }
    }
    for (int lane = 0; lane < 32; ++lane) work.kept[unit].of[lane] = nearer[lane] > 0 ? 255 : 0;
  }
}

// Of all codes of equal length the best has the greatest: its cosine, squared.
static inline float ScoreOf(const TrellisSums& sums) {
  const auto product = static_cast<float>(sums.product);  // 0 if all levels are
  return product * product / static_cast<float>(sums.square > 0 ? sums.square : 1);
}

// Rings that were kept replace the best ones of those groups that they serve better.
static void AcceptBetter(const TrellisGroups& groups, bool first, const TrellisSums* sums,
                         TrellisWork& work) {
  float of_token[kMaxTrellisTokens], scores[kMaxTrellisTokens] = {};
  for (int token = 0; token < groups.tile.tokens; ++token) of_token[token] = ScoreOf(sums[token]);
  for (int token = 0; token < groups.tile.tokens; ++token) {
    scores[groups.OfToken(token)] += of_token[token];
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
    UnitMask taken;
    for (int lane = 0; lane < 32; ++lane) {
      taken.of[lane] = better[groups.OfUnit(lane, unit)] ? work.kept[unit].of[lane] : 0;
    }
    CopyRings(taken, unit, work.unit_row_count[unit], work.last, work.best);
  }
}

static void SearchTile(const TrellisGroups& groups, int bits, const TrellisMoves& moves,
                       const int* first_gains, TrellisWork& work) {
  int gains[kMaxTrellisTokens], own_gains[kMaxTrellisTokens];
  double twice_gains[kMaxTrellisTokens];
  for (int i = 0; i < moves.count; ++i) {
    for (int token = 0; token < groups.tile.tokens; ++token) {
      const int own = i == 0 ? kTrellisGainOne : GainOf(work.best_sums[token]);
      const int before = i == 0 ? own : own_gains[token];
      gains[token] = moves.Gain(i, first_gains[token], own, before);
      own_gains[token] = own;
      twice_gains[token] = own + gains[token];
    }
    EncodeTile(groups, bits, gains, work);
    SumRings(groups, work);
    if (i == 0) {
      __builtin_memset(work.kept, 255, sizeof work.kept);
    } else {
      KeepBetterRings(groups, twice_gains, work);
    }
    TrellisSums sums[kMaxTrellisTokens];
    SumTokens(groups, work, sums);
    AcceptBetter(groups, i == 0, sums, work);
  }
}

// Bit p: RingParity's bit t at position p.
static inline uint32_t RingPlane(const Trellis& trellis, uint32_t coded, int t) {
  uint32_t plane = 0;
  for (int i = 0; i < kTrellisMemory; ++i) {
    const uint32_t turned = coded << i | coded >> (31 & -i);
    plane ^= turned & -(trellis.taps[static_cast<size_t>(t)] >> i & 1u);
  }
  return plane;
}

// The words of the best codes.
template <int kBits>
static void WriteWords(const TileSide& s, const TrellisWork& work, std::byte* codes) {
  constexpr Trellis kTrellis = kTrellises[kBits - 2];
  uint8_t free_of[1 << kTrellis.parities][256];  // by parity and level
  for (uint32_t z = 0; z < 1u << kTrellis.parities; ++z) {
    for (uint32_t free = 0; free < 1u << kTrellis.free_bits(); ++free) {
      free_of[z][kTrellis.Level(free, z) & 255] = static_cast<uint8_t>(free);
    }
  }
  for (int unit = 0; unit < s.tile.units; ++unit) {
    for (int lane = 0; lane < 32; ++lane) {
      const uint16_t(*halves)[32] = work.best.coded[unit];
      const uint32_t coded = halves[0][lane] | uint32_t{halves[1][lane]} << 16;
      uint32_t planes[kTrellis.parities], words[4] = {coded};
      for (int t = 0; t < kTrellis.parities; ++t) planes[t] = RingPlane(kTrellis, coded, t);
#pragma GCC unroll 32
      for (int n = 0; n < kUnitCodes; ++n) {
        const int p = RingPosition(n);
        uint32_t parity = 0;
        for (int t = 0; t < kTrellis.parities; ++t) parity |= (planes[t] >> p & 1u) << t;
        const int8_t level = work.best.levels[(unit * kUnitCodes + p) * 32 + lane];
        SetFreeBits(kBits, words, n / 8, n % 8, uint32_t{free_of[parity][level & 255]});
      }
      for (int w = 0; w < kBits; ++w) {
        __builtin_memcpy(codes + WordOffset(s.tile, kBits, lane, unit, w), &words[w], 4);
      }
    }
  }
}

// Which tokens and dims stand where, and what shall come near to them: x [tokens][D] by a factor
// each. Gives the greatest magnitudes of tokens' targets.
static void SetTargets(const TrellisGroups& groups, const float* x, const float* factors,
                       TrellisWork& work, int* most) {
  for (int token = 0; token < groups.tile.tokens; ++token) most[token] = 0;
  uint8_t row_of[kMaxTrellisTokens];
  uint32_t known[kMaxTrellisTokens / 32] = {};
  work.row_count = 0;
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    int unit_rows = 0;
    for (int p = 0; p < kUnitCodes; ++p) {
      const int first = groups.TokenOfCode(unit, CodeAt(p));
      const int dim = groups.DimOfCode(unit, CodeAt(p));
      if ((known[first / 32] >> first % 32 & 1u) == 0) {
        known[first / 32] |= 1u << first % 32;
        work.first_tokens[work.row_count] = static_cast<uint8_t>(first);
        row_of[first] = static_cast<uint8_t>(work.row_count++);
      }
      const int row = row_of[first];
      work.rows[unit][p] = static_cast<uint8_t>(row);
      uint8_t* of_unit = work.unit_rows[unit];
      if (__builtin_memchr(of_unit, row, static_cast<size_t>(unit_rows)) == nullptr) {
        of_unit[unit_rows++] = static_cast<uint8_t>(row);
      }
      for (int lane = 0; lane < 32; ++lane) {
        const int token = first + groups.TokenOfLane(lane);
        const float y = x[token * groups.tile.head_dim + dim + groups.DimOfLane(lane)];
        const auto target = static_cast<int16_t>(
            RoundToInteger(ClampTo(y * factors[token] * kTrellisTargetGrid, kTrellisMaxTarget)));
        work.targets[(unit * kUnitCodes + p) * 32 + lane] = target;
        const int magnitude = target < 0 ? -target : target;
        most[token] = magnitude > most[token] ? magnitude : most[token];
      }
    }
    work.unit_row_count[unit] = unit_rows;
    int placed = 0;
    for (int i = 0; i < unit_rows; ++i) {
      for (int p = 0; p < kUnitCodes; ++p) {
        if (work.rows[unit][p] == work.unit_rows[unit][i]) {
          work.positions[unit][placed++] = static_cast<uint8_t>(p);
        }
      }
      work.row_ends[unit][i] = static_cast<uint8_t>(placed);
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
  int most[kMaxTrellisTokens], first_gains[kMaxTrellisTokens];
  SetTargets(groups, x, factors, work, most);
  const TrellisMoves moves = TrellisMovesOf(s.bits, s.side, dims);
  for (int token = 0; token < tokens; ++token) first_gains[token] = moves.FirstGain(most[token]);
  __builtin_memset(work.metrics, 0, sizeof work.metrics);
  SearchTile(groups, s.bits, moves, first_gains, work);
  const auto write = s.bits == 2 ? WriteWords<2> : s.bits == 3 ? WriteWords<3> : WriteWords<4>;
  write(s, work, head + s.CodesOffset(tile));
  for (int token = 0; token < tokens; ++token) {
    const float length = SquareRoot(static_cast<float>(work.best_sums[token].square));
    const float scale = length > 0 ? norms[token] / length : 0.0f;
    WriteScale(s, other_in_rows, head, tile * tokens + token, FiniteHalf(scale));
  }
}

#undef TQ_INDEPENDENT
