// SPDX-License-Identifier: Apache-2.0
// The library against a second implementation of the format, tests/data/make_page_goldens.py.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "turboquant/base/hash.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/codec/transform.h"

namespace tq {
namespace {

std::string Fnv(const void* data, size_t size) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; ++i)
    hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  return HexString(hash);
}

std::vector<float> Values(uint64_t seed, int count) {
  Random random(seed);
  std::vector<float> x;
  for (int i = 0; i < count; ++i) {
    const uint64_t n = random.Next();
    const auto sum =
        static_cast<int64_t>((n & 0xffff) + (n >> 16 & 0xffff) + (n >> 32 & 0xffff) + (n >> 48));
    x.push_back(static_cast<float>(sum - 131070) / 32768.0f);
  }
  return x;
}

std::vector<float> PageInput(uint64_t seed, int d, bool awkward) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> x = Values(seed, kPageTokens * d);
  for (int token = 0; token < kPageTokens; ++token) {
    for (int dim = 0; dim < d; ++dim) {
      float& value = x[static_cast<size_t>(token * d + dim)];
      value += static_cast<float>(dim % 7 - 3) * 0.5f;
      if (!awkward) continue;
      if (token == 5) value = 0;
      if (token == 9) value *= 1e30f;
      if (token == 11 && dim == 3) value = std::numeric_limits<float>::quiet_NaN();
      if (token == 11 && dim == 4) value = kInf;
      if (token == 11 && dim == 5) value = -kInf;
      if (token == 13) value *= 1e-7f;
      if (token == 14) value *= 1e-41f;
      if (token == 17 && dim == 17) value = 1000;
    }
  }
  return x;
}

struct PageBytes {
  std::vector<std::byte> open, sealed;
};

PageBytes MakePage(int d, Codec k, Codec v, Codec sealed_k, Codec sealed_v, bool awkward,
                   const PageCodec& codec) {
  const PageLayout open = MakePageLayout(d, 1, k, v),
                   sealed = MakePageLayout(d, 1, sealed_k, sealed_v);
  PageBytes page = {std::vector<std::byte>(open.bytes()), std::vector<std::byte>(sealed.bytes())};
  std::vector<float> r;
  for (int dim = 0; dim < d; ++dim) r.push_back(static_cast<float>(dim % 5 - 2) * 0.25f);
  const std::vector<float> keys = PageInput(1000 + static_cast<uint64_t>(d), d, awkward);
  const std::vector<float> values = PageInput(2000 + static_cast<uint64_t>(d), d, awkward);
  codec.SetReference(open, page.open.data(), r.data());
  codec.EncodeKeys(open, page.open.data(), 0, {keys.data(), kPageTokens, d});
  codec.EncodeValues(open, page.open.data(), 0, {values.data(), kPageTokens, d});
  codec.SealKeys(open, page.open.data(), sealed, page.sealed.data(), {});
  codec.SealValues(open, page.open.data(), sealed, page.sealed.data(), {});
  return page;
}

std::string Hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (std::byte b : bytes) {
    text += "0123456789abcdef"[static_cast<int>(b) >> 4];
    text += "0123456789abcdef"[static_cast<int>(b) & 15];
  }
  return text;
}

TEST(Goldens, EveryIsaMakesTheBytesOfTheSecondImplementation) {
  std::ifstream file(TQ_TEST_DATA "/page_goldens.txt");
  ASSERT_TRUE(file);
  int pages = 0, rotations = 0, dumps = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, k, v, sealed_k, sealed_v, first, second;
    int d = 0, flag = 0;
    words >> kind >> d;
    if (kind == "rotate") {
      words >> flag >> first >> second;
      for (Isa isa : AvailableIsas()) {
        std::vector<float> x = Values(static_cast<uint64_t>(d), 3 * d), y = x;
        RotateRows(x.data(), 3, d, d, static_cast<Side>(flag), isa);
        RotateBackRows(y.data(), 3, d, d, static_cast<Side>(flag), isa);
        EXPECT_EQ(Fnv(x.data(), x.size() * 4), first) << line << " " << IsaName(isa);
        EXPECT_EQ(Fnv(y.data(), y.size() * 4), second) << line << " " << IsaName(isa);
      }
      ++rotations;
    } else if (kind == "page" || kind == "dump") {
      words >> k >> v >> sealed_k >> sealed_v >> flag >> first >> second;
      for (Isa isa : AvailableIsas()) {
        const PageBytes page = MakePage(d, ParseCodec(k), ParseCodec(v), ParseCodec(sealed_k),
                                        ParseCodec(sealed_v), flag != 0, GetPageCodec(isa));
        if (kind == "page") {
          EXPECT_EQ(Fnv(page.open.data(), page.open.size()), first) << line << " " << IsaName(isa);
          EXPECT_EQ(Fnv(page.sealed.data(), page.sealed.size()), second)
              << line << " " << IsaName(isa);
        } else {
          EXPECT_EQ(Hex(page.sealed), first) << IsaName(isa);
        }
      }
      ++(kind == "page" ? pages : dumps);
    }
  }
  EXPECT_EQ(rotations, 16);
  EXPECT_EQ(dumps, 1);
  EXPECT_GT(pages, 40);
}

}  // namespace
}  // namespace tq
