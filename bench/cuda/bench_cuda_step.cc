// SPDX-License-Identifier: Apache-2.0
// Times each kernel of a decode step of Llama-3.1-8B's shape on the current device, each in a CUDA
// graph of its own over weights larger than the second-level cache, and the cost of a launch by
// itself. What a whole step adds to their sum is gaps.
//
//   bench_cuda_step OUT.jsonl     one JSON object per kernel
#include <cstdio>
#include <string>
#include <vector>

#include "bench/cuda/bench_kernels.h"
#include "bench/cuda/graph_timer.h"
#include "bench/cuda/jsonl_program.h"
#include "bench/cuda/read_roofline.h"
#include "turboquant/attention/cuda/decode_attention.h"
#include "turboquant/attention/cuda/row_attention.h"
#include "turboquant/base/error.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/policy.h"
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/random_panels.h"

namespace tq {
namespace {

constexpr int kEmbedding = 4096, kFeedForward = 14336, kHeads = 32, kKvHeads = 8, kDim = 128;
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kDim;
constexpr int kVocabulary = 128256, kLayers = 32, kReplays = 15;
constexpr int kChain = 64;  // launches of a small kernel in one graph

FILE* json = nullptr;
double roofline = 0;  // GB/s
double step_us = 0;   // of the kernels that one decode step consists of

// `per_step`: how often a step of one token makes the call.
void Report(const std::string& what, double us, double bytes, int per_step) {
  const double gbs = bytes / us * 1e-3;
  step_us += us * per_step;
  std::printf("%-44s %8.2f us", what.c_str(), us);
  if (bytes > 0) std::printf("  %5.0f GB/s  %5.1f %% of read", gbs, 100 * gbs / roofline);
  std::printf("\n");
  std::fflush(stdout);
  std::fprintf(json,
               "{\"what\": \"%s\", \"us\": %.3f, \"bytes\": %.0f, \"roofline\": %.1f, "
               "\"per_step\": %d}\n",
               what.c_str(), us, bytes, roofline, per_step);
}

MatrixView<float> View(const DeviceBuffer<float>& x, int64_t rows, int64_t cols) {
  return {x.data(), rows, cols, cols};
}

// One matrix shape, for 1 and 8 tokens, round copies that are 400 MB together.
void MeasureMatVec(const char* name, int64_t rows, int64_t cols, int per_step) {
  constexpr PackedLayout kLayout = kPackedLayouts[static_cast<size_t>(kRandomLayout)];
  const int64_t panel_bytes = kLayout.panel_bytes(cols);
  const auto bytes = static_cast<uint64_t>(rows / kPanelRows * panel_bytes);
  const int copies = static_cast<int>(std::max<uint64_t>((uint64_t{400} << 20) / bytes, 1));
  DeviceBuffer<uint8_t> weights(bytes * static_cast<uint64_t>(copies));
  cuda::LaunchRandomPanels(weights.data(), weights.size(), 1, 0x1c00, nullptr);
  DeviceBuffer<float> x(static_cast<size_t>(cuda::kFewTokens * cols));
  x.Fill(0x3c);
  DeviceBuffer<float> out(static_cast<size_t>(cuda::kFewTokens * rows));
  DeviceBuffer<uint8_t> records(static_cast<size_t>(cuda::TokenRecordsBytes(cols)));
  for (const int tokens : {1, 2, 4, 8}) {
    const MatrixView<float> in = View(x, tokens, cols);
    cuda::LaunchQuantizeTokens(in, records.data(), nullptr);
    WaitForDevice();
    const double us = TimeInGraph(std::max(copies, 8), kReplays, [&](int i, cudaStream_t stream) {
      cuda::MatVecCall call;
      call.weight = {weights.data() + static_cast<uint64_t>(i % copies) * bytes, kRandomLayout,
                     rows, cols, panel_bytes};
      call.x = in;
      call.records = records.data();
      call.out = View(out, tokens, rows);
      cuda::LaunchMatVec(call, stream);
    });
    Report(std::string(name) + ", tokens: " + std::to_string(tokens), us,
           static_cast<double>(bytes), tokens == 1 ? per_step : 0);
  }
}

void MeasureElementwise() {
  DeviceBuffer<float> x(kEmbedding), y(kEmbedding), w(kEmbedding), gate(2 * kFeedForward),
      qkv(kQkv);
  for (const DeviceBuffer<float>* b : {&x, &y, &w, &gate, &qkv})
    CheckCuda(cudaMemset(b->data(), 0, b->size() * sizeof(float)), "memset");
  DeviceBuffer<uint8_t> records(static_cast<size_t>(cuda::TokenRecordsBytes(kFeedForward)));
  DeviceBuffer<float> factors(2 * kDim);
  factors.Fill(0);
  const auto time = [](auto&& launch) { return TimeInGraph(kChain, kReplays, launch); };
  Report("Add of 32 values: a launch", time([&](int, cudaStream_t stream) {
           cuda::LaunchAdd(View(x, 1, 32), View(y, 1, 32), stream);
         }),
         0, 0);
  Report("FillRows of 32 values: a launch, not chained", time([&](int, cudaStream_t stream) {
           cuda::LaunchFillRows(View(x, 1, 32), y.data(), stream);
         }),
         0, 0);
  Report("AddRmsNorm", time([&](int, cudaStream_t stream) {
           cuda::LaunchRmsNorm(View(x, 1, kEmbedding), y.data(), kEmbedding, w.data(), 1e-5f,
                               View(y, 1, kEmbedding), {.records = records.data()}, false, stream);
         }),
         0, 2 * kLayers);
  Report("Rope of q and k", time([&](int, cudaStream_t stream) {
           cuda::LaunchRope(View(qkv, 1, kQkv), kHeads + kKvHeads, kDim, kDim, true, factors.data(),
                            stream);
         }),
         0, kLayers);
  Report("Gated", time([&](int, cudaStream_t stream) {
           cuda::LaunchGatedActivation(
               false, {gate.data(), 1, kFeedForward, 2 * kFeedForward},
               {gate.data() + kFeedForward, 1, kFeedForward, 2 * kFeedForward},
               {gate.data(), 1, kFeedForward, 2 * kFeedForward}, {.records = records.data()},
               stream);
         }),
         0, kLayers);
}

// One token of one sequence at `depth`, written and attended to, layer by layer.
class OneToken {
 public:
  OneToken(Codec k, Codec v, int depth)
      : qkv(kQkv),
        out(kHeads * kDim),
        open_(MakePageLayout(kDim, kKvHeads, OpenCodec(k), OpenCodec(v))),
        sealed_(MakePageLayout(kDim, kKvHeads, k, v)),
        block_((uint64_t{open_.bytes()} * kLayers + kPageIdUnit - 1) / kPageIdUnit),
        pages_(depth / kPageTokens + 1),
        arena_(block_ * kPageIdUnit * static_cast<uint64_t>(pages_)),
        ids_(Ids()),
        numbers_(std::span<const int32_t>(std::vector<int32_t>{depth, 1, 0})),
        workspace_(static_cast<size_t>(
            IsRows() ? cuda::RowAttentionWorkspaceBytes(ArgsOf<cuda::RowAttentionArgs>(0))
                     : cuda::DecodeWorkspaceBytes({kDim, kKvHeads, kHeads, 1}))) {
    FillPages(arena_.data(), arena_.size(), open_);
    qkv.Fill(0);
    workspace_.Fill(0);
  }

