// SPDX-License-Identifier: Apache-2.0
// Every instruction set makes the same page bytes and floats, from any input and however tokens
// arrive.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"

namespace tq {
namespace {

using Bytes = std::vector<std::byte>;

enum Data { kGaussian, kAwkward, kTiny, kHuge, kZero, kSpike, kTies, kNumData };

// One value of a kind of data; rows alternate between kinds so that a page mixes them.
float Value(Data kind, Random& random, int dim) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const auto gaussian = static_cast<float>(random.Gaussian());
  switch (kind) {
    case kAwkward: {
      const float values[] = {std::numeric_limits<float>::quiet_NaN(),
                              kInf,
                              -kInf,
                              0.0f,
                              -0.0f,
                              1e30f,
                              -1e30f,
                              std::numeric_limits<float>::denorm_min(),
                              1e-40f,
                              3.4e38f,
                              1.0f,
                              65504.0f,
                              65520.0f};
      return values[random.Next() % std::size(values)];
    }
    case kTiny:
      return gaussian * 1e-7f;
    case kHuge:
      return gaussian * 1e7f;
    case kZero:
      return random.Next() % 2 == 0 ? 0.0f : -0.0f;
    case kSpike:
      return dim == 17 ? 1000.0f : gaussian * 1e-3f;
    case kTies:
      return static_cast<float>(static_cast<int>(random.Next() % 255) - 127) * 0.25f;
    default:
      return gaussian;
  }
}

std::vector<float> PageData(int dims, uint64_t seed, int only_kind = -1) {
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(kPageTokens * dims));
  for (int token = 0; token < kPageTokens; ++token) {
    const Data kind =
        only_kind >= 0 ? static_cast<Data>(only_kind) : static_cast<Data>(random.Next() % kNumData);
    for (int dim = 0; dim < dims; ++dim)
      x[static_cast<size_t>(token * dims + dim)] = Value(kind, random, dim);
  }
  return x;
}

MatrixView<const float> Rows(const std::vector<float>& x, int dims, int first, int count) {
  return {x.data() + first * dims, count, dims};
}

struct Case {
  int head_dim;
  Codec k, v;  // open
  Codec sealed_k, sealed_v;
};

std::vector<Case> Cases() {
  const Codec tiles[] = {Codec::kTurbo8, Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo2};
  std::vector<Case> cases;
  for (int d : kHeadDims) {
    for (size_t i = 0; i < 4; ++i)
      cases.push_back({d, Codec::kTurbo8, Codec::kTurbo8, tiles[i], tiles[(i + 1) % 4]});
    cases.push_back({d, Codec::kF16, Codec::kTurbo8, Codec::kF16, Codec::kTurbo3});
    cases.push_back({d, Codec::kTurbo8, Codec::kBf16, Codec::kTurbo2, Codec::kBf16});
    cases.push_back({d, Codec::kF32, Codec::kF16, Codec::kF32, Codec::kF16});
    if (d % 32 == 0) {
      cases.push_back({d, Codec::kQ8_0, Codec::kQ4_0, Codec::kQ8_0, Codec::kQ4_0});
      cases.push_back({d, Codec::kQ4_0, Codec::kTurbo8, Codec::kQ4_0, Codec::kTurbo4});
    }
  }
  for (int d : {40, 100, 1000})
    cases.push_back({d, Codec::kF16, Codec::kBf16, Codec::kF16, Codec::kBf16});
  return cases;
}

struct Result {
  Bytes open, sealed;
  std::vector<float> k, v, sealed_k, sealed_v, mean;
};

