// SPDX-License-Identifier: Apache-2.0
#include "tools/trellis_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "tools/trellis_ring.h"
#include "turboquant/base/random.h"

namespace tq {
namespace {

constexpr int kDims = 128;
constexpr uint64_t kSeed = 0x7472656c6c6973u;  // "trellis"

// Found by SearchTaps; of those within its noise, the ones that need the fewest rotations.
constexpr TrellisTaps kTaps[] = {{020, 016, 043}, {006, 020, 051}, {024, 043, 0}};

constexpr int ParitiesOf(int bits) { return bits == 4 ? 2 : 3; }

// Tables before rounding; base without its 128.
struct Tables {
  std::array<double, 8> base = {}, step = {}, half = {};
};

// A mirrored code is as good: cells come in pairs of opposite sign, whose steps are equal.
void MakeSymmetric(Tables& t) {
  for (size_t i = 0; i < 4; ++i) {
    const size_t j = 7 - i;
    t.step[i] = t.step[j] = (t.step[i] + t.step[j]) / 2;
    t.half[i] = t.half[j] = (t.half[i] + t.half[j]) / 2;
    const double reach = t.step[i] + t.half[i];
    const double middle = (t.base[j] - t.base[i]) / 2;
    t.base[i] = -middle - reach / 2;
    t.base[j] = middle - reach / 2;
  }
}

Trellis Rounded(int bits, const TrellisTaps& taps, const Tables& tables, double sigma) {
  Trellis trellis = {static_cast<uint32_t>(16 - bits), bits, ParitiesOf(bits), taps, {}, {}, {},
                     static_cast<float>(sigma)};
  const auto byte = [](double x, double most) {
    return static_cast<uint8_t>(std::clamp(std::round(x), 0.0, most));
  };
  for (size_t i = 0; i < 8; ++i) {
    trellis.step[i] = byte(tables.step[i], 127);
    trellis.half[i] = byte(tables.half[i], 127);
    trellis.base[i] = byte(tables.base[i] + 128, 255 - trellis.step[i] - trellis.half[i]);
  }
  return trellis;
}

// The parts of a level: cell, and whether step and half are in it.
struct Parts {
  size_t cell;
  bool step, half;
};
Parts PartsOf(int bits, uint32_t free, uint32_t parity) {
  // Read off the definition: tables in which every cell has its own base, and steps are far apart.
  Trellis probe = {0, bits, ParitiesOf(bits), {}, {}, {}, {}, 1};
  for (uint8_t i = 0; i < 8; ++i) {
    probe.base[i] = i;
    probe.step[i] = 16;
    probe.half[i] = 32;
  }
  const int sum = probe.Level(free, parity) + 128;
  return {static_cast<size_t>(sum % 16), (sum & 16) != 0, (sum & 32) != 0};
}

struct Sums {
  double total = 0, count = 0;
};
using LevelSums = std::array<std::array<Sums, 8>, 8>;  // [parity][uncoded bits]

// Least squares of the levels' sums, one table after the other.
void Fit(int bits, const LevelSums& sums, Tables& t) {
  for (int sweep = 0; sweep < 60; ++sweep) {
    for (int which = 0; which < 3; ++which) {
      std::array<Sums, 8> want = {};
      for (uint32_t z = 0; z < 1u << ParitiesOf(bits); ++z) {
        for (uint32_t free = 0; free < 1u << (bits - 1); ++free) {
          const Parts p = PartsOf(bits, free, z);
          if ((which == 1 && !p.step) || (which == 2 && !p.half)) continue;
          const double others = (which == 0 ? 0 : t.base[p.cell]) +
                                (which != 1 && p.step ? t.step[p.cell] : 0) +
                                (which != 2 && p.half ? t.half[p.cell] : 0);
          want[p.cell].total += sums[z][free].total - sums[z][free].count * others;
          want[p.cell].count += sums[z][free].count;
        }
      }
      auto& table = which == 0 ? t.base : which == 1 ? t.step : t.half;
      for (size_t i = 0; i < 8; ++i) {
        if (want[i].count > 0) table[i] = want[i].total / want[i].count;
      }
    }
  }
  MakeSymmetric(t);
}

// Quantiles of a wide Gaussian, in the order of cells, then gates.
Tables FirstTables(int bits, double sigma) {
  const int levels = 1 << (bits - 1 + ParitiesOf(bits));
  LevelSums sums = {};
  for (int i = 0; i < levels; ++i) {
    double low = -5, high = 5;
    for (int step = 0; step < 60; ++step) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / 1.7 / std::sqrt(2.0)) < (i + 0.5) / levels ? low : high) = middle;
    }
    const uint32_t index = static_cast<uint32_t>(levels - 1 - i);
    sums[index % (1u << ParitiesOf(bits))][index >> ParitiesOf(bits)] = {low * sigma, 1};
  }
  Tables tables;
  Fit(bits, sums, tables);
  return tables;
}

