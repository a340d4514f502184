// SPDX-License-Identifier: Apache-2.0
// Rows to f16 and parts put together, rotated on the way: the bits of one step after the other.
#include "tests/cuda/half_attention.h"
#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/codec/codec.h"
#include "turboquant/codec/cuda/transform_kernels.h"

namespace tq::test {
namespace {

class PrefillRowsDeviceTest : public DeviceTest {
 protected:
  static constexpr int kHeads = 3, kTokens = 37;

  static cuda::TransformArgs Rotation(const cuda::DeviceBytes& x, int64_t stride, int head_dim,
                                      Side side) {
    return {.x = x.as<float>(),
            .rows = kTokens,
            .stride = stride,
            .heads = kHeads,
            .head_dim = head_dim,
            .side = side};
  }
};

TEST_F(PrefillRowsDeviceTest, QueriesAreRotatedOnTheWayToHalf) {
  for (const int d : kHeadDims) {
    const int64_t cols = int64_t{kHeads} * d, stride = cols + 2 * d;
    const std::vector<float> host = Gaussian(kTokens * stride, 1, 100);
    const cuda::DeviceBytes fused = Upload(host), x = Upload(host);
    const auto count = static_cast<size_t>(kTokens * cols);
    const cuda::DeviceBytes got = Upload(std::vector<uint16_t>(count, 0xffff));
    const cuda::DeviceBytes want = Upload(std::vector<uint16_t>(count, 0xffff));
    cuda::LaunchQueriesToHalf({.q = fused.as<float>(),
                               .out = got.as<uint16_t>(),
                               .stride = stride,
                               .rows = kTokens,
                               .q_heads = kHeads,
                               .head_dim = d},
                              nullptr);
    cuda::LaunchToStored(Rotation(x, stride, d, Side::kKey), nullptr);
    cuda::LaunchRowsToHalf({.x = x.as<float>(),
                            .out = want.as<uint16_t>(),
                            .stride = stride,
                            .rows = kTokens,
                            .cols = cols},
                           nullptr);
    EXPECT_EQ(Download<uint16_t>(got, count), Download<uint16_t>(want, count)) << "D " << d;
    EXPECT_EQ(Download<float>(fused, host.size()), host) << "D " << d << ": queries written";
  }
}

TEST_F(PrefillRowsDeviceTest, TwoMatricesInOneLaunch) {
  constexpr int64_t kCols = 1040, kStride = 1060;
  const cuda::DeviceBytes k = Upload(Gaussian(kTokens * kStride, 1)),
                          v = Upload(Gaussian(kTokens * kStride, 2));
  constexpr size_t kCount = kTokens * kCols;
  const cuda::DeviceBytes half_k = Upload(std::vector<uint16_t>(kCount, 0xffff)),
                          half_v = Upload(std::vector<uint16_t>(kCount, 0xffff));
  cuda::LaunchRowsToHalf({.x = k.as<float>(),
                          .out = half_k.as<uint16_t>(),
                          .second_x = v.as<float>(),
                          .second_out = half_v.as<uint16_t>(),
                          .stride = kStride,
                          .rows = kTokens,
                          .cols = kCols},
                         nullptr);
  for (const bool keys : {true, false}) {
    const std::vector<float> x = Download<float>(keys ? k : v, kTokens * kStride);
    std::vector<uint16_t> want;
    for (int64_t row = 0; row < kTokens; ++row) {
      for (int64_t i = 0; i < kCols; ++i)
        want.push_back(FloatToHalf(x[static_cast<size_t>(row * kStride + i)]));
    }
    EXPECT_EQ(Download<uint16_t>(keys ? half_k : half_v, kCount), want);
  }
}

// One part; several; several on top of what out holds already.
TEST_F(PrefillRowsDeviceTest, PartsAreRotatedBackAndRounded) {
  constexpr int kRows = 40;
  for (const int d : kHeadDims) {
    const int64_t cols = int64_t{kHeads} * d, stride = cols + 4;
    const cuda::DeviceBytes parts = Upload(ToHalf(Gaussian(3 * kRows * cols, 1)));
    const cuda::DeviceBytes denominators = Upload(Gaussian(3 * kHeads * kRows, 2));
    const cuda::DeviceBytes before = Upload(Gaussian(kTokens * kHeads, 3));
    const std::vector<float> held = Gaussian(kTokens * stride, 4);
    for (const int count : {1, 3}) {
      for (const bool on_top : {false, true}) {
        const auto values = static_cast<size_t>(kTokens * cols);
        const cuda::DeviceBytes got = Upload(held), want = Upload(held);
        const cuda::DeviceBytes bf16 = Upload(std::vector<uint16_t>(values, 0xffff));
        const cuda::DeviceBytes plain = Upload(std::vector<uint16_t>(values, 0xffff));
        cuda::MergePartsArgs args;
        args.parts = parts.as<uint16_t>();
        args.denominators = denominators.as<float>();
        args.count = count;
        args.rows = kRows;
        args.out = want.as<float>();
        args.out_stride = stride;
        args.before = on_top ? before.as<float>() : nullptr;
        args.tokens = kTokens;
        args.q_heads = kHeads;
        args.head_dim = d;
        args.bf16 = plain.as<uint16_t>();
        cuda::LaunchMergeParts(args, nullptr);
        const auto rows_of = [&](const cuda::DeviceBytes& memory) {
          const std::vector<float> all = Download<float>(memory, held.size());
          std::vector<float> rows;
          for (int64_t t = 0; t < kTokens; ++t)
            rows.insert(rows.end(), all.begin() + t * stride, all.begin() + t * stride + cols);
          return rows;
        };
        const std::string what =
            fmt::format("D {}, {} parts{}", d, count, on_top ? " on top of others" : "");
        EXPECT_EQ(Download<uint16_t>(plain, values), RoundedToBf16(rows_of(want))) << what;
        cuda::LaunchToModel(Rotation(want, stride, d, Side::kValue), nullptr);
        args.out = got.as<float>();
        args.rotate_back = true;
        args.bf16 = bf16.as<uint16_t>();
        cuda::LaunchMergeParts(args, nullptr);
        EXPECT_EQ(Bits(Download<float>(got, held.size())), Bits(Download<float>(want, held.size())))
            << what;
        EXPECT_EQ(Download<uint16_t>(bf16, values), RoundedToBf16(rows_of(got))) << what;
      }
    }
  }
}

}  // namespace
}  // namespace tq::test
