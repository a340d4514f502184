// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/trellis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/codec/cpu/trellis_ring_scalar.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/codec/trellis_search.h"

namespace tq {
namespace {

// What the bytes promise to kernels: sums that never carry, steps whose top bit is clear.
TEST(Trellis, TablesKeepTheirPromises) {
  for (const Trellis& trellis : kTrellises) {
    SCOPED_TRACE(trellis.bits);
    EXPECT_EQ(&TrellisOfBits(trellis.bits), &trellis);
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_LE(trellis.base[i] + trellis.step[i] + trellis.half[i], 255);
      EXPECT_LT(trellis.step[i], 128);
      EXPECT_LT(trellis.half[i], 128);
      EXPECT_TRUE(trellis.bits > 2 || trellis.half[i] == 0);
    }
  }
}

// Parities as rotations of a word are parities of windows.
TEST(Trellis, ParitiesAreRotations) {
  Random random(1);
  for (const Trellis& trellis : kTrellises) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const auto coded = static_cast<uint32_t>(random.Next());
      for (int t = 0; t < trellis.parities; ++t) {
        uint32_t plane = 0;
        for (int i = 0; i < kTrellisMemory; ++i) {
          if (trellis.taps[static_cast<size_t>(t)] >> i & 1u) plane ^= std::rotl(coded, i);
        }
        for (int p = 0; p < 32; ++p)
          ASSERT_EQ(plane >> p & 1u, RingParity(trellis, coded, p) >> t & 1u);
      }
    }
  }
}

TEST(Trellis, FreeBitsHaveTheirOwnPlaces) {
  Random random(2);
  for (int bits : {2, 3, 4}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      uint32_t words[4] = {}, codes[kUnitCodes];
      for (int n = 0; n < kUnitCodes; ++n) {
        codes[n] = static_cast<uint32_t>(random.Next()) & ((1u << (bits - 1)) - 1);
        SetFreeBits(bits, words, n / 8, n % 8, codes[n]);
      }
      EXPECT_EQ(words[0], 0u);
      for (int n = 0; n < kUnitCodes; ++n) ASSERT_EQ(GetFreeBits(bits, words, n), codes[n]);
    }
  }
}

// A state's bits stand where a window would find them.
TEST(Trellis, StatesAreBitsOfTheWord) {
  Random random(3);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto coded = static_cast<uint32_t>(random.Next());
    uint32_t joined = 0;
    for (int mark = 0; mark < kTrellisMarkCount; ++mark) {
      const int p = TrellisMark(mark);
      uint32_t state = 0;
      for (int i = 0; i < kTrellisMemory - 1; ++i) state |= (coded >> ((p - 1 - i) & 31) & 1u) << i;
      joined |= TrellisMarkBits(state, mark);
    }
    EXPECT_EQ(joined, coded);
  }
}

// Coded bits and levels that a lap gives out agree, the levels are the nearest ones of their
// parities, and laps over the same inputs come near the best closed path of all.
TEST(Trellis, LapsFindNearlyTheBestRing) {
  Random random(3);
  for (const Trellis& trellis : kTrellises) {
    SCOPED_TRACE(trellis.bits);
    const int grid = TrellisGrid(trellis.bits);
    scalar::RingLap lap(trellis);
    double found = 0, best = 0;
    for (int repeat = 0; repeat < 100; ++repeat) {
      int16_t in[kUnitCodes];
      for (int16_t& x : in) {
        x = static_cast<int16_t>(
            std::clamp<long>(std::lround(random.Gaussian() * trellis.sigma * grid),
                             -kTrellisMaxInput, kTrellisMaxInput));
      }
      const auto error_of = [&](uint32_t coded) {
        double error = 0;
        for (int p = 0; p < kUnitCodes; ++p) {
          const uint32_t parity = RingParity(trellis, coded, p);
          int nearest = 1 << 15;
          for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
            nearest = std::min(nearest, std::abs(in[p] - grid * trellis.Level(free, parity)));
          }
          error += nearest * nearest;
        }
        return error;
      };
      scalar::TrellisMetrics metrics = {};
      double least = INFINITY;
      for (int i = 0; i < 3; ++i) {
        int8_t levels[kUnitCodes];
        const uint32_t coded = lap.Encode(in, metrics, levels);
        double error = 0;
        for (int p = 0; p < kUnitCodes; ++p) error += std::pow(in[p] - grid * levels[p], 2);
        EXPECT_EQ(error, error_of(coded));
        least = std::min(least, error);
      }
      found += least;
      // Closed from each state in turn.
      double exact = INFINITY;
      for (uint32_t start = 0; start < kTrellisStates; ++start) {
        std::array<double, kTrellisStates> costs;
        costs.fill(INFINITY);
        costs[start] = 0;
        for (int p = 0; p < kUnitCodes; ++p) {
          std::array<double, 1 << kTrellisMaxParities> squares;
          squares.fill(INFINITY);
          for (uint32_t z = 0; z < 1u << trellis.parities; ++z) {
            for (uint32_t free = 0; free < 1u << trellis.free_bits(); ++free) {
              squares[z] = std::min(squares[z], std::pow(in[p] - grid * trellis.Level(free, z), 2));
            }
          }
          std::array<double, kTrellisStates> next;
          for (uint32_t s = 0; s < kTrellisStates; ++s) {
            const uint32_t other = s | kTrellisStates;
            next[s] = std::min(costs[s >> 1] + squares[trellis.ParityOf(s)],
                               costs[other >> 1] + squares[trellis.ParityOf(other)]);
          }
          costs = next;
        }
        exact = std::min(exact, costs[start]);
      }
      best += exact;
    }
    std::printf("%d bits: laps %.4f of the best error\n", trellis.bits, found / best);
    EXPECT_GE(found, best * .999);
    EXPECT_LE(found, best * 1.2);
  }
}

