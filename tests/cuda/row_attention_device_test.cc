// SPDX-License-Identifier: Apache-2.0
// Attention of few tokens to pages of f16 rows against straight loops in double: from one key to
// more than all splits take at once.
#include "tests/cuda/half_attention.h"
#include "turboquant/attention/cuda/row_attention.h"

namespace tq::test {
namespace {

class RowAttentionDeviceTest : public DeviceTest {};

struct Shape {
  int head_dim, kv_heads, group, tokens;
  int64_t first_position;
  int sliding_window = 0;
};

void CheckShape(const Shape& shape) {
  const HalfProblem problem(shape);
  const auto& [heads, keys, scale, q, k, v, want] = problem;
  const int d = shape.head_dim;

  const HalfPages pages(problem, d, shape.kv_heads);
  const std::vector<int32_t> numbers = {static_cast<int32_t>(shape.first_position), shape.tokens,
                                        0};
  const cuda::DeviceBytes device_q = Upload(q), device_numbers = Upload(numbers);
  const cuda::DeviceBytes out = Upload(std::vector<float>(q.size(), NAN));
  cuda::RowAttentionArgs args;
  args.tables = pages.Tables();
  args.tables.first_positions = device_numbers.as<int32_t>();
  args.tables.tokens = device_numbers.as<int32_t>() + 1;
  args.tables.first_rows = device_numbers.as<int32_t>() + 2;
  args.pages = pages.Layer(shape.sliding_window);
  args.q = device_q.as<float>();
  args.out = out.as<float>();
  args.q_stride = args.out_stride = int64_t{heads} * d;
  args.q_heads = heads;
  args.tokens = shape.tokens;
  args.scale = static_cast<float>(scale);
  const cuda::DeviceBytes workspace =
      Upload(std::vector<std::byte>(static_cast<size_t>(cuda::RowAttentionWorkspaceBytes(args))));
  for (int i = 0; i < 2; ++i) {  // the first leaves the workspace as it was
    cuda::LaunchRowAttention(args, workspace.as<void>(), nullptr);
    cuda::CheckLaunch("testing attention");
    std::vector<float> got(q.size());
    cuda::Check(
        cudaMemcpy(got.data(), out.as<float>(), got.size() * sizeof(float), cudaMemcpyDeviceToHost),
        "reading results");
    ExpectClose(
        got, want, 1.5e-3, d,
        fmt::format("row attention, D {}, {} KV heads, group {}, {} tokens at {}, window {}", d,
                    shape.kv_heads, shape.group, shape.tokens, shape.first_position,
                    shape.sliding_window));
  }
}

TEST_F(RowAttentionDeviceTest, FromOneKeyToMany) {
  for (const int d : {64, 80, 128, 256}) {
    for (const int64_t position : {0, 1, 127, 128, 140, 1000, 5000}) {
      CheckShape({d, 2, 4, 1, position});
      CheckShape({d, 1, 7, 5, position});
    }
    CheckShape({d, 2, 4, 1, 3000, 100});
    CheckShape({d, 2, 2, 3, 3000, 1500});
  }
}

}  // namespace
}  // namespace tq::test
