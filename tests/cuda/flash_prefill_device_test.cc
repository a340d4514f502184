// SPDX-License-Identifier: Apache-2.0
// The prefill kernel against straight loops in double.
#include "tests/cuda/device_pair.h"
#include "turboquant/attention/cuda/flash_prefill.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/base/half.h"
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

template <typename T>
cuda::DeviceBytes Upload(const std::vector<T>& host) {
  cuda::DeviceBytes memory(host.size() * sizeof(T), "test data");
  cuda::Check(
      cudaMemcpy(memory.as<T>(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
      "copying test data");
  return memory;
}

std::vector<uint16_t> ToHalf(const std::vector<float>& x) {
  std::vector<uint16_t> halves;
  for (const float value : x) halves.push_back(FloatToHalf(value));
  return halves;
}

void CheckShape(const Shape& shape) {
  const int heads = shape.kv_heads * shape.group, d = shape.head_dim;
  const int64_t keys = shape.first_position + shape.tokens;
  const std::vector<float> q = Gaussian(int64_t{shape.tokens} * heads * d, 1, 2);
  const std::vector<uint16_t> k = ToHalf(Gaussian(keys * shape.kv_heads * d, 2)),
                              v = ToHalf(Gaussian(keys * shape.kv_heads * d, 3));
  std::vector<float> want(q.size());
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  for (int t = 0; t < shape.tokens; ++t) {
    const int64_t position = shape.first_position + t;
    const int64_t first =
        shape.sliding_window > 0 ? std::max<int64_t>(0, position - shape.sliding_window + 1) : 0;
    for (int h = 0; h < heads; ++h) {
      const float* query = q.data() + (int64_t{t} * heads + h) * d;
      const auto row = [&](const std::vector<uint16_t>& x, int64_t key) {
        return x.data() + (key * shape.kv_heads + h / shape.group) * d;
      };
      std::vector<double> scores;
      double highest = -1e300, sum = 0;
      for (int64_t key = first; key <= position; ++key) {
        double dot = 0;
        for (int i = 0; i < d; ++i)
          dot += static_cast<double>(query[i]) * HalfToFloat(row(k, key)[i]);
        scores.push_back(dot * scale);
        highest = std::max(highest, scores.back());
      }
      std::vector<double> out(static_cast<size_t>(d));
      for (size_t j = 0; j < scores.size(); ++j) {
        const double p = std::exp(scores[j] - highest);
        sum += p;
        for (int i = 0; i < d; ++i)
          out[static_cast<size_t>(i)] +=
              p * HalfToFloat(row(v, first + static_cast<int64_t>(j))[i]);
      }
      for (int i = 0; i < d; ++i)
        want[static_cast<size_t>((int64_t{t} * heads + h) * d + i)] =
            static_cast<float>(out[static_cast<size_t>(i)] / sum);
    }
  }

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
