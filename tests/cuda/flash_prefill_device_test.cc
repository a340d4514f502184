// SPDX-License-Identifier: Apache-2.0
// The prefill kernel against straight loops in double.
#include "tests/cuda/half_attention.h"
#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/codec/codec.h"

namespace tq::test {
namespace {

struct Shape {
  int head_dim, kv_heads, group, tokens;
  int64_t first_position;
  int sliding_window;
  std::vector<int> ranges;  // keys of each launch
};

class FlashPrefillDeviceTest : public DeviceTest {};

void CheckShape(const Shape& shape) {
  const HalfProblem problem(shape);
  const auto& [heads, keys, scale, q, k, v, want] = problem;
  const int d = shape.head_dim;

  const cuda::DeviceBytes device_q = Upload(q), device_k = Upload(k), device_v = Upload(v);
  const cuda::DeviceBytes out = Upload(std::vector<float>(q.size(), NAN));
  const cuda::DeviceBytes state(
      static_cast<size_t>(cuda::FlashPrefillStateFloats(shape.tokens, heads)) * sizeof(float),
      "test state");
  cuda::FlashPrefillArgs args;
  args.q = device_q.as<float>();
  args.out = out.as<float>();
  args.q_stride = args.out_stride = int64_t{heads} * d;
  args.tokens = shape.tokens;
  args.first_position = shape.first_position;
  args.q_heads = heads;
  args.kv_heads = shape.kv_heads;
  args.head_dim = d;
  args.scale = static_cast<float>(scale);
  args.sliding_window = shape.sliding_window;
  args.state = state.as<float>();
  int64_t first = 0;
  for (size_t i = 0; i < shape.ranges.size(); ++i) {
    args.k = device_k.as<uint16_t>() + first * shape.kv_heads * d;
    args.v = device_v.as<uint16_t>() + first * shape.kv_heads * d;
    args.first_key = first;
    args.keys = shape.ranges[i];
    args.begins = i == 0;
    args.ends = i + 1 == shape.ranges.size();
    ASSERT_TRUE(cuda::LaunchFlashPrefill(args, nullptr));
    cuda::CheckLaunch("testing attention");
    first += shape.ranges[i];
  }
  ASSERT_EQ(first, keys);
  std::vector<float> got(q.size());
  cuda::Check(
      cudaMemcpy(got.data(), out.as<float>(), got.size() * sizeof(float), cudaMemcpyDeviceToHost),
      "reading results");
  ExpectClose(got, want, 1.5e-3, d,
              fmt::format("prefill attention, D {}, {} KV heads, group {}, {} tokens at {}, window "
                          "{}, {} ranges",
                          d, shape.kv_heads, shape.group, shape.tokens, shape.first_position,
                          shape.sliding_window, shape.ranges.size()));
}

TEST_F(FlashPrefillDeviceTest, EveryHeadDimAndGroup) {
  for (const int d : kHeadDims) {
    CheckShape({d, 2, 4, 37, 0, 0, {37}});
    CheckShape({d, 1, 1, 130, 75, 0, {205}});
    CheckShape({d, 2, 7, 20, 300, 0, {100, 128, 92}});
    CheckShape({d, 1, 3, 70, 250, 90, {320}});
    CheckShape({d, 1, 2, 70, 250, 90, {64, 150, 106}});
  }
}

}  // namespace
}  // namespace tq::test