// `steps`: how many tokens each append takes, cycled. `fill`: what memory held before.
Result FillPage(const Case& c, const PageCodec& codec, const std::vector<float>& k,
                const std::vector<float>& v, const std::vector<float>& r,
                const std::vector<int>& steps, int fill) {
  const PageLayout open = MakePageLayout(c.head_dim, 1, c.k, c.v);
  const PageLayout sealed = MakePageLayout(c.head_dim, 1, c.sealed_k, c.sealed_v);
  const size_t values = static_cast<size_t>(kPageTokens * c.head_dim);
  Result result = {Bytes(open.bytes(), std::byte(fill)),
                   Bytes(sealed.bytes(), std::byte(fill)),
                   std::vector<float>(values),
                   std::vector<float>(values),
                   std::vector<float>(values),
                   std::vector<float>(values),
                   std::vector<float>(static_cast<size_t>(c.head_dim))};
  codec.SetReference(open, result.open.data(), r.data());
  size_t step = 0;
  for (int first = 0; first < kPageTokens; ++step) {
    const int count = std::min(steps[step % steps.size()], kPageTokens - first);
    codec.EncodeKeys(open, result.open.data(), first, Rows(k, c.head_dim, first, count));
    codec.EncodeValues(open, result.open.data(), first, Rows(v, c.head_dim, first, count));
    first += count;
  }
  codec.SealKeys(open, result.open.data(), sealed, result.sealed.data(), {});
  codec.SealValues(open, result.open.data(), sealed, result.sealed.data(), {});
  codec.DecodeKeys(open, result.open.data(), 0, {result.k.data(), kPageTokens, c.head_dim});
  codec.DecodeValues(open, result.open.data(), 0, {result.v.data(), kPageTokens, c.head_dim});
  codec.DecodeKeys(sealed, result.sealed.data(), 0,
                   {result.sealed_k.data(), kPageTokens, c.head_dim});
  codec.DecodeValues(sealed, result.sealed.data(), 0,
                     {result.sealed_v.data(), kPageTokens, c.head_dim});
  codec.MeanKey(open, result.open.data(), result.mean.data());
  return result;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void ExpectSame(const Result& a, const Result& b) {
  ASSERT_EQ(a.open, b.open);
  ASSERT_EQ(a.sealed, b.sealed);
  ASSERT_TRUE(SameBits(a.k, b.k) && SameBits(a.v, b.v));
  ASSERT_TRUE(SameBits(a.sealed_k, b.sealed_k) && SameBits(a.sealed_v, b.sealed_v));
  ASSERT_TRUE(SameBits(a.mean, b.mean));
}

TEST(PageIsa, SameBytesOnEveryIsaHoweverTokensArrive) {
  uint64_t seed = 1;
  for (const Case& c : Cases()) {
    SCOPED_TRACE(testing::Message()
                 << c.head_dim << " " << InfoOf(c.k).name << "/" << InfoOf(c.v).name << " -> "
                 << InfoOf(c.sealed_k).name << "/" << InfoOf(c.sealed_v).name);
    const std::vector<float> k = PageData(c.head_dim, seed++), v = PageData(c.head_dim, seed++);
    std::vector<float> r = PageData(c.head_dim, seed++);
    const Result expected = FillPage(c, GetPageCodec(Isa::kScalar), k, v, r, {kPageTokens}, 0);
    for (const auto* values : {&expected.k, &expected.v, &expected.sealed_k, &expected.sealed_v}) {
      for (float value : *values) ASSERT_TRUE(std::isfinite(value));
    }
    // The sum of f32 rows may overflow, and nothing uses it; tiles cannot.
    for (float value : expected.mean) ASSERT_TRUE(std::isfinite(value) || !InfoOf(c.k).tiles);
    for (Isa isa : AvailableIsas()) {
      SCOPED_TRACE(IsaName(isa));
      // What memory held before must not matter: every byte of a full page is defined.
      ExpectSame(FillPage(c, GetPageCodec(isa), k, v, r, {kPageTokens}, 0xff), expected);
      ExpectSame(FillPage(c, GetPageCodec(isa), k, v, r, {1}, 0x55), expected);
      ExpectSame(FillPage(c, GetPageCodec(isa), k, v, r, {31, 2, 40, 1}, 0), expected);
    }
  }
}

// The scalar trellis encoder is slow: one page of each shape.
TEST(PageIsa, SameTrellisBytesOnEveryIsa) {
  const Codec trellises[] = {Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, Codec::kTurbo2Tcq};
  uint64_t seed = 1000;
  size_t next = 0;
  for (int d : kHeadDims) {
    if (d > 256) continue;  // nothing that 256 does not have
    const Case c = {d, Codec::kTurbo8, Codec::kTurbo8, trellises[next % 3],
                    trellises[(next + 1) % 3]};
    ++next;
    SCOPED_TRACE(testing::Message() << d << " " << InfoOf(c.sealed_k).name);
    const std::vector<float> k = PageData(d, seed++), v = PageData(d, seed++);
    const std::vector<float> r = PageData(d, seed++);
    const Result expected = FillPage(c, GetPageCodec(Isa::kScalar), k, v, r, {kPageTokens}, 0);
    for (Isa isa : AvailableIsas()) {
      if (isa == Isa::kScalar) continue;
      SCOPED_TRACE(IsaName(isa));
      ExpectSame(FillPage(c, GetPageCodec(isa), k, v, r, {kPageTokens}, 0xff), expected);
    }
  }
}

// A page sealed once and again at fewer bits: the same bytes on every ISA, and keys keep their
// reference.
TEST(PageIsa, SealsSealedPagesAgain) {
  struct Step {
    int head_dim;
    Codec from, to;
  };
  std::vector<Step> steps = {{64, Codec::kTurbo4Tcq, Codec::kTurbo3Tcq},
                             {80, Codec::kTurbo3Tcq, Codec::kTurbo2Tcq},
                             {64, Codec::kTurbo4, Codec::kTurbo2Tcq}};  // scalar trellises are slow
  for (const int d : {64, 80, 128, 192}) {
    for (const Codec to : {Codec::kTurbo3, Codec::kTurbo2}) {
      for (const Codec from : {Codec::kTurbo4, Codec::kTurbo3}) {
        if (from != to) steps.push_back({d, from, to});
      }
    }
  }
  uint64_t seed = 3000;
  for (const Step& step : steps) {
    const int d = step.head_dim;
    SCOPED_TRACE(testing::Message()
                 << d << " " << InfoOf(step.from).name << " -> " << InfoOf(step.to).name);
    const std::vector<float> k = PageData(d, seed++, kGaussian), v = PageData(d, seed++);
    const std::vector<float> r = PageData(d, seed++, kGaussian);
    const Case c = {d, Codec::kTurbo8, Codec::kTurbo8, step.from, step.from};
    const PageLayout once = MakePageLayout(d, 1, step.from, step.from);
    const PageLayout again = MakePageLayout(d, 1, step.to, step.to);
    Bytes expected;
    const Bytes sealed =
        FillPage(c, GetPageCodec(AvailableIsas().back()), k, v, r, {kPageTokens}, 0).sealed;
    for (Isa isa : AvailableIsas()) {
      SCOPED_TRACE(IsaName(isa));
      Bytes aged(again.bytes(), std::byte{0xff});
      GetPageCodec(isa).SealKeys(once, sealed.data(), again, aged.data(), {});
      GetPageCodec(isa).SealValues(once, sealed.data(), again, aged.data(), {});
      if (expected.empty()) expected = aged;
      EXPECT_EQ(aged, expected);
    }
    EXPECT_EQ(std::memcmp(expected.data(), sealed.data(), static_cast<size_t>(2 * d)), 0);
    double error = 0, energy = 0;
    std::vector<float> before(k.size()), after(k.size());
    const PageCodec& codec = GetPageCodec();
    codec.DecodeKeys(once, sealed.data(), 0, {before.data(), kPageTokens, d});
    codec.DecodeKeys(again, expected.data(), 0, {after.data(), kPageTokens, d});
    for (size_t i = 0; i < before.size(); ++i) {
      error += std::pow(after[i] - before[i], 2);
      energy += std::pow(before[i], 2);
    }
    // 2 bits: 9.3 dB of a Gaussian; a page's mean takes a little of the energy.
    EXPECT_LT(error, energy * (InfoOf(step.to).bits == 2 ? 0.16 : 0.05));
  }
}

// Tile by tile, in any order: the same bytes as the whole page at once.
TEST(PageIsa, SealsTileByTile) {
  for (const int d : {64, 128, 256}) {
    for (const Codec to : {Codec::kTurbo8, Codec::kTurbo3, Codec::kTurbo3Tcq}) {
      if (d == 256 && InfoOf(to).trellis) continue;  // scalar trellises are slow
      const std::vector<float> k = PageData(d, 4000, kGaussian), v = PageData(d, 4001, kGaussian);
      const std::vector<float> r(static_cast<size_t>(d), 0.125f);
      const Case c = {d, Codec::kTurbo8, Codec::kTurbo8, to, to};
      const PageLayout open = MakePageLayout(d, 1, c.k, c.v), sealed = MakePageLayout(d, 1, to, to);
      for (Isa isa : AvailableIsas()) {
        SCOPED_TRACE(testing::Message() << d << " " << InfoOf(to).name << " " << IsaName(isa));
        const PageCodec& codec = GetPageCodec(isa);
        const Result whole = FillPage(c, codec, k, v, r, {kPageTokens}, 0);
        Bytes parts(sealed.bytes(), std::byte{0xff});
        for (int end = kPageTokens; end > 0; end -= sealed.tile.tokens) {
          const PageTokens tile = {end - sealed.tile.tokens, end};
          codec.SealValues(open, whole.open.data(), sealed, parts.data(), tile);
          codec.SealKeys(open, whole.open.data(), sealed, parts.data(), tile);
        }
        EXPECT_EQ(parts, whole.sealed);
      }
    }
  }
}

TEST(PageIsa, EachKindOfDataAlone) {
  for (int kind = 0; kind < kNumData; ++kind) {
    SCOPED_TRACE(kind);
    for (const Case& c :
         {Case{80, Codec::kTurbo8, Codec::kTurbo8, Codec::kTurbo3, Codec::kTurbo4},
          Case{128, Codec::kTurbo8, Codec::kTurbo8, Codec::kTurbo3, Codec::kTurbo4},
          Case{192, Codec::kTurbo8, Codec::kTurbo8, Codec::kTurbo3, Codec::kTurbo4},
          Case{64, Codec::kTurbo8, Codec::kTurbo8, Codec::kTurbo4Tcq, Codec::kTurbo3Tcq}}) {
      const int d = c.head_dim;
      const std::vector<float> k = PageData(d, 100 + static_cast<uint64_t>(kind), kind);
      const std::vector<float> v = PageData(d, 200 + static_cast<uint64_t>(kind), kind),
                               r(static_cast<size_t>(d), 0.125f);
      const Result expected = FillPage(c, GetPageCodec(Isa::kScalar), k, v, r, {kPageTokens}, 0);
      for (Isa isa : AvailableIsas())
        ExpectSame(FillPage(c, GetPageCodec(isa), k, v, r, {7}, 0), expected);
    }
  }
}

TEST(PageIsa, DecodesAnyRangeWithAnyStride) {
  for (int d : {64, 112, 128}) {
    const Case c = {d, Codec::kTurbo8, Codec::kTurbo8, Codec::kTurbo2, Codec::kTurbo4};
    const PageLayout sealed = MakePageLayout(d, 1, c.sealed_k, c.sealed_v);
    const std::vector<float> x = PageData(d, 9, kGaussian), r(static_cast<size_t>(d));
    for (Isa isa : AvailableIsas()) {
      const PageCodec& codec = GetPageCodec(isa);
      const Result result = FillPage(c, codec, x, x, r, {kPageTokens}, 0);
      for (const auto& [first, count] : {std::pair{0, 1}, {127, 1}, {30, 5}, {60, 68}, {5, 0}}) {
        const int64_t stride = d + 3;
        std::vector<float> out(static_cast<size_t>(stride * (count + 1)), 7.0f);
        codec.DecodeValues(sealed, result.sealed.data(), first, {out.data(), count, d, stride});
        for (int i = 0; i < count; ++i) {
          ASSERT_EQ(std::memcmp(out.data() + i * stride, result.sealed_v.data() + (first + i) * d,
                                sizeof(float) * static_cast<size_t>(d)),
                    0);
          ASSERT_EQ(out[static_cast<size_t>(i * stride + d)], 7.0f);
        }
        ASSERT_EQ(out[static_cast<size_t>(count * stride)], 7.0f);
      }
    }
  }
}

// An append must not touch bytes of other tokens, not even to write back what it read: other
// threads may.
TEST(PageIsa, AppendWritesOnlyItsOwnBytes) {
  for (int d : kHeadDims) {
    const PageLayout open = MakePageLayout(d, 1, Codec::kTurbo8, Codec::kTurbo8);
    const std::vector<float> x = PageData(d, 4, kGaussian);
    for (Isa isa : AvailableIsas()) {
      const PageCodec& codec = GetPageCodec(isa);
      for (int token : {0, 13, 31, 127}) {
        Bytes page(open.bytes(), std::byte{0});
        codec.EncodeKeys(open, page.data(), token, Rows(x, d, token, 1));
        codec.EncodeValues(open, page.data(), token, Rows(x, d, token, 1));
        for (int other = 0; other < kPageTokens; ++other) {
          std::vector<float> k(static_cast<size_t>(d)), v(static_cast<size_t>(d));
          codec.DecodeKeys(open, page.data(), other, {k.data(), 1, d});
          codec.DecodeValues(open, page.data(), other, {v.data(), 1, d});
          for (int i = 0; i < d; ++i) {
            const float expected = other == token ? x[static_cast<size_t>(token * d + i)] : 0.0f;
            ASSERT_NEAR(k[static_cast<size_t>(i)], expected, 0.05);
            ASSERT_NEAR(v[static_cast<size_t>(i)], expected, 0.05);
          }
        }
      }
    }
  }
}

// A page of equal vectors: nothing is left after its mean, scales are zero and codes fixed.
TEST(PageIsa, VectorsThatEqualTheirMeanSealToIt) {
  const PageLayout open = MakePageLayout(128, 1, Codec::kTurbo8, Codec::kTurbo8);
  const PageLayout sealed = MakePageLayout(128, 1, Codec::kTurbo3, Codec::kTurbo3);
  const std::vector<float> zeros(static_cast<size_t>(kPageTokens * 128));
  std::vector<float> r(128);
  for (size_t i = 0; i < r.size(); ++i) r[i] = static_cast<float>(i) * 0.25f;
  std::vector<float> x;
  for (int i = 0; i < kPageTokens; ++i) x.insert(x.end(), r.begin(), r.end());
  for (Isa isa : AvailableIsas()) {
    const PageCodec& codec = GetPageCodec(isa);
    Bytes page(open.bytes()), small(sealed.bytes());
    codec.SetReference(open, page.data(), r.data());
    codec.EncodeKeys(open, page.data(), 0, Rows(x, 128, 0, kPageTokens));
    codec.EncodeValues(open, page.data(), 0, Rows(zeros, 128, 0, kPageTokens));
    codec.SealKeys(open, page.data(), sealed, small.data(), {});
    codec.SealValues(open, page.data(), sealed, small.data(), {});
    std::vector<float> k(x.size()), v(x.size(), 1.0f);
    codec.DecodeKeys(sealed, small.data(), 0, {k.data(), kPageTokens, 128});
    codec.DecodeValues(sealed, small.data(), 0, {v.data(), kPageTokens, 128});
    EXPECT_EQ(k, x);
    EXPECT_EQ(v, zeros);
  }
}

}  // namespace
}  // namespace tq
