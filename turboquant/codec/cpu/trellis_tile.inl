// SPDX-License-Identifier: Apache-2.0
// A tile of head vectors to trellis codes: the search over gains round the ring encoder. Included
// inside an instruction set's namespace after what it needs:
//   kRings, RingBatch: how many rings are encoded at once, and their results;
//   EncodeRings(bits, in [32][kRings], out): one batch;
//   FiniteHalf, SquareRoot, WriteScale.

static constexpr int kMaxTrellisCodes = 512 * 32;  // of a tile
static constexpr int kMaxTrellisTokens = 128;

// Copies of our own: shared ones would be weak symbols of every instruction set.
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

struct TrellisWork {
  alignas(64) int16_t inputs[kMaxTrellisCodes];  // rows [tokens][D]
  int16_t judged[kMaxTrellisCodes];              // rows on the score grid
  int8_t levels[kMaxTrellisCodes];               // rows: of the last encoding
  uint32_t words[kMaxTrellisCodes / 8];          // [unit][lane][bits]: of the last encoding
  uint32_t best_words[kMaxTrellisCodes / 8];
  uint16_t places[kMaxTrellisCodes / 32];  // of codes in rows, [unit][ring position]
  float gains[kMaxTrellisTokens];          // accepted
  int squares[kMaxTrellisTokens];          // of the accepted levels, summed
  float best[kMaxTrellisTokens];           // score of each group
};

static inline void FillInputs(int bits, const float* y, float gain, int n, int16_t* out) {
  const float factor = gain * static_cast<float>(TrellisGrid(bits));
  for (int i = 0; i < n; ++i) {
    out[i] = static_cast<int16_t>(RoundToInteger(ClampTo(y[i] * factor, kTrellisMaxInput)));
  }
}

// All units of the tile with the inputs as they are.
static void EncodeUnits(const TrellisGroups& groups, int bits, TrellisWork& work) {
  const int units = groups.tile.units;
  alignas(64) int16_t in[kUnitCodes][kRings];
  RingBatch out;
  for (int unit = 0; unit < units; ++unit) {
    const uint16_t* places = work.places + unit * kUnitCodes;
    for (int lane = 0; lane < 32; lane += kRings) {
      int at[kRings];
      for (int i = 0; i < kRings; ++i) at[i] = groups.OfLane(lane + i);
      for (int p = 0; p < kUnitCodes; ++p) {
        for (int i = 0; i < kRings; ++i) in[p][i] = work.inputs[places[p] + at[i]];
      }
      EncodeRings(bits, in, out);
      for (int p = 0; p < kUnitCodes; ++p) {
        for (int i = 0; i < kRings; ++i) work.levels[places[p] + at[i]] = out.levels[p][i];
      }
      for (int i = 0; i < kRings; ++i) {
        uint32_t* words = work.words + (unit * 32 + lane + i) * bits;
        for (int w = 0; w < bits; ++w) words[w] = out.words[i][w];
      }
    }
  }
}

struct TokenScore {
  float score;  // of all codes of equal length the best has the greatest: its cosine, squared
  int squares;
};
static inline TokenScore ScoreToken(const int16_t* judged, const int8_t* levels, int n) {
  int product = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    product += judged[i] * levels[i];
    squares += levels[i] * levels[i];
  }
  const auto wide = static_cast<float>(product);
  return {squares > 0 ? wide * wide / static_cast<float>(squares) : 0.0f, squares};
}

// What was encoded last replaces the best of those groups that it serves better; the gains of the
// others go back to what they were. A move's gain is that of the tokens it moved; 1 for the first.
static void AcceptBetter(const TrellisGroups& groups, int bits, bool first, const bool* moved,
                         float gain, const float* y, TrellisWork& work) {
  const int tokens = groups.tile.tokens, dims = groups.tile.head_dim;
  float scores[kMaxTrellisTokens] = {};
  int squares[kMaxTrellisTokens];
  for (int token = 0; token < tokens; ++token) {
    const TokenScore score =
        ScoreToken(work.judged + token * dims, work.levels + token * dims, dims);
    scores[groups.OfToken(token)] += score.score;
    squares[token] = score.squares;
  }
  bool better[kMaxTrellisTokens];
  for (int group = 0; group < groups.count(); ++group) {
    better[group] = first || scores[group] > work.best[group];
    if (better[group]) work.best[group] = scores[group];
  }
  for (int token = 0; token < tokens; ++token) {
    if (better[groups.OfToken(token)]) {
      work.squares[token] = squares[token];
      if (moved[token]) work.gains[token] = gain;
    } else if (moved[token]) {
      FillInputs(bits, y + token * dims, work.gains[token], dims, work.inputs + token * dims);
    }
  }
  for (int unit = 0; unit < groups.tile.units; ++unit) {
    for (int lane = 0; lane < 32; ++lane) {
      if (!better[groups.OfUnit(lane, unit)]) continue;
      const int at = (unit * 32 + lane) * bits;
      for (int w = 0; w < bits; ++w) work.best_words[at + w] = work.words[at + w];
    }
  }
}