// A Gaussian vector of length sqrt(D).
std::array<double, kDims> NextVector(Random& random) {
  std::array<double, kDims> x;
  double squares = 0;
  for (double& value : x) {
    value = random.Gaussian();
    squares += value * value;
  }
  for (double& value : x) value *= std::sqrt(kDims / squares);
  return x;
}

struct Encoded {
  std::array<uint32_t, kDims> free, parity;
  std::array<int8_t, kDims> levels;
};
Encoded EncodeVector(RingSearch& encoder, const Trellis& trellis,
                     const std::array<double, kDims>& x) {
  Encoded out = {};
  const double factor = double{trellis.sigma} * TrellisGrid(trellis.bits);
  for (size_t first = 0; first < kDims; first += kUnitCodes) {
    int16_t in[kUnitCodes];
    for (size_t p = 0; p < kUnitCodes; ++p) {
      in[p] = static_cast<int16_t>(std::lround(
          std::clamp(x[first + p] * factor, -1.0 * kTrellisMaxInput, 1.0 * kTrellisMaxInput)));
    }
    uint32_t words[4] = {};
    encoder.Encode(in, words, &out.levels[first]);
    for (int n = 0; n < kUnitCodes; ++n) {
      const int p = RingPosition(n);
      out.free[first + static_cast<size_t>(p)] = GetFreeBits(trellis.bits, words, n);
      out.parity[first + static_cast<size_t>(p)] = RingParity(trellis, words[0], p);
    }
  }
  return out;
}

constexpr double kFirstSigma[] = {51, 38, 39.5};

// Integer levels one unit up and down, in mirrored pairs, as long as that helps.
void Polish(Trellis& trellis, int vectors) {
  double best = TrellisDecibels(trellis, vectors, kSeed + 1);
  const auto attempt = [&](auto change) {
    Trellis trial = trellis;
    change(trial);
    for (size_t i = 0; i < 8; ++i) {
      const int reach = trial.step[i] + trial.half[i];
      if (trial.step[i] > 127 || trial.half[i] > 127 || trial.base[i] + reach > 255) return;
    }
    const double decibels = TrellisDecibels(trial, vectors, kSeed + 1);
    if (decibels > best + 1e-4) {
      best = decibels;
      trellis = trial;
    }
  };
  for (float factor : {0.98f, 0.99f, 1.01f, 1.02f}) attempt([&](Trellis& t) { t.sigma *= factor; });
  for (size_t i = 0; i < 4; ++i) {
    for (int sign : {-1, 1}) {
      const auto up = static_cast<uint8_t>(sign), down = static_cast<uint8_t>(-sign);
      attempt([&](Trellis& t) { t.base[i] += up, t.base[7 - i] += down; });
      attempt([&](Trellis& t) {
        t.step[i] += up, t.step[7 - i] += up;
        t.base[7 - i] += down;
      });
      if (trellis.bits == 2) continue;
      attempt([&](Trellis& t) {
        t.half[i] += up, t.half[7 - i] += up;
        t.base[7 - i] += down;
      });
    }
  }
}

Trellis Train(int bits, const TrellisTaps& taps, Tables tables, const TrellisEffort& effort) {
  const double sigma = kFirstSigma[bits - 2];
  Tables velocity;
  Random random(kSeed);
  for (int round = 0; round < effort.rounds; ++round) {
    const Trellis trellis = Rounded(bits, taps, tables, sigma);
    RingSearch encoder(trellis);
    LevelSums sums = {};
    for (int i = 0; i < effort.vectors; ++i) {
      const std::array<double, kDims> x = NextVector(random);
      const Encoded code = EncodeVector(encoder, trellis, x);
      for (size_t n = 0; n < kDims; ++n) {
        Sums& sum = sums[code.parity[n]][code.free[n]];
        sum.total += x[n] * sigma;
        sum.count += 1;
      }
    }
    Tables fitted = tables;
    Fit(bits, sums, fitted);
    // Momentum, without which 4 bits stall; none in the last rounds.
    const bool last = round + 6 >= effort.rounds;
    const auto move = [&](auto member) {
      for (size_t i = 0; i < 8; ++i) {
        double& v = (velocity.*member)[i];
        const double change = (fitted.*member)[i] - (tables.*member)[i];
        v = last ? 0.7 * change : 0.7 * v + 1.2 * change;
        (tables.*member)[i] += v;
      }
    };
    move(&Tables::base);
    move(&Tables::step);
    move(&Tables::half);
    MakeSymmetric(tables);
  }
  Trellis trellis = Rounded(bits, taps, tables, sigma);
  if (effort.polish > 0) Polish(trellis, effort.polish);
  return trellis;
}

