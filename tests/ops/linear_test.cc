// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/ops/random_blocks.h"
#include "turboquant/base/error.h"
#include "turboquant/gguf/dequantize.h"
#include "turboquant/ops/linear_workspace.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq {
namespace {

std::vector<float> RandomFloats(int64_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& f : v) f = static_cast<float>(random.Gaussian());
  return v;
}

int64_t ColsFor(BlockFormat format, int64_t blocks) {
  const int64_t values = InfoOf(format).values_per_block;
  return values == 1 ? blocks * 29 + 3 : values * blocks;
}

// Norm of a - b over norm of b, both [T, N].
double RelativeError(MatrixView<const float> a, MatrixView<const float> b) {
  double error = 0, norm = 0;
  for (int64_t t = 0; t < a.rows; ++t) {
    for (int64_t n = 0; n < a.cols; ++n) {
      const double d = static_cast<double>(a.row(t)[n]) - static_cast<double>(b.row(t)[n]);
      error += d * d;
      norm += static_cast<double>(b.row(t)[n]) * static_cast<double>(b.row(t)[n]);
    }
  }
  return std::sqrt(error / norm);
}

class EveryFormat : public ::testing::TestWithParam<BlockFormatInfo> {};

TEST_P(EveryFormat, DecodesRowsToTheSameBits) {
  const BlockFormat format = GetParam().format;
  const ThreadPool pool(2);
  for (int64_t rows : {1, 16, 37}) {
    const int64_t cols = ColsFor(format, 3);
    const RandomTensor random = MakeRandomTensor(format, rows, cols, 7);
    const auto weight = PackedWeight::Pack(random.tensor, pool);
    ASSERT_EQ(weight->rows(), rows);
    ASSERT_EQ(weight->cols(), cols);
    const size_t row_bytes = random.bytes.size() / static_cast<size_t>(rows);
    std::vector<float> expected(static_cast<size_t>(cols)), got(expected);
    for (int64_t r = 0; r < rows; ++r) {
      DequantizeRow(format, random.bytes.data() + static_cast<size_t>(r) * row_bytes, cols,
                    expected.data());
      weight->DecodeRow(r, got.data());
      ASSERT_EQ(std::memcmp(expected.data(), got.data(), expected.size() * 4), 0) << "row " << r;
    }
  }
}

TEST_P(EveryFormat, TakesLittleMoreMemoryThanTheFile) {
  const int64_t cols = 1536;
  const RandomTensor random = MakeRandomTensor(GetParam().format, 64, cols, 1);
  const auto weight = PackedWeight::Pack(random.tensor, ThreadPool(1));
  EXPECT_LE(static_cast<double>(weight->bytes()), 1.05 * static_cast<double>(random.bytes.size()));
}

