// SPDX-License-Identifier: Apache-2.0
// Times attention of a prompt's chunk at one layer on the current device (8 KV heads, 4 query heads
// each, D 128): whole, as the engine runs it, through cuDNN and through our own kernel, and its
// parts. First the results of some rows are held against straight loops in double.
//
//   bench_cuda_prefill OUT.jsonl [quick]     one JSON object per measurement
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/cuda/bench_kernels.h"
#include "bench/cuda/graph_timer.h"
#include "bench/cuda/jsonl_program.h"
#include "turboquant/attention/cuda/cudnn_attention.h"
#include "turboquant/attention/cuda/prefill_rows.h"
#include "turboquant/backend/cuda/prefill_attention.h"
#include "turboquant/base/error.h"
#include "turboquant/base/half.h"
#include "turboquant/base/random.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/policy.h"

namespace tq {
namespace {

constexpr int kKvHeads = 8, kGroup = 4, kHeads = kKvHeads * kGroup, kDim = 128;
constexpr int kCols = kHeads * kDim, kKvCols = kKvHeads * kDim;
constexpr int kQkv = kCols + 2 * kKvCols;
constexpr int kRangeTokens = 65536;  // that the engine decodes at a time
constexpr int kPadding = 2048;       // tokens of a plan behind the keys
constexpr int kCalls = 2, kReplays = 5;
constexpr double kScale = 0.08838834764831845;

FILE* json = nullptr;

// The same million numbers over and over: making them all would take longer than all else.
std::vector<float> Gaussian(size_t count) {
  Random random(7);
  std::vector<float> x(std::min<size_t>(count, 1'000'003));
  for (float& value : x) value = static_cast<float>(random.Gaussian());
  const size_t period = x.size();
  x.resize(count);
  for (size_t i = period; i < count; ++i) x[i] = x[i - period];
  return x;
}

// A chunk of `queries` tokens behind `past` cached ones.
class Prompt {
 public:
  Prompt(Codec k, Codec v, int queries, int past)
      : queries_(queries),
        past_(past),
        open_(MakePageLayout(kDim, kKvHeads, OpenCodec(k), OpenCodec(v))),
        sealed_(MakePageLayout(kDim, kKvHeads, k, v)),
        pages_((past + queries) / kPageTokens + 1),
        open_bytes_(uint64_t{open_.bytes()} * static_cast<uint64_t>(pages_)),
        sealed_bytes_(uint64_t{sealed_.bytes()} * static_cast<uint64_t>(pages_)),
        arena_(open_bytes_ + sealed_bytes_),
        open_ids_(Ids(0, open_)),
        sealed_ids_(Ids(open_bytes_, sealed_)),
        qkv_(std::span<const float>(Gaussian(static_cast<size_t>(queries) * kQkv))),
        out_(static_cast<size_t>(queries) * kCols) {
    visibility_.seals = !(open_.k == sealed_.k && open_.v == sealed_.v);
    FillPages(arena_.data(), open_bytes_, open_);
    FillPages(arena_.data() + open_bytes_, sealed_bytes_, sealed_);
    WaitForDevice();
  }

  void Attend(cuda::PrefillAttention& attention) const {
    AttentionArgs args;
    args.q = qkv_.data();
    args.out = out_.data();
    args.q_stride = kQkv;
    args.out_stride = kCols;
    args.tokens = queries_;
    args.first_position = past_;
    args.q_heads = kHeads;
    args.scale = static_cast<float>(kScale);
    args.fresh_k = fresh_k();
    args.fresh_v = fresh_v();
    args.fresh_stride = kQkv;
    attention.Run(args, Tables(), Pages(), 0);
  }
  // Cached tokens [first, first + count), in f16.
  void Decode(int first, int count, uint16_t* k, uint16_t* v, cudaStream_t stream) const {
    cuda::DequantizeArgs args;
    args.tables = Tables();
    args.pages = Pages();
    args.position = past_;
    args.first = first;
    args.count = count;
    args.k = k;
    args.v = v;
    cuda::LaunchDequantize(args, stream);
  }
  const float* q() const { return qkv_.data(); }
  const float* fresh_k() const { return qkv_.data() + kCols; }
  const float* fresh_v() const { return qkv_.data() + kCols + kKvCols; }
  const DeviceBuffer<float>& out() const { return out_; }
  int queries() const { return queries_; }
  int past() const { return past_; }
  int keys() const { return past_ + queries_; }
  double flops() const { return 4.0 * kCols * queries_ * (past_ + (queries_ + 1) / 2.0); }