std::vector<float> Gaussians(int rows, int dims, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(rows * dims));
  for (float& value : values) value = static_cast<float>(random.Gaussian());
  return values;
}

double Decibels(const std::vector<float>& x, const std::vector<float>& y, int dims) {
  double ratio = 0;
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(dims)) {
    double error = 0, energy = 0;
    for (size_t i = row; i < row + static_cast<size_t>(dims); ++i) {
      error += std::pow(double{x[i]} - y[i], 2);
      energy += double{x[i]} * x[i];
    }
    ratio += error / energy;
  }
  return -10 * std::log10(ratio * dims / static_cast<double>(x.size()));
}

// Through the page codec: 8 bits, sealed, sealed again for each further codec, decoded.
TEST(Trellis, DistortionOfSealedPages) {
  struct Case {
    std::vector<Codec> codecs;
    int head_dim;
    double keys, values;
  };
  using enum Codec;
  const Case cases[] = {
      {{kTurbo2Tcq}, 128, 11.14, 11.08},
      {{kTurbo3Tcq}, 128, 17.15, 17.08},
      {{kTurbo4Tcq}, 128, 22.73, 22.68},
      {{kTurbo2Tcq}, 64, 11.24, 11.19},
      {{kTurbo3Tcq}, 64, 17.33, 17.29},
      {{kTurbo4Tcq}, 64, 23.06, 23.07},
      {{kTurbo3Tcq}, 80, 17.23, 17.2},
      {{kTurbo2Tcq}, 256, 11.07, 11.03},
      {{kTurbo3Tcq}, 256, 16.99, 16.93},
      {{kTurbo4Tcq}, 256, 22.42, 22.39},
      {{kTurbo4Tcq, kTurbo3Tcq}, 128, 16.12, 16.05},
      {{kTurbo4Tcq, kTurbo2Tcq}, 128, 10.86, 10.81},
      {{kTurbo3Tcq, kTurbo2Tcq}, 128, 10.22, 10.16},
      {{kTurbo4Tcq, kTurbo3Tcq, kTurbo2Tcq}, 128, 10.02, 9.97},
      {{kTurbo4, kTurbo3}, 128, 14.6, 14.6},  // levels nearly nest
      {{kTurbo3, kTurbo2}, 128, 9.1, 9.1},
  };
  for (const Case& c : cases) {
    const int dims = c.head_dim;
    const PageCodec& codec = GetPageCodec();
    double k_total = 0, v_total = 0;
    constexpr int kPages = 24;  // standard error .01 dB
    for (int page = 0; page < kPages; ++page) {
      const std::vector<float> x = Gaussians(kPageTokens, dims, static_cast<uint64_t>(page) + 7);
      const MatrixView<const float> rows(x.data(), kPageTokens, dims);
      PageLayout layout = MakePageLayout(dims, 1, kTurbo8, kTurbo8);
      std::vector<std::byte> bytes(layout.bytes());
      const std::vector<float> r(static_cast<size_t>(dims));
      codec.SetReference(layout, bytes.data(), r.data());
      codec.EncodeKeys(layout, bytes.data(), 0, rows);
      codec.EncodeValues(layout, bytes.data(), 0, rows);
      for (const Codec sealed : c.codecs) {
        const PageLayout from = std::exchange(layout, MakePageLayout(dims, 1, sealed, sealed));
        const std::vector<std::byte> before =
            std::exchange(bytes, std::vector<std::byte>(layout.bytes()));
        codec.SealKeys(from, before.data(), layout, bytes.data(), {});
        codec.SealValues(from, before.data(), layout, bytes.data(), {});
      }
      std::vector<float> k(x.size()), v(x.size());
      codec.DecodeKeys(layout, bytes.data(), 0, {k.data(), kPageTokens, dims});
      codec.DecodeValues(layout, bytes.data(), 0, {v.data(), kPageTokens, dims});
      k_total += Decibels(x, k, dims) / kPages;
      v_total += Decibels(x, v, dims) / kPages;
    }
    for (const Codec sealed : c.codecs) std::printf("%s ", InfoOf(sealed).name.data());
    std::printf("D = %d: keys %.3f dB, values %.3f dB\n", dims, k_total, v_total);
    EXPECT_GE(k_total, c.keys);
    EXPECT_GE(v_total, c.values);
  }
}

}  // namespace
}  // namespace tq