  void Encode(int layer, cudaStream_t stream) const {
    cuda::EncodeArgs args;
    args.tables = Tables();
    args.pages = PagesOf(layer);
    args.k = qkv.data() + kHeads * kDim;
    args.v = args.k + kKvHeads * kDim;
    args.k_stride = args.v_stride = kQkv;
    cuda::LaunchEncode(args, stream);
  }
  void Attend(int layer, cudaStream_t stream) const {
    if (IsRows()) {
      return cuda::LaunchRowAttention(ArgsOf<cuda::RowAttentionArgs>(layer), workspace_.data(),
                                      stream);
    }
    auto args = ArgsOf<cuda::DecodeArgs>(layer);
    args.overlap = true;
    cuda::LaunchDecodeAttention(args, workspace_.data(), static_cast<int64_t>(workspace_.size()),
                                stream);
  }

  DeviceBuffer<float> qkv, out;

 private:
  bool IsRows() const { return cuda::IsRowPage(open_); }
  DeviceBuffer<uint32_t> Ids() const {
    std::vector<uint32_t> ids(static_cast<size_t>(pages_));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i * block_);
    return DeviceBuffer<uint32_t>(std::span<const uint32_t>(ids));
  }
  cuda::StepTables Tables() const {
    return {ids_.data(),         ids_.data(), numbers_.data(), numbers_.data() + 1,
            numbers_.data() + 2, nullptr,     pages_,          1};
  }
  cuda::LayerPages PagesOf(int layer) const {
    Visibility visibility;
    visibility.seals = !(open_.k == sealed_.k && open_.v == sealed_.v);
    return {arena_.data(),
            static_cast<uint64_t>(layer) * open_.bytes(),
            static_cast<uint64_t>(layer) * sealed_.bytes(),
            open_,
            sealed_,
            visibility};
  }
  template <class Args>
  Args ArgsOf(int layer) const {
    Args args;
    args.tables = Tables();
    args.pages = PagesOf(layer);
    args.q = qkv.data();
    args.out = out.data();
    args.q_stride = kQkv;
    args.out_stride = kHeads * kDim;
    args.q_heads = kHeads;
    args.scale = 0.088f;
    return args;
  }