 private:
  // Pages one behind another: 8 heads make them a multiple of what ids count.
  DeviceBuffer<uint32_t> Ids(uint64_t begin, const PageLayout& layout) const {
    TQ_CHECK(layout.bytes() % kPageIdUnit == 0);
    std::vector<uint32_t> ids(static_cast<size_t>(pages_));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<uint32_t>((begin + i * layout.bytes()) / kPageIdUnit);
    return DeviceBuffer<uint32_t>(std::span<const uint32_t>(ids));
  }
  cuda::StepTables Tables() const {
    cuda::StepTables tables;
    tables.open_pages = open_ids_.data();
    tables.sealed_pages = sealed_ids_.data();
    tables.page_stride = pages_;
    tables.slots = 1;
    return tables;
  }
  cuda::LayerPages Pages() const { return {arena_.data(), 0, 0, open_, sealed_, visibility_}; }

  int queries_, past_;
  PageLayout open_, sealed_;
  int pages_;
  uint64_t open_bytes_, sealed_bytes_;
  Visibility visibility_;
  DeviceBuffer<std::byte> arena_;
  DeviceBuffer<uint32_t> open_ids_, sealed_ids_;
  DeviceBuffer<float> qkv_;  // rows of q, k and v
  DeviceBuffer<float> out_;
};

// What the engine's parts work on, by themselves.
class Parts {
 public:
  explicit Parts(const Prompt& prompt)
      : prompt_(prompt),
        k_(static_cast<size_t>(std::max(prompt.keys(), kRangeTokens) + kPadding) * kKvCols),
        v_(k_.size()),
        q_(static_cast<size_t>(prompt.queries()) * kCols),
        ranges_(prompt.past() / kRangeTokens +
                std::popcount(static_cast<unsigned>(prompt.past() % kRangeTokens / 8192)) + 1),
        parts_(q_.size() * static_cast<size_t>(ranges_)),
        stats_(static_cast<size_t>(prompt.queries()) * kHeads * static_cast<size_t>(ranges_)),
        result_(q_.size()) {
    k_.Fill(0);
    v_.Fill(0);
    ConvertQueries(nullptr);
    for (int first = 0; first < prompt.past(); first += kRangeTokens) {
      const int count = std::min(kRangeTokens, prompt.past() - first);
      prompt.Decode(first, count, k_.data() + int64_t{first} * kKvCols,
                    v_.data() + int64_t{first} * kKvCols, nullptr);
    }
    ConvertFresh(prompt.past(), nullptr);
    WaitForDevice();
  }

  void DecodePast(cudaStream_t stream) const {
    for (int first = 0; first < prompt_.past(); first += kRangeTokens) {
      prompt_.Decode(first, std::min(kRangeTokens, prompt_.past() - first), k_.data(), v_.data(),
                     stream);
    }
  }
  void ConvertQueries(cudaStream_t stream) const {
    cuda::LaunchRowsToHalf({.x = prompt_.q(),
                            .out = q_.data(),
                            .stride = kQkv,
                            .rows = prompt_.queries(),
                            .cols = kCols},
                           stream);
  }
  void ConvertFresh(int64_t row, cudaStream_t stream) const {
    cuda::LaunchRowsToHalf({.x = prompt_.fresh_k(),
                            .out = k_.data() + row * kKvCols,
                            .second_x = prompt_.fresh_v(),
                            .second_out = v_.data() + row * kKvCols,
                            .stride = kQkv,
                            .rows = prompt_.queries(),
                            .cols = kKvCols},
                           stream);
  }
  // All keys in one range.
  cuda::CudnnAttentionArgs Whole(bool padded) const {
    cuda::CudnnAttentionArgs args;
    args.q = q_.data();
    args.k = k_.data();
    args.v = v_.data();
    args.out = parts_.data();
    args.stats = stats_.data();
    args.tokens = args.q_rows = prompt_.queries();
    args.keys = prompt_.keys();
    args.k_rows = padded ? args.keys + kPadding : args.keys;
    args.q_heads = kHeads;
    args.kv_heads = kKvHeads;
    args.head_dim = kDim;
    args.scale = static_cast<float>(kScale);
    args.causal = true;
    return args;
  }
  void Merge(cudaStream_t stream) const {
    cuda::MergePartsArgs args;
    args.parts = parts_.data();
    args.denominators = stats_.data();
    args.count = ranges_;
    args.rows = args.tokens = prompt_.queries();
    args.out = result_.data();
    args.out_stride = kCols;
    args.q_heads = kHeads;
    args.head_dim = kDim;
    cuda::LaunchMergeParts(args, stream);
  }
  const DeviceBuffer<uint16_t>& k() const { return k_; }
  const DeviceBuffer<uint16_t>& v() const { return v_; }

