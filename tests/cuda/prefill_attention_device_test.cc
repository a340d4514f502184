// SPDX-License-Identifier: Apache-2.0
// Fast prefill over pages of f16 rows, range by range, through cuDNN and through our own kernel,
// against straight loops in double.
#include "tests/cuda/half_attention.h"
#include "turboquant/backend/cuda/prefill_attention.h"
#include "turboquant/codec/cuda/transform_kernels.h"

namespace tq::test {
namespace {

using cuda::PrefillKernel;

struct Shape {
  int head_dim, kv_heads, group, tokens;
  int64_t first_position;
  int sliding_window = 0;
  int range_tokens = 8192;  // that the workspace holds
};

class PrefillAttentionDeviceTest : public DeviceTest,
                                   public ::testing::WithParamInterface<PrefillKernel> {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (GetParam() == PrefillKernel::kBest && !cuda::FindCudnn().why_not.empty())
      GTEST_SKIP() << cuda::FindCudnn().why_not;
  }

  static void Check(const Shape& shape) {
    const HalfProblem problem(shape);
    const int d = shape.head_dim, kv_cols = shape.kv_heads * d;
    const HalfPages pages(problem, d, shape.kv_heads);
    const auto fresh = [&](const std::vector<uint16_t>& halves) {
      std::vector<float> rows;
      for (auto i = static_cast<size_t>(shape.first_position * kv_cols); i < halves.size(); ++i)
        rows.push_back(HalfToFloat(halves[i]));
      return Upload(rows);
    };
    const cuda::DeviceBytes q = Upload(problem.q), k = fresh(problem.k), v = fresh(problem.v);
    const cuda::DeviceBytes out = Upload(std::vector<float>(problem.q.size(), NAN));
    AttentionArgs args;
    args.q = q.as<float>();
    args.out = out.as<float>();
    args.q_stride = args.out_stride = int64_t{problem.heads} * d;
    args.tokens = shape.tokens;
    args.first_position = shape.first_position;
    args.q_heads = problem.heads;
    args.scale = static_cast<float>(problem.scale);
    args.fresh_k = k.as<float>();
    args.fresh_v = v.as<float>();
    args.fresh_stride = kv_cols;
    cuda::PrefillAttention attention(nullptr, GetParam(),
                                     int64_t{shape.range_tokens} * kv_cols * 4);
    attention.Run(args, pages.Tables(), pages.Layer(shape.sliding_window), 0);
    std::vector<float> got(problem.q.size());
    cuda::Check(
        cudaMemcpy(got.data(), out.as<float>(), got.size() * sizeof(float), cudaMemcpyDeviceToHost),
        "reading results");
    ExpectClose(got, problem.want, 1.5e-3, d,
                fmt::format("prefill, D {}, {} KV heads, group {}, {} tokens at {}, window {}, "
                            "ranges of {}",
                            d, shape.kv_heads, shape.group, shape.tokens, shape.first_position,
                            shape.sliding_window, shape.range_tokens));
  }
};

TEST_P(PrefillAttentionDeviceTest, OneRange) {
  for (const int d : {64, 128, 256}) {
    Check({d, 2, 4, 256, 0});
    Check({d, 2, 4, 300, 0});
    Check({d, 2, 4, 200, 1000});
    Check({d, 1, 1, 128, 77});
    Check({d, 2, 4, 200, 600, 5000});
  }
}

TEST_P(PrefillAttentionDeviceTest, SeveralRanges) {
  for (const int d : {64, 128, 256}) {
    Check({d, 2, 4, 300, 1500, 0, 640});
    Check({d, 2, 4, 500, 1000, 0, 640});  // the last range would hold a part of the call's keys
    Check({d, 2, 4, 640, 700, 0, 640});   // more than a range may hold
  }
  Check({64, 1, 2, 300, 5000, 0, 640});     // more ranges than are merged at once
  Check({64, 1, 1, 2048, 4096, 0, 65536});  // whole chunks: no padding
  Check({64, 1, 1, 2048, 8192, 0, 65536});
}

TEST_P(PrefillAttentionDeviceTest, Windows) {
  for (const int d : {64, 128, 256}) Check({d, 1, 4, 200, 700, 150, 640});
}

// Rotations and bf16 results: the bits of the same steps by themselves.
TEST_P(PrefillAttentionDeviceTest, Ends) {
  for (const Shape shape : {Shape{64, 2, 4, 300, 200}, Shape{128, 2, 4, 300, 1500, 0, 640},
                            Shape{256, 1, 2, 300, 5000, 0, 640}, Shape{128, 1, 4, 200, 700, 150}}) {
    const HalfProblem problem(shape);
    const int d = shape.head_dim, kv_cols = shape.kv_heads * d;
    const int64_t cols = int64_t{problem.heads} * d;
    const HalfPages pages(problem, d, shape.kv_heads);
    const cuda::DeviceBytes fresh = Upload(Gaussian(int64_t{shape.tokens} * kv_cols, 5));
    const auto attend = [&](bool by_ends, std::vector<uint16_t>& bf16_out) {
      const cuda::DeviceBytes q = Upload(problem.q);
      const cuda::DeviceBytes out = Upload(std::vector<float>(problem.q.size(), NAN));
      const cuda::DeviceBytes bf16 = Upload(std::vector<uint16_t>(problem.q.size()));
      AttentionArgs args;
      args.q = q.as<float>();
      args.out = out.as<float>();
      args.q_stride = args.out_stride = cols;
      args.tokens = shape.tokens;
      args.first_position = shape.first_position;
      args.q_heads = problem.heads;
      args.scale = static_cast<float>(problem.scale);
      args.fresh_k = args.fresh_v = fresh.as<float>();
      args.fresh_stride = kv_cols;
      cuda::TransformArgs transform = {.x = q.as<float>(),
                                       .rows = shape.tokens,
                                       .stride = cols,
                                       .heads = problem.heads,
                                       .head_dim = d,
                                       .side = Side::kKey};
      if (!by_ends) LaunchToStored(transform, nullptr);
      cuda::PrefillEnds ends;
      if (by_ends) ends = {true, true, bf16.as<uint16_t>()};
      cuda::PrefillAttention attention(nullptr, GetParam(),
                                       int64_t{shape.range_tokens} * kv_cols * 4);
      const bool there =
          attention.Run(args, pages.Tables(), pages.Layer(shape.sliding_window), 0, ends);
      if (there) bf16_out = Download<uint16_t>(bf16, problem.q.size());
      transform.x = out.as<float>();
      transform.side = Side::kValue;
      if (!by_ends) LaunchToModel(transform, nullptr);
      return Download<float>(out, problem.q.size());
    };
    std::vector<uint16_t> bf16;
    const std::vector<float> want = attend(false, bf16), got = attend(true, bf16);
    const std::string what =
        fmt::format("D {}, {} tokens at {}", d, shape.tokens, shape.first_position);
    EXPECT_EQ(Bits(got), Bits(want)) << what;
    EXPECT_EQ(!bf16.empty(), GetParam() == PrefillKernel::kBest && shape.sliding_window == 0)
        << what;
    if (!bf16.empty()) {
      EXPECT_EQ(bf16, RoundedToBf16(got)) << what;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PrefillAttentionDeviceTest,
                         ::testing::Values(PrefillKernel::kBest, PrefillKernel::kOwn),
                         [](const auto& instance) {
                           return instance.param == PrefillKernel::kBest ? "Cudnn" : "Own";
                         });

// What prefill relies on being there, so that it does not fall back unseen.
TEST(CudnnAttentionDeviceTest, HasPlans) {
  if (Gpu() == nullptr) GTEST_SKIP() << "no GPU";
  if (!cuda::FindCudnn().why_not.empty()) GTEST_SKIP() << cuda::FindCudnn().why_not;
  cuda::CudnnAttention attention(nullptr);
  for (const int d : {64, 128, 256}) {
    for (const bool causal : {false, true}) {
      for (const int padding : {0, 100}) {
        cuda::CudnnAttentionArgs args;
        args.tokens = 512 - padding;
        args.q_rows = 512;
        args.keys = args.k_rows = 4096;
        args.q_heads = 8;
        args.kv_heads = 2;
        args.head_dim = d;
        args.scale = 0.1f;
        args.causal = causal;
        std::string why;
        EXPECT_TRUE(attention.Prepare(args, &why)) << "D " << d << ": " << why;
      }
    }
  }
}

}  // namespace
}  // namespace tq::test