TEST_P(EveryFormat, AgreesWithTheReferenceOnEveryIsa) {
  const BlockFormat format = GetParam().format;
  const ThreadPool pool(2);
  LinearWorkspace workspace;
  for (const auto& [rows, blocks] : {std::pair{53, 3}, {16, 9}}) {
    const int64_t cols = ColsFor(format, blocks);
    const auto weight = PackedWeight::Pack(MakeRandomTensor(format, rows, cols, 3).tensor, pool);
    const std::vector<float> bias = RandomFloats(rows, 4);
    for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 16, 33, 130}) {
      // Strided x and out; what lies between the rows of out must stay.
      const int64_t x_stride = cols + 5, out_stride = rows + 3;
      const std::vector<float> x = RandomFloats(tokens * x_stride, 5);
      const MatrixView<const float> x_view(x.data(), tokens, cols, x_stride);
      std::vector<float> expected(static_cast<size_t>(tokens * rows));
      const MatrixView<float> expected_view(expected.data(), tokens, rows);
      const float* bias_or_null = tokens % 2 == 0 ? bias.data() : nullptr;
      LinearReference(x_view, {weight.get(), bias_or_null, expected_view});
      for (Isa isa : AvailableIsas()) {
        for (Precision precision : {Precision::kFast, Precision::kPrecise}) {
          std::vector<float> out(static_cast<size_t>(tokens * out_stride), 12345.0f);
          const MatrixView<float> out_view(out.data(), tokens, rows, out_stride);
          const LinearOut job = {weight.get(), bias_or_null, out_view};
          Linear(x_view, std::span(&job, 1), precision, workspace, pool, isa);
          EXPECT_LT(RelativeError(out_view, expected_view),
                    precision == Precision::kFast ? 1.5e-2 : 1e-5)
              << IsaName(isa) << " rows " << rows << " tokens " << tokens
              << (precision == Precision::kFast ? " fast" : " precise");
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t n = rows; n < out_stride; ++n) ASSERT_EQ(out_view.row(t)[n], 12345.0f);
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryFormat, ::testing::ValuesIn(kBlockFormats),
                         [](const auto& info) { return std::string(info.param.name); });

// All int8 kernels see the same codes: instruction sets may differ by float rounding only.
TEST(Linear, IsasAgreeClosely) {
  const ThreadPool pool(1);
  LinearWorkspace workspace;
  for (BlockFormat format :
       {BlockFormat::kQ4_1, BlockFormat::kQ6_K, BlockFormat::kQ8_0, BlockFormat::kQ2_K}) {
    const auto weight = PackedWeight::Pack(MakeRandomTensor(format, 32, 1024, 3).tensor, pool);
    const std::vector<float> x = RandomFloats(5 * 1024, 5);
    std::vector<float> first;
    for (Isa isa : AvailableIsas()) {
      std::vector<float> out(5 * 32);
      const LinearOut job = {weight.get(), nullptr, {out.data(), 5, 32}};
      Linear({x.data(), 5, 1024}, std::span(&job, 1), Precision::kFast, workspace, pool, isa);
      if (first.empty()) first = out;
      EXPECT_LT(RelativeError({out.data(), 5, 32}, {first.data(), 5, 32}), 1e-5) << IsaName(isa);
    }
  }
}

TEST(Linear, LargeBatchesWalkTheColumnsInChunks) {
  const ThreadPool pool(2);
  LinearWorkspace workspace;
  for (BlockFormat format : {BlockFormat::kQ4_1, BlockFormat::kQ4_K}) {
    const int64_t cols = format == BlockFormat::kQ4_1 ? 1024 + 96 : 1280, tokens = 600;
    const auto weight = PackedWeight::Pack(MakeRandomTensor(format, 20, cols, 3).tensor, pool);
    const std::vector<float> x = RandomFloats(tokens * cols, 5), bias = RandomFloats(20, 6);
    std::vector<float> expected(static_cast<size_t>(tokens * 20)), out(expected);
    LinearReference({x.data(), tokens, cols},
                    {weight.get(), bias.data(), {expected.data(), tokens, 20}});
    for (Isa isa : AvailableIsas()) {
      for (Precision precision : {Precision::kFast, Precision::kPrecise}) {
        const LinearOut job = {weight.get(), bias.data(), {out.data(), tokens, 20}};
        Linear({x.data(), tokens, cols}, std::span(&job, 1), precision, workspace, pool, isa);
        EXPECT_LT(RelativeError({out.data(), tokens, 20}, {expected.data(), tokens, 20}),
                  precision == Precision::kFast ? 1.5e-2 : 1e-5);
      }
    }
  }
}

TEST(Linear, ThreadsDoNotChangeResults) {
  const RandomTensor q = MakeRandomTensor(BlockFormat::kQ4_K, 100, 512, 1),
                     v = MakeRandomTensor(BlockFormat::kQ6_K, 30, 512, 2);
  LinearWorkspace workspace;
  std::vector<float> first;
  const std::vector<float> x = RandomFloats(4 * 512, 9);
  for (int threads : {1, 2, 3}) {
    const ThreadPool pool(threads);
    const auto wq = PackedWeight::Pack(q.tensor, pool), wv = PackedWeight::Pack(v.tensor, pool);
    std::vector<float> out(4 * 130);
    const LinearOut jobs[] = {{wq.get(), nullptr, {out.data(), 4, 100, 130}},
                              {wv.get(), nullptr, {out.data() + 100, 4, 30, 130}}};
    for (Precision precision : {Precision::kFast, Precision::kPrecise}) {
      Linear({x.data(), 4, 512}, jobs, precision, workspace, pool);
    }
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
  }
}

TEST(Linear, StackedEqualsSeparate) {
  const ThreadPool pool(2);
  const RandomTensor a = MakeRandomTensor(BlockFormat::kQ5_0, 21, 96, 1),
                     b = MakeRandomTensor(BlockFormat::kQ5_0, 50, 96, 2);
  const GgufTensor* both[] = {&a.tensor, &b.tensor};
  const auto stacked = PackedWeight::PackStacked(both, pool);
  ASSERT_NE(stacked, nullptr);
  ASSERT_EQ(stacked->rows(), 71);
  const auto wa = PackedWeight::Pack(a.tensor, pool), wb = PackedWeight::Pack(b.tensor, pool);
  std::vector<float> expected(96), got(96);
  for (int64_t r = 0; r < 71; ++r) {
    stacked->DecodeRow(r, got.data());
    r < 21 ? wa->DecodeRow(r, expected.data()) : wb->DecodeRow(r - 21, expected.data());
    ASSERT_EQ(got, expected) << r;
  }
  const RandomTensor other = MakeRandomTensor(BlockFormat::kQ5_1, 16, 96, 3),
                     wider = MakeRandomTensor(BlockFormat::kQ5_0, 16, 128, 3);
  const GgufTensor* formats[] = {&a.tensor, &other.tensor};
  const GgufTensor* widths[] = {&a.tensor, &wider.tensor};
  EXPECT_EQ(PackedWeight::PackStacked(formats, pool), nullptr);
  EXPECT_EQ(PackedWeight::PackStacked(widths, pool), nullptr);
}

TEST(Linear, ZeroTinyAndNonFiniteTokens) {
  const ThreadPool pool(1);
  LinearWorkspace workspace;
  const auto weight =
      PackedWeight::Pack(MakeRandomTensor(BlockFormat::kQ4_1, 16, 64, 3).tensor, pool);
  for (Isa isa : AvailableIsas()) {
    std::vector<float> x(4 * 64, 0.0f), out(4 * 16, 1.0f);
    for (size_t i = 64; i < 128; ++i) x[i] = 1e-42f;
    x[128 + 3] = std::nanf("");
    x[192 + 40] = INFINITY;
    const LinearOut job = {weight.get(), nullptr, {out.data(), 4, 16}};
    Linear({x.data(), 4, 64}, std::span(&job, 1), Precision::kFast, workspace, pool, isa);
    for (size_t n = 0; n < 16; ++n) {
      EXPECT_EQ(out[n], 0.0f);
      EXPECT_LT(std::abs(out[16 + n]), 1e-30f);
      EXPECT_FALSE(std::isfinite(out[32 + n]));
      EXPECT_FALSE(std::isfinite(out[48 + n]));
    }
  }
}

TEST(Linear, RefusesDamagedTensors) {
  const ThreadPool pool(1);
  RandomTensor r = MakeRandomTensor(BlockFormat::kQ4_K, 4, 256, 1);
  r.tensor.shape = {224, 4};
  EXPECT_THROW(PackedWeight::Pack(r.tensor, pool), Error);
  r.tensor.shape = {256, 5};
  EXPECT_THAT([&] { PackedWeight::Pack(r.tensor, pool); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("720 are needed")));
}

}  // namespace
}  // namespace tq
