// SPDX-License-Identifier: Apache-2.0
#include "lab/decode_ladder.h"

#include <fmt/format.h>

#include "lab/rate_samples.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/codebook.h"

namespace tq::lab {
namespace {

constexpr int kVectors = 4096, kRoundsPerSample = 8;
constexpr int kLowBytes = 32;

constexpr float Magnitude(int index) {
  return static_cast<float>(CodebookOfBits(3).doubled[static_cast<size_t>(index)]) / 2;
}
constexpr std::array<float, 4> kMagnitudes = {Magnitude(0), Magnitude(1), Magnitude(2),
                                              Magnitude(3)};
constexpr std::array<float, 8> kLevels = {-kMagnitudes[3], -kMagnitudes[2], -kMagnitudes[1],
                                          -kMagnitudes[0], kMagnitudes[0],  kMagnitudes[1],
                                          kMagnitudes[2],  kMagnitudes[3]};

// Two low bits and the highest bit of code i. The index of its magnitude is the low bits, turned
// round where the level is negative.
inline int Low(const uint8_t* packed, int i) { return packed[i / 4] >> (i % 4 * 2) & 3; }
inline int High(const uint8_t* packed, int i) { return packed[kLowBytes + i / 8] >> (i % 8) & 1; }

float Table(const uint8_t* packed, const float* query) {
  float sum = 0;
  for (int i = 0; i < kLadderDim; i += 8) {  // whole bytes at once
    const int low = packed[i / 4] | packed[i / 4 + 1] << 8, high = packed[kLowBytes + i / 8];
    for (int j = 0; j < 8; ++j)
      sum +=
          query[i + j] * kLevels[static_cast<size_t>((low >> (2 * j) & 3) | (high >> j & 1) << 2)];
  }
  return sum;
}

float Magnitudes(const uint8_t* packed, const float* query) {
  float sum = 0;
  for (int i = 0; i < kLadderDim; i += 8) {
    const int low = packed[i / 4] | packed[i / 4 + 1] << 8, high = packed[kLowBytes + i / 8];
    for (int j = 0; j < 8; ++j) {
      const int positive = high >> j & 1;
      const int index = (low >> (2 * j) & 3) ^ (3 * (1 - positive));
      sum += query[i + j] * kMagnitudes[static_cast<size_t>(index)] *
             static_cast<float>(2 * positive - 1);
    }
  }
  return sum;
}

struct Pair {
  float first, second;
};
constexpr std::array<Pair, 16> kPairs = [] {
  std::array<Pair, 16> pairs = {};
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i] = {kMagnitudes[i % 4], kMagnitudes[i / 4]};
  return pairs;
}();

float Pairs(const uint8_t* packed, const float* query) {
  float sum = 0;
  for (int i = 0; i < kLadderDim; i += 2) {
    const int turned = (High(packed, i) != 0 ? 0 : 3) | (High(packed, i + 1) != 0 ? 0 : 12);
    const int codes = (packed[i / 4] >> (i % 4 * 2) & 15) ^ turned;
    const Pair pair = kPairs[static_cast<size_t>(codes)];
    sum += query[i] * (High(packed, i) != 0 ? pair.first : -pair.first);
    sum += query[i + 1] * (High(packed, i + 1) != 0 ? pair.second : -pair.second);
  }
  return sum;
}

float Levels(const uint8_t* packed, const float* query) {
  float sum = 0;
  for (int m = 0; m < 4; ++m) {
    float of_level = 0;
    for (int i = 0; i < kLadderDim; ++i) {
      const int positive = High(packed, i), index = Low(packed, i) ^ (3 * (1 - positive));
      of_level += index == m ? (positive != 0 ? query[i] : -query[i]) : 0;
    }
    sum += kMagnitudes[static_cast<size_t>(m)] * of_level;
  }
  return sum;
}

float Polynomial(const uint8_t* packed, const float* query) {
  constexpr float kBit0 = kMagnitudes[1] - kMagnitudes[0], kBit1 = kMagnitudes[2] - kMagnitudes[0],
                  kBoth = kMagnitudes[3] - kMagnitudes[2] - kBit0;
  float sum = 0;
  for (int i = 0; i < kLadderDim; ++i) {
    const int positive = High(packed, i), index = Low(packed, i) ^ (3 * (1 - positive));
    const auto b0 = static_cast<float>(index & 1), b1 = static_cast<float>(index >> 1);
    const float magnitude = kMagnitudes[0] + b0 * kBit0 + b1 * kBit1 + b0 * b1 * kBoth;
    sum += query[i] * magnitude * static_cast<float>(2 * positive - 1);
  }
  return sum;
}

float Nothing(const uint8_t* packed, const float* query) {
  float sum = 0;
  for (int i = 0; i < kLadderDim; i += 8) {
    const auto bytes =
        static_cast<float>(packed[i / 4] + packed[i / 4 + 1] + packed[kLowBytes + i / 8]);
    for (int j = 0; j < 8; ++j) sum += query[i + j] * bytes;
  }
  return sum;
}

using Product = float (*)(const uint8_t*, const float*);
constexpr std::array<Product, kDecodeWays.size()> kProducts = {Table,  Magnitudes, Pairs,
                                                               Levels, Polynomial, Nothing};

}  // namespace

DecodeWay ParseDecodeWay(std::string_view name) {
  std::string names;
  for (const DecodeWayInfo& info : kDecodeWays) {
    if (info.name == name) return info.way;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", info.name);
  }
  Throw(ErrorCode::kInvalidArgument, "there is no way to decode named \"{}\"; there are {}", name,
        names);
}

std::vector<uint8_t> PackLadderCodes(std::span<const uint8_t> codes) {
  TQ_CHECK(codes.size() == kLadderDim);
  std::vector<uint8_t> packed(kLadderBytes);
  for (size_t i = 0; i < codes.size(); ++i) {
    packed[i / 4] = static_cast<uint8_t>(packed[i / 4] | (codes[i] & 3) << (i % 4 * 2));
    uint8_t& high = packed[kLowBytes + i / 8];
    high = static_cast<uint8_t>(high | (codes[i] >> 2 & 1) << (i % 8));
  }
  return packed;
}

float LadderLevel(int code) { return kLevels[static_cast<size_t>(code)]; }

float LadderProduct(DecodeWay way, const uint8_t* packed, const float* query) {
  return kProducts[static_cast<size_t>(way)](packed, query);
}

std::vector<double> DecodeLadder(DecodeWay way, int repetitions) {
  Random random(1);
  std::vector<uint8_t> packed(static_cast<size_t>(kVectors) * kLadderBytes);
  for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random.Next());
  std::vector<float> query(kLadderDim);
  for (float& x : query) x = static_cast<float>(random.Gaussian());
  const Product product = kProducts[static_cast<size_t>(way)];
  volatile float kept = 0;  // or nothing would have to be computed
  const auto round = [&] {
    float sum = 0;
    for (size_t v = 0; v < kVectors; ++v) sum += product(&packed[v * kLadderBytes], query.data());
    kept = sum;
  };
  return SampleRates(repetitions, kRoundsPerSample, double{kVectors} * kLadderDim, round);
}

}  // namespace tq::lab
