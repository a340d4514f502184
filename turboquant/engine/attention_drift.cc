// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/attention_drift.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "turboquant/codec/page_codec.h"

namespace tq {
namespace {

float Dot(const float* a, const float* b, int n) {  // n: a multiple of 8
  float sums[8] = {};
  for (int i = 0; i < n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

void Softmax(std::vector<float>& scores) {
  const float max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (float& x : scores) sum += x = std::exp(x - max);
  for (float& x : scores) x = static_cast<float>(x / sum);
}

// Attention over one version of the pages, query by query.
struct Version {
  std::vector<std::vector<float>> weights;  // [query][visible token]: scores, then their softmax
  std::vector<std::vector<float>> outputs;  // [query][D]
  std::vector<float> decoded;               // [128][D] of the page at hand
};

class DriftMeasure {
 public:
  DriftMeasure(const KvLayerView& kv, int head, MatrixView<const float> queries, float scale,
               const PageCopies& copies)
      : kv_(kv),
        head_(head),
        queries_(queries),
        scale_(scale),
        copies_(copies),
        dim_(kv.open.head_dim),
        group_(static_cast<int>(queries.cols) / dim_),
        last_(kv.length - 1),
        first_page_(static_cast<int>(kv.visibility.FirstVisible(last_) / kPageTokens)),
        codec_(GetPageCodec()) {
    for (Version* version : {&sealed_, &copied_}) {
      version->weights.resize(static_cast<size_t>(queries.rows * group_));
      version->outputs.assign(version->weights.size(), std::vector<float>(dim_, 0.0f));
      version->decoded.resize(static_cast<size_t>(kPageTokens * dim_));
    }
  }

  AttentionDrift Run() {
    AttentionDrift drift;
    if (!AnyCopyUsed()) return drift;
    for (int page = first_page_; page < kv_.num_pages; ++page) Scores(page);
    for (Version* version : {&sealed_, &copied_}) {
      for (std::vector<float>& row : version->weights) Softmax(row);
    }
    for (int page = first_page_; page < kv_.num_pages; ++page) Outputs(page);
    for (size_t q = 0; q < sealed_.weights.size(); ++q) Compare(q, drift);
    return drift;
  }

 private:
  using Decode = void (*)(const PageLayout&, const std::byte*, int, MatrixView<float>) noexcept;

  // The form that the newest query reads.
  int Form(int page) const { return kv_.FormAt(page, last_); }
  const std::byte* CopyOf(int page) const {
    const auto it = copies_.find(page);
    return Form(page) != kOpenForm && it != copies_.end() ? it->second.data() : nullptr;
  }
  bool AnyCopyUsed() const {
    for (int page = first_page_; page < kv_.num_pages; ++page) {
      if (CopyOf(page) != nullptr) return true;
    }
    return false;
  }
  int Tokens(int page) const {
    return static_cast<int>(
        std::min<int64_t>(kPageTokens, kv_.length - int64_t{page} * kPageTokens));
  }

  // Both versions of a page's keys or values; the same one twice where there is only one.
  void DecodePage(int page, Decode decode) {
    const int form = Form(page);
    decode(kv_.Layout(form), kv_.Head(form, page, head_), 0,
           {sealed_.decoded.data(), Tokens(page), dim_});
    if (const std::byte* copy = CopyOf(page)) {
      decode(kv_.open, copy, 0, {copied_.decoded.data(), Tokens(page), dim_});
    } else {
      std::ranges::copy(sealed_.decoded, copied_.decoded.begin());
    }
  }

  // fn(query, its values [D], first, last): the tokens of a page that each query sees.
  template <typename Fn>
  void ForQueries(int page, Fn&& fn) const {
    for (int64_t t = 0; t < queries_.rows; ++t) {
      const int64_t position = kv_.length - queries_.rows + t, begin = int64_t{page} * kPageTokens;
      const int64_t first = std::max<int64_t>(kv_.visibility.FirstVisible(position) - begin, 0);
      const int64_t last = std::min<int64_t>(position + 1 - begin, Tokens(page));
      for (int h = 0; h < group_ && first < last; ++h) {
        fn(static_cast<size_t>(t * group_ + h), queries_.row(t) + h * dim_, static_cast<int>(first),
           static_cast<int>(last));
      }
    }
  }

  void Scores(int page) {
    DecodePage(page, codec_.DecodeKeys);
    for (Version* version : {&sealed_, &copied_}) {
      ForQueries(page, [&](size_t query, const float* q, int first, int last) {
        for (int i = first; i < last; ++i)
          version->weights[query].push_back(
              scale_ * Dot(q, version->decoded.data() + int64_t{i} * dim_, dim_));
      });
    }
  }

  void Outputs(int page) {
    DecodePage(page, codec_.DecodeValues);
    std::vector<size_t>& done = done_;
    done.resize(sealed_.weights.size(), 0);
    ForQueries(page, [&](size_t query, const float*, int first, int last) {
      for (Version* version : {&sealed_, &copied_}) {
        float* out = version->outputs[query].data();
        for (int i = first; i < last; ++i) {
          const float weight =
              version->weights[query][done[query] + static_cast<size_t>(i - first)];
          const float* value = version->decoded.data() + int64_t{i} * dim_;
          for (int d = 0; d < dim_; ++d) out[d] += weight * value[d];
        }
      }
      done[query] += static_cast<size_t>(last - first);
    });
  }

  void Compare(size_t query, AttentionDrift& drift) const {
    ++drift.queries;
    for (int d = 0; d < dim_; ++d) {
      const double a = sealed_.outputs[query][d], b = copied_.outputs[query][d];
      drift.error += (a - b) * (a - b);
      drift.output += b * b;
    }
    double distance = 0;
    for (size_t i = 0; i < sealed_.weights[query].size(); ++i)
      distance += std::abs(double{sealed_.weights[query][i]} - copied_.weights[query][i]);
    drift.moved += distance / 2;
  }

  const KvLayerView& kv_;
  int head_;
  MatrixView<const float> queries_;
  float scale_;
  const PageCopies& copies_;
  int dim_;
  int group_;
  int64_t last_;  // position of the newest query
  int first_page_;
  const PageCodec& codec_;
  Version sealed_, copied_;
  std::vector<size_t> done_;  // tokens of each query that went into its output
};

}  // namespace

AttentionDrift& AttentionDrift::operator+=(const AttentionDrift& other) {
  queries += other.queries;
  error += other.error;
  output += other.output;
  moved += other.moved;
  return *this;
}

double AttentionDrift::RelativeError() const {
  if (queries == 0 || error == 0) return 0;
  const double relative = std::sqrt(error / output);
  return std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative;
}

AttentionDrift MeasureAttentionDrift(const KvLayerView& kv, int kv_head,
                                     MatrixView<const float> queries, float scale,
                                     const PageCopies& copies) {
  return DriftMeasure(kv, kv_head, queries, scale, copies).Run();
}

}  // namespace tq
