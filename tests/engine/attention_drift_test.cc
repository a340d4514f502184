// SPDX-License-Identifier: Apache-2.0
// Drift against the definition of attention, run over sealed pages and over their open forms.
#include "turboquant/engine/attention_drift.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/attention/page_builder.h"
#include "turboquant/attention/attention.h"

namespace tq {
namespace {

constexpr int kDim = 64, kKvHeads = 2, kGroup = 3, kTokens = 5, kLength = 700;
constexpr float kScale = 0.125f;

class AttentionDriftTest : public testing::Test {
 protected:
  AttentionDriftTest() {
    Random random(3);
    const std::vector<float> k = GaussianVector(random, int64_t{kLength} * kKvHeads * kDim);
    const std::vector<float> v = GaussianVector(random, int64_t{kLength} * kKvHeads * kDim);
    q_ = GaussianVector(random, int64_t{kTokens} * kKvHeads * kGroup * kDim);
    pages_.emplace(PageSpec{.kv_heads = kKvHeads, .length = kLength}, k.data(), v.data());
  }

  PageCopies Copies(int head, int first, int last) const {
    PageCopies copies;
    for (int page = first; page < last; ++page) {
      auto& copy = copies[page] = AlignedBuffer<std::byte>(pages_->view().open.head_bytes);
      std::memcpy(copy.data(), pages_->view().OpenHead(page, head), copy.size());
    }
    return copies;
  }
  MatrixView<const float> Queries(int head) const {
    return {q_.data() + head * kGroup * kDim, kTokens, kGroup * kDim, kKvHeads * kGroup * kDim};
  }
  std::vector<float> Attend(bool seals) const {
    std::vector<float> out(q_.size());
    AttentionArgs args;
    args.kv = pages_->view();
    args.kv.visibility.seals = seals;
    args.q = q_.data();
    args.out = out.data();
    args.q_stride = args.out_stride = kKvHeads * kGroup * kDim;
    args.tokens = kTokens;
    args.first_position = kLength - kTokens;
    args.q_heads = kKvHeads * kGroup;
    args.scale = kScale;
    AttendReference(args);
    return out;
  }

  std::vector<float> q_;
  std::optional<BuiltPages> pages_;
};

TEST_F(AttentionDriftTest, IsTheErrorOfTheOutput) {
  const std::vector<float> sealed = Attend(true), open = Attend(false);
  for (int head = 0; head < kKvHeads; ++head) {
    double error = 0, output = 0;
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kGroup * kDim; ++i) {
        const size_t at = static_cast<size_t>((t * kKvHeads + head) * kGroup * kDim + i);
        error += (double{sealed[at]} - open[at]) * (double{sealed[at]} - open[at]);
        output += double{open[at]} * open[at];
      }
    }
    const AttentionDrift drift =
        MeasureAttentionDrift(pages_->view(), head, Queries(head), kScale, Copies(head, 1, 4));
    EXPECT_EQ(drift.queries, kTokens * kGroup);
    EXPECT_NEAR(drift.error, error, 1e-3 * error);
    EXPECT_NEAR(drift.output, output, 1e-3 * output);
    EXPECT_GT(drift.Moved(), 0.01);
    EXPECT_LT(drift.Moved(), 0.3);
  }
}

TEST_F(AttentionDriftTest, PagesWithoutACopyCountAsUnharmed) {
  const auto error = [&](int first, int last) {
    return MeasureAttentionDrift(pages_->view(), 0, Queries(0), kScale, Copies(0, first, last))
        .RelativeError();
  };
  EXPECT_LT(error(1, 2), error(1, 4));
  // Neither the first page nor those of the window are read sealed.
  const AttentionDrift none =
      MeasureAttentionDrift(pages_->view(), 0, Queries(0), kScale, Copies(0, 0, 1));
  EXPECT_EQ(none.queries, 0);
  EXPECT_EQ(none.RelativeError(), 0);
}

TEST_F(AttentionDriftTest, OutputsThatAreNoNumberAreInfinitelyWrong) {
  AttentionDrift drift{.queries = 1, .error = std::nan(""), .output = 1, .moved = 0};
  EXPECT_TRUE(std::isinf(drift.RelativeError()));
}

}  // namespace
}  // namespace tq