// Encodes with another gain for the tokens of a subset (all, if subset < 0), and keeps what is
// better.
static void TryGain(const TrellisGroups& groups, int bits, float gain, int subset, const float* y,
                    TrellisWork& work) {
  const int tokens = groups.tile.tokens, dims = groups.tile.head_dim;
  bool moved[kMaxTrellisTokens];
  for (int token = 0; token < tokens; ++token) {
    moved[token] = subset < 0 || TrellisGroups::SubsetOf(token) == subset;
    if (moved[token]) {
      FillInputs(bits, y + token * dims, gain, dims, work.inputs + token * dims);
    }
  }
  EncodeUnits(groups, bits, work);
  AcceptBetter(groups, bits, false, moved, gain, y, work);
}

// x: rows [tokens][D] of a tile; overwritten.
static void SealTrellisTile(const TileSide& s, bool other_in_rows, float* x, std::byte* head,
                            int tile, TrellisWork& work) {
  const TrellisGroups groups(s.tile, s.side);
  const int tokens = s.tile.tokens, dims = s.tile.head_dim;
  const float target = TrellisGain(s.bits, dims);
  float norms[kMaxTrellisTokens];
  bool all[kMaxTrellisTokens];
  for (int token = 0; token < tokens; ++token) {
    float* y = x + token * dims;
    norms[token] = SquareRoot(TrellisSquares(y, dims));
    const float factor = norms[token] > 0 ? target / norms[token] : 0.0f;
    int16_t* judged = work.judged + token * dims;
    for (int i = 0; i < dims; ++i) {
      y[i] *= factor;
      judged[i] = static_cast<int16_t>(
          RoundToInteger(ClampTo(y[i] * kTrellisScoreGrid, kTrellisMaxScoreInput)));
    }
    FillInputs(s.bits, y, 1.0f, dims, work.inputs + token * dims);
    work.gains[token] = 1.0f;
    all[token] = true;
  }
  for (int unit = 0; unit < s.tile.units; ++unit) {
    for (int n = 0; n < kUnitCodes; ++n) {
      work.places[unit * kUnitCodes + RingPosition(n)] =
          static_cast<uint16_t>(groups.OfCode(unit, n));
    }
  }
  EncodeUnits(groups, s.bits, work);
  AcceptBetter(groups, s.bits, true, all, 1.0f, x, work);
  if (s.side == Side::kKey) {
    for (size_t i = 0; i < kKeyGains.size(); ++i) {
      TryGain(groups, s.bits, kKeyGains[i], -1, x, work);
    }
  } else {
    for (size_t i = 0; i < kValueGains.size(); ++i) {
      for (int subset = 0; subset < kTrellisValueSubsets; ++subset) {
        TryGain(groups, s.bits, kValueGains[i], subset, x, work);
      }
    }
  }
  std::byte* codes = head + s.CodesOffset(tile);
  for (int unit = 0; unit < s.tile.units; ++unit) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int w = 0; w < s.bits; ++w) {
        __builtin_memcpy(codes + WordOffset(s.tile, s.bits, lane, unit, w),
                         &work.best_words[(unit * 32 + lane) * s.bits + w], 4);
      }
    }
  }
  for (int token = 0; token < tokens; ++token) {
    const float length = SquareRoot(static_cast<float>(work.squares[token]));
    const float scale = length > 0 ? norms[token] / length : 0.0f;
    WriteScale(s, other_in_rows, head, tile * tokens + token, FiniteHalf(scale));
  }
}