// Where the committed tables start from: rounded levels of a longer training on a finer grid. From
// quantiles the training here may stall, 0.2 dB lower at 4 bits.
constexpr Tables kStarts[] = {
    {{72, -14, 22, -61, 43, -34, 3, -109}, {37, 11, 12, 18, 18, 12, 11, 37}, {}},
    {{42, -16, 13, -55, 27, -32, -1, -100},
     {36, 12, 13, 19, 19, 13, 12, 36},
     {22, 5, 6, 9, 9, 6, 5, 22}},
    {{70, -14, 19, -60, 39, -34, 2, -114},
     {30, 8, 10, 14, 14, 10, 8, 30},
     {14, 4, 5, 7, 7, 5, 4, 14}},
};

}  // namespace

Trellis TrainTrellis(int bits, const TrellisTaps& taps, const TrellisEffort& effort) {
  return Train(bits, taps, FirstTables(bits, kFirstSigma[bits - 2]), effort);
}

double TrellisDecibels(const Trellis& trellis, int vectors, uint64_t seed) {
  Random random(seed);
  RingSearch encoder(trellis);
  double error = 0;
  for (int i = 0; i < vectors; ++i) {
    const std::array<double, kDims> x = NextVector(random);
    const Encoded code = EncodeVector(encoder, trellis, x);
    double product = 0, squares = 0;
    for (size_t n = 0; n < kDims; ++n) {
      product += x[n] * code.levels[n];
      squares += double{1} * code.levels[n] * code.levels[n];
    }
    error += 2 - 2 * product / std::sqrt(squares * kDims);
  }
  return -10 * std::log10(error / vectors);
}

std::vector<FoundTaps> SearchTaps(int bits, int candidates, uint64_t seed) {
  Random random(seed);
  std::vector<FoundTaps> found;
  while (static_cast<int>(found.size()) < candidates) {
    TrellisTaps taps = {};
    unsigned all = 0;
    for (int t = 0; t < ParitiesOf(bits); ++t) {
      const auto tap = static_cast<uint8_t>(random.Next() % 63 + 1);
      taps[static_cast<size_t>(t)] = tap;
      all |= tap;
    }
    if ((all & 1u) && (all & 32u)) found.push_back({taps, 0});
  }
  struct Stage {
    TrellisEffort effort;
    int judged;
    size_t kept;
  };
  for (const Stage& stage :
       {Stage{{6, 100, 0}, 200, 100}, Stage{{12, 300, 0}, 800, 16}, Stage{{40, 800, 0}, 3000, 8}}) {
    for (FoundTaps& f : found) {
      f.decibels =
          TrellisDecibels(TrainTrellis(bits, f.taps, stage.effort), stage.judged, kSeed + 2);
    }
    std::sort(found.begin(), found.end(),
              [](const FoundTaps& a, const FoundTaps& b) { return a.decibels > b.decibels; });
    if (found.size() > stage.kept) found.resize(stage.kept);
  }
  return found;
}

std::string MakeTrellisTable() {
  std::string text =
      "// Generated by tools/trellis_search; do not edit.\n"
      "// id, bits, parities, taps, base, step, half, sigma\n";
  for (int bits = 2; bits <= 4; ++bits) {
    const Trellis t = Train(bits, kTaps[bits - 2], kStarts[bits - 2], {20, 1000, 1500});
    text += fmt::format(
        "// {:.3f} dB at one gain\n"
        "Trellis{{{}, {}, {}, {{{}}}, {{{}}}, {{{}}}, {{{}}}, {:.4f}f}},\n",
        TrellisDecibels(t, 2000, kSeed + 3), t.id, t.bits, t.parities, fmt::join(t.taps, ", "),
        fmt::join(t.base, ", "), fmt::join(t.step, ", "), fmt::join(t.half, ", "), t.sigma);
  }
  return text;
}

}  // namespace tq
