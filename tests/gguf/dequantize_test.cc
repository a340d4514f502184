// SPDX-License-Identifier: Apache-2.0
// Decoding against values made by an independent decoder (tests/data/make_block_goldens.py).
#include "turboquant/gguf/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/gguf/block_formats.h"

namespace tq {
namespace {

TEST(DequantizeTest, EveryFormatEqualsTheGoldenBlocksBitForBit) {
  std::ifstream file(TQ_TEST_DATA "/block_goldens.bin", std::ios::binary);
  ASSERT_TRUE(file) << "tests/data/block_goldens.bin is missing";
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  std::set<BlockFormat> seen;
  for (size_t at = 0; at < bytes.size();) {
    uint32_t head[2];
    ASSERT_LE(at + sizeof(head), bytes.size());
    std::memcpy(head, bytes.data() + at, sizeof(head));
    at += sizeof(head);
    const BlockFormatInfo& info = FindBlockFormat(head[0]);
    SCOPED_TRACE(info.name);
    const size_t block_bytes = size_t{head[1]} * info.bytes_per_block;
    const size_t values = size_t{head[1]} * info.values_per_block;
    ASSERT_LE(at + block_bytes + values * sizeof(float), bytes.size());
    std::vector<std::byte> blocks(block_bytes);
    std::memcpy(blocks.data(), bytes.data() + at, block_bytes);
    std::vector<float> want(values), got(values);
    std::memcpy(want.data(), bytes.data() + at + block_bytes, values * sizeof(float));
    DequantizeRow(info.format, blocks.data(), static_cast<int64_t>(values), got.data());
    for (size_t i = 0; i < values; ++i) ASSERT_EQ(got[i], want[i]) << "value " << i;
    seen.insert(info.format);
    at += block_bytes + values * sizeof(float);
  }
  EXPECT_EQ(seen.size(), kBlockFormats.size());
}

TEST(BlockFormatsTest, TypesThatAreNotReadAreRefusedByName) {
  for (const auto& [id, name] : {std::pair<uint32_t, const char*>{16, "IQ2_XXS"},
                                 {34, "TQ1_0"},
                                 {39, "MXFP4"},
                                 {9, "Q8_1"},
                                 {28, "F64"},
                                 {4711, "type 4711"}}) {
    try {
      FindBlockFormat(id);
      FAIL() << "accepted type " << id;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("Q4_K"), std::string::npos) << error.what();
    }
  }
}

TEST(BlockFormatsTest, LookUp) {
  EXPECT_EQ(FindBlockFormat(12).name, "Q4_K");
  EXPECT_EQ(InfoOf(BlockFormat::kIQ4_XS).bytes_per_block, 136u);
  EXPECT_EQ(TensorTypeName(22), "IQ2_S");
}

}  // namespace
}  // namespace tq