 private:
  const Prompt& prompt_;
  DeviceBuffer<uint16_t> k_, v_, q_;
  int ranges_;  // that the engine cuts the keys into
  DeviceBuffer<uint16_t> parts_;
  DeviceBuffer<float> stats_, result_;
};

// |got - want| / |want| over some rows, `want` by straight loops in double over the decoded keys.
double Error(const Prompt& prompt, const Parts& parts) {
  const std::vector<float> out = prompt.out().Download();
  const std::vector<uint16_t> k = parts.k().Download(), v = parts.v().Download();
  std::vector<float> q(static_cast<size_t>(prompt.queries()) * kQkv);
  CheckCuda(cudaMemcpy(q.data(), prompt.q(), q.size() * sizeof(float), cudaMemcpyDeviceToHost),
            "queries");
  double error = 0, norm = 0;
  for (const int token : {0, 1, 127, prompt.queries() / 2 + 1, prompt.queries() - 1}) {
    for (const int head : {0, 13, kHeads - 1}) {
      const float* query = q.data() + int64_t{token} * kQkv + head * kDim;
      const auto at = [&](int key) { return (int64_t{key} * kKvHeads + head / kGroup) * kDim; };
      std::vector<double> scores;
      for (int key = 0; key <= prompt.past() + token; ++key) {
        double dot = 0;
        for (int d = 0; d < kDim; ++d)
          dot += double{query[d]} * HalfToFloat(k[static_cast<size_t>(at(key) + d)]);
        scores.push_back(dot * kScale);
      }
      const double highest = *std::max_element(scores.begin(), scores.end());
      std::vector<double> want(kDim);
      double sum = 0;
      for (size_t key = 0; key < scores.size(); ++key) {
        const double p = std::exp(scores[key] - highest);
        sum += p;
        for (int d = 0; d < kDim; ++d)
          want[static_cast<size_t>(d)] +=
              p * HalfToFloat(v[static_cast<size_t>(at(static_cast<int>(key)) + d)]);
      }
      const float* got = out.data() + int64_t{token} * kCols + head * kDim;
      for (int d = 0; d < kDim; ++d) {
        const double w = want[static_cast<size_t>(d)] / sum;
        error += (got[d] - w) * (got[d] - w);
        norm += w * w;
      }
    }
  }
  return std::sqrt(error / norm);
}

// The whole through one kernel: microseconds, and the error where `checks`.
struct Whole {
  double us = 0, error = 0, first_ms = 0;
};
Whole MeasureWhole(const Prompt& prompt, const Parts& parts, cuda::PrefillKernel kernel,
                   bool checks) {
  Whole whole;
  std::unique_ptr<cuda::PrefillAttention> attention;
  CheckCuda(cudaMemset(prompt.out().data(), 0xff, prompt.out().size() * sizeof(float)), "memset");
  whole.us = TimeInGraph(kCalls, kReplays, [&](int, cudaStream_t stream) {
    if (attention == nullptr) {
      attention = std::make_unique<cuda::PrefillAttention>(stream, kernel);
      const auto start = std::chrono::steady_clock::now();
      prompt.Attend(*attention);
      CheckCuda(cudaStreamSynchronize(stream), "first call");
      whole.first_ms =
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
              .count();
    }
    prompt.Attend(*attention);
  });
  if (checks) whole.error = Error(prompt, parts);
  return whole;
}

double MeasureCudnn(const Parts& parts, bool padded) {
  std::unique_ptr<cuda::CudnnAttention> attention;
  const cuda::CudnnAttentionArgs args = parts.Whole(padded);
  std::string why;
  const double us = TimeInGraph(kCalls, kReplays, [&](int, cudaStream_t stream) {
    if (attention == nullptr) attention = std::make_unique<cuda::CudnnAttention>(stream);
    if (attention->Prepare(args, &why)) attention->Run(args);
  });
  if (!why.empty()) std::printf("cuDNN: %s\n", why.c_str());
  return why.empty() ? us : 0;
}

void Measure(Codec k, Codec v, int queries, int past, bool checks) {
  const Prompt prompt(k, v, queries, past);
  const Parts parts(prompt);
  const std::string pair = k == v ? std::string(InfoOf(k).name)
                                  : std::string(InfoOf(k).name) + "/" + std::string(InfoOf(v).name);
  const auto time = [](auto&& launch) {
    return TimeInGraph(kCalls, kReplays, [&](int, cudaStream_t stream) { launch(stream); });
  };
  const bool has_cudnn = cuda::FindCudnn().why_not.empty();
  const double exact = has_cudnn ? MeasureCudnn(parts, false) : 0;
  const double padded = has_cudnn ? MeasureCudnn(parts, true) : 0;
  Whole best;
  if (has_cudnn) best = MeasureWhole(prompt, parts, cuda::PrefillKernel::kBest, checks);
  const Whole own = MeasureWhole(prompt, parts, cuda::PrefillKernel::kOwn, checks);
  // Last: these write over the keys.
  const double decode = time([&](cudaStream_t stream) { parts.DecodePast(stream); });
  const double convert = time([&](cudaStream_t stream) {
    parts.ConvertQueries(stream);
    parts.ConvertFresh(0, stream);
  });
  const double merge = time([&](cudaStream_t stream) { parts.Merge(stream); });
  const double tera = prompt.flops() * 1e-6;
  const auto report = [&](const char* name, const Whole& whole) {
    std::printf(
        "%-22s %5d queries at %6d, %-5s %9.1f us %6.1f TFLOP/s (decode %.1f, convert %.1f, "
        "merge %.1f; cuDNN alone %.1f, padded %.1f us), first %.1f ms",
        pair.c_str(), queries, past, name, whole.us, tera / whole.us, decode, convert, merge, exact,
        padded, whole.first_ms);
    if (checks) std::printf(", error %.1e", whole.error);
    std::printf("\n");
    std::fflush(stdout);
    std::fprintf(json,
                 "{\"pair\": \"%s\", \"queries\": %d, \"past\": %d, \"kernel\": \"%s\", \"us\": "
                 "%.2f, \"tflops\": %.2f, \"decode_us\": %.2f, \"convert_us\": %.2f, \"merge_us\": "
                 "%.2f, \"cudnn_us\": %.2f, \"cudnn_padded_us\": %.2f, \"first_ms\": %.2f, "
                 "\"error\": %.3e}\n",
                 pair.c_str(), queries, past, name, whole.us, tera / whole.us, decode, convert,
                 merge, exact, padded, whole.first_ms, whole.error);
    std::fflush(json);
  };
  if (has_cudnn) report("cudnn", best);
  report("own", own);
}

void Run(bool quick) {
  const cuda::CudnnState& cudnn = cuda::FindCudnn();
  std::printf("cuDNN: %s\n", cudnn.why_not.empty() ? cudnn.version.c_str() : cudnn.why_not.c_str());
  struct Pair {
    Codec k, v;
  };
  constexpr Pair kPairs[] = {{Codec::kF16, Codec::kF16},
                             {Codec::kTurbo3, Codec::kTurbo3},
                             {kDefaultKeyCodec, kDefaultValueCodec},
                             {Codec::kTurbo8, Codec::kTurbo8}};
  for (const Pair pair : kPairs) {
    for (const int queries : {2048, 8192}) {
      for (const int past : {8192, 32768, 131072}) {
        if (quick && (queries != 2048 || past > 32768)) continue;
        Measure(pair.k, pair.v, queries, past,
                queries == 2048 && (past == 8192 || pair.k == Codec::kF16));
      }
    }
  }
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  return tq::RunJsonlProgram(argc, argv, "bench_cuda_prefill OUT.jsonl [quick]", tq::json,
                             [&] { tq::Run(argc > 2); });
}
