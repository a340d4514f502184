// SPDX-License-Identifier: Apache-2.0
// A random attention call with its reference, to compare Attend against.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/attention/page_builder.h"
#include "turboquant/attention/attention.h"
#include "turboquant/attention/plan.h"

namespace tq {

struct CaseSpec {
  PageSpec pages;
  int group = 1;   // query heads per KV head
  int tokens = 1;  // T: the last ones of the sequence
  bool fresh = false;
  uint64_t seed = 1;
  double value_sigma = 1;

  std::string Text() const {
    return fmt::format("D {} G {} group {} k {} v {} length {} T {} window {} slide {} sinks {}{}",
                       pages.head_dim, pages.kv_heads, group, InfoOf(pages.k).name,
                       InfoOf(pages.v).name, pages.length, tokens, pages.visibility.window_pages,
                       pages.visibility.sliding_window, pages.visibility.sink_pages,
                       fresh ? " fresh" : "");
  }
};

struct Case {
  explicit Case(const CaseSpec& spec) : spec(spec) {
    Random random(spec.seed);
    const int d = spec.pages.head_dim;
    const int kv = spec.pages.kv_heads;
    heads = kv * spec.group;
    k = GaussianVector(random, static_cast<int64_t>(spec.pages.length) * kv * d);
    v = GaussianVector(random, static_cast<int64_t>(spec.pages.length) * kv * d, spec.value_sigma);
    // A common part in all keys, as models have it: the reference vectors carry it.
    const std::vector<float> common = GaussianVector(random, kv * d, 2);
    for (size_t i = 0; i < k.size(); ++i) k[i] += common[i % common.size()];
    q = GaussianVector(random, static_cast<int64_t>(spec.tokens) * heads * d);
  }

  void Build() { built = std::make_unique<BuiltPages>(spec.pages, k.data(), v.data()); }

  AttentionArgs Args(std::vector<float>& out) const {
    const int d = spec.pages.head_dim;
    out.assign(static_cast<size_t>(spec.tokens * heads * d), NAN);
    AttentionArgs args;
    args.kv = built->view();
    args.q = q.data();
    args.out = out.data();
    args.q_stride = args.out_stride = heads * d;
    args.tokens = spec.tokens;
    args.first_position = spec.pages.length - spec.tokens;
    args.q_heads = heads;
    args.scale = 1.0f / std::sqrt(static_cast<float>(d));
    if (spec.fresh) {
      args.fresh_stride = spec.pages.kv_heads * d;
      args.fresh_k = k.data() + args.first_position * args.fresh_stride;
      args.fresh_v = v.data() + args.first_position * args.fresh_stride;
    }
    return args;
  }

  const std::vector<float>& Reference() {
    if (reference.empty()) AttendReference(Args(reference));
    return reference;
  }

  // Largest error of an output vector relative to its norm.
  double Error(const std::vector<float>& out) {
    const int d = spec.pages.head_dim;
    double worst = 0;
    for (size_t i = 0; i < out.size(); i += static_cast<size_t>(d)) {
      double error = 0, norm = 1e-30;
      for (size_t j = i; j < i + static_cast<size_t>(d); ++j) {
        const double e = static_cast<double>(out[j]) - Reference()[j];
        error += e * e;
        norm += static_cast<double>(Reference()[j]) * Reference()[j];
      }
      const double relative = std::sqrt(error / norm);
      if (!(relative <= worst)) worst = relative;  // NaN sticks
    }
    return worst;
  }

  CaseSpec spec;
  int heads;
  std::vector<float> k, v, q, reference;
  std::unique_ptr<BuiltPages> built;
};

inline constexpr double kDecodeTolerance = 3e-4;
inline constexpr double kPrefillTolerance = 2e-5;

inline void CheckOnAllIsas(Case& c, int threads = 2) {
  AttentionWorkspace workspace;
  const ThreadPool pool(threads);
  for (Isa isa : AvailableIsas()) {
    std::vector<float> out;
    const AttentionArgs args = c.Args(out);
    Attend({&args, 1}, workspace, pool, isa);
    const double tolerance = IsDecode(args) ? kDecodeTolerance : kPrefillTolerance;
    EXPECT_LE(c.Error(out), tolerance) << IsaName(isa) << " " << c.spec.Text();
  }
}

inline void Check(const CaseSpec& spec, int threads = 2) {
  Case c(spec);
  c.Build();
  CheckOnAllIsas(c, threads);
}

inline constexpr Codec kTiles[] = {Codec::kTurbo8,   Codec::kTurbo4,    Codec::kTurbo3,
                                   Codec::kTurbo2,   Codec::kTurbo4Tcq, Codec::kTurbo3Tcq,
                                   Codec::kTurbo2Tcq};
inline constexpr Codec kRows[] = {Codec::kF32, Codec::kF16, Codec::kBf16, Codec::kQ8_0,
                                  Codec::kQ4_0};

inline PageSpec Pages(int d, Codec k, Codec v, int length, int kv_heads = 1) {
  PageSpec pages;
  pages.head_dim = d;
  pages.k = k;
  pages.v = v;
  pages.length = length;
  pages.kv_heads = kv_heads;
  pages.visibility.window_pages = 0;
  return pages;
}

// 32K keys, of which the first lies `nats` above the others: they weigh 32768 / e^nats of it.
inline Case SinkCase(Codec codec, int d, double nats) {
  Case c(CaseSpec{Pages(d, codec, codec, 32768)});
  double norm = 0;
  for (float x : c.q) norm += static_cast<double>(x) * x;
  for (int i = 0; i < d; ++i) {
    const auto n = static_cast<size_t>(i);
    c.k[n] += static_cast<float>(c.q[n] * nats * std::sqrt(d) / norm);
  }
  c.Build();
  return c;
}

}  // namespace tq