  PageLayout open_, sealed_;
  uint64_t block_;  // of a page, in units of ids; sealed pages are smaller
  int pages_;
  DeviceBuffer<std::byte> arena_;
  DeviceBuffer<uint32_t> ids_;
  DeviceBuffer<int32_t> numbers_;
  DeviceBuffer<std::byte> workspace_;
};

void MeasureCache(Codec k, Codec v, int depth, bool counts) {
  const OneToken cache(k, v, depth);
  const std::string name = std::string(InfoOf(k).name) + "/" + std::string(InfoOf(v).name) +
                           " at depth " + std::to_string(depth);
  Report(
      "Encode " + name,
      TimeInGraph(kLayers, kReplays, [&](int i, cudaStream_t stream) { cache.Encode(i, stream); }),
      0, counts ? kLayers : 0);
  Report(
      "Attend " + name,
      TimeInGraph(kLayers, kReplays, [&](int i, cudaStream_t stream) { cache.Attend(i, stream); }),
      0, counts ? kLayers : 0);
}

// Everything that a step launches, one layer after another, in one graph: what the device takes
// from the first kernel to the last, and what the host sees from launch to end.
void MeasureStep(Codec k, Codec v) {
  constexpr PackedLayout kLayout = kPackedLayouts[static_cast<size_t>(kRandomLayout)];
  const auto bytes_of = [&](int64_t rows, int64_t cols) {
    return static_cast<uint64_t>(rows / kPanelRows * kLayout.panel_bytes(cols));
  };
  const uint64_t layer_bytes = bytes_of(kQkv, kEmbedding) + bytes_of(kEmbedding, kEmbedding) +
                               bytes_of(2 * kFeedForward, kEmbedding) +
                               bytes_of(kEmbedding, kFeedForward);
  DeviceBuffer<uint8_t> weights(layer_bytes * kLayers + bytes_of(kVocabulary, kEmbedding));
  cuda::LaunchRandomPanels(weights.data(), weights.size(), 1, 0x1c00, nullptr);
  OneToken cache(k, v, 0);
  DeviceBuffer<float> x(kEmbedding), y(kEmbedding), norm(kEmbedding), gate_up(2 * kFeedForward),
      logits(kVocabulary), factors(2 * kDim);
  for (const DeviceBuffer<float>* b : {&x, &y, &norm, &gate_up, &factors})
    CheckCuda(cudaMemset(b->data(), 0, b->size() * sizeof(float)), "memset");
  DeviceBuffer<uint8_t> records(static_cast<size_t>(cuda::TokenRecordsBytes(kFeedForward)));
  const auto all = [&](cudaStream_t stream) {
    const uint8_t* next = weights.data();
    const auto multiply = [&](int64_t rows, int64_t cols, MatrixView<const float> in, float* out) {
      cuda::MatVecCall call;
      call.weight = {next, kRandomLayout, rows, cols, kLayout.panel_bytes(cols)};
      call.x = in;
      call.quantises = in.data == cache.out.data();  // nothing left it with records
      call.records = call.quantises ? nullptr : records.data();
      call.out = {out, 1, rows, rows};
      next += bytes_of(rows, cols);
      cuda::LaunchMatVec(call, stream);
    };
    const MatrixView<float> in = View(x, 1, kEmbedding), added = View(y, 1, kEmbedding);
    const MatrixView<float> gate(gate_up.data(), 1, kFeedForward);
    const auto add_and_norm = [&] {
      cuda::LaunchRmsNorm(in, added.data, kEmbedding, norm.data(), 1e-5f, added,
                          {.records = records.data()}, false, stream);
    };
    for (int layer = 0; layer < kLayers; ++layer) {
      add_and_norm();
      multiply(kQkv, kEmbedding, added, cache.qkv.data());
      cuda::LaunchRope(View(cache.qkv, 1, kQkv), kHeads + kKvHeads, kDim, kDim, true,
                       factors.data(), stream);
      cache.Encode(layer, stream);
      cache.Attend(layer, stream);
      multiply(kEmbedding, kEmbedding, View(cache.out, 1, kEmbedding), added.data);
      add_and_norm();
      multiply(2 * kFeedForward, kEmbedding, added, gate_up.data());
      cuda::LaunchGatedActivation(false, gate, {gate_up.data() + kFeedForward, 1, kFeedForward},
                                  gate, {.records = records.data()}, stream);
      multiply(kEmbedding, kFeedForward, gate, added.data);
    }
    add_and_norm();
    multiply(kVocabulary, kEmbedding, added, logits.data());
  };
  const std::string name =
      std::string(InfoOf(k).name) + "/" + std::string(InfoOf(v).name) + " at depth 0";
  const double us = TimeInGraph(1, kReplays, [&](int, cudaStream_t stream) { all(stream); });
  Report("A step in one graph, " + name, us, static_cast<double>(weights.size()), 0);
  Report("The same as the host sees it, " + name, HostTimeOfGraph(all), 0, 0);
}

void Run() {
  roofline = MeasureReadRoofline();
  MeasureMatVec("q, k, v   6144 x 4096", kQkv, kEmbedding, kLayers);
  MeasureMatVec("output    4096 x 4096", kEmbedding, kEmbedding, kLayers);
  MeasureMatVec("gate, up 28672 x 4096", 2 * kFeedForward, kEmbedding, kLayers);
  MeasureMatVec("down      4096 x 14336", kEmbedding, kFeedForward, kLayers);
  MeasureMatVec("logits  128256 x 4096", kVocabulary, kEmbedding, 1);
  MeasureElementwise();
  MeasureCache(Codec::kF16, Codec::kF16, 0, true);
  std::printf("all kernels of a step, f16 at depth 0: %.0f us\n", step_us);
  // 4096: a page opens, once in 128 steps.
  for (const int depth : {4096, 4100}) MeasureCache(Codec::kF16, Codec::kF16, depth, false);
  for (const int depth : {0, 4096, 4100}) {
    MeasureCache(Codec::kTurbo3, Codec::kTurbo3, depth, false);
    MeasureCache(Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, depth, false);
  }
  MeasureStep(Codec::kF16, Codec::kF16);
  MeasureStep(Codec::kTurbo3, Codec::kTurbo3);
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  return tq::RunJsonlProgram(argc, argv, "bench_cuda_step OUT.jsonl", tq::json, tq::Run);
}
