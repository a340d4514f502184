// SPDX-License-Identifier: Apache-2.0
// Times decode attention on the current device against the read roofline measured in the same run.
// Buffers are larger than the second-level cache: launches go round many layers. A launch is timed
// inside a CUDA graph, as the engine runs it. Correctness is cuda_kernels_test's matter.
//
//   bench_cuda_attention OUT.jsonl [one|pages|queries]     one JSON object per measurement; `one`:
//   few, to profile; `pages`: encoding and sealing alone; `queries`: several per sequence
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/cuda/bench_kernels.h"
#include "bench/cuda/graph_timer.h"
#include "bench/cuda/jsonl_program.h"
#include "bench/cuda/read_roofline.h"
#include "device_buffer.h"
#include "turboquant/attention/cuda/decode_attention.h"
#include "turboquant/attention/cuda/decode_units.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/policy.h"

namespace tq {
namespace {

struct Shape {
  Codec k;
  Codec v;
  int head_dim = 128;
  int kv_heads = 8;
  int group = 4;
  int sequences = 1;
  int context = 32768;
  int tokens = 1;
  bool generic = false;
  bool overlap = false;
};

FILE* json = nullptr;
double roofline = 0;  // GB/s

// Layers such that one round is several times the second-level cache.
int LayersFor(uint64_t layer_bytes) {
  return static_cast<int>(std::clamp<uint64_t>((uint64_t{400} << 20) / layer_bytes, 1, 32));
}

void Measure(const Shape& s) {
  const PageLayout open = MakePageLayout(s.head_dim, s.kv_heads, OpenCodec(s.k), OpenCodec(s.v));
  const PageLayout sealed = MakePageLayout(s.head_dim, s.kv_heads, s.k, s.v);
  Visibility visibility;
  visibility.seals = !(open.k == sealed.k && open.v == sealed.v);
  const int pages = (s.context + kPageTokens - 1) / kPageTokens;
  const cuda::QueryRange queries = {s.context - s.tokens, s.context - 1, 0};
  const cuda::UnitList list = cuda::MakeUnitList(visibility, queries, 0, 0);
  const uint64_t sealed_pages = static_cast<uint64_t>(list.sealed_units);
  const uint64_t open_pages = static_cast<uint64_t>(list.sink_units + list.open_units);
  const uint64_t bytes = (sealed_pages * sealed.bytes() + open_pages * open.bytes()) *
                         static_cast<uint64_t>(s.sequences);
  const int layers = LayersFor(bytes);
  const auto round = [](uint64_t n) { return (n + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit; };
  const uint64_t sealed_block = round(uint64_t{sealed.bytes()} * static_cast<uint64_t>(layers));
  const uint64_t open_block = round(uint64_t{open.bytes()} * static_cast<uint64_t>(layers));
  const auto sequences = static_cast<uint64_t>(s.sequences);
  const uint64_t open_size = sequences * open_pages * open_block;
  const uint64_t arena_size = open_size + sequences * sealed_pages * sealed_block + 4096;
  DeviceBuffer<std::byte> arena(arena_size);
  FillPages(arena.data(), open_size, open);
  FillPages(arena.data() + open_size, arena_size - open_size, sealed);

  // Pages of a sequence lie scattered, as a cache that is in use has them.
  std::vector<uint32_t> open_ids(sequences * static_cast<uint64_t>(pages), kNoPage);
  std::vector<uint32_t> sealed_ids = open_ids;
  uint64_t next_open = 0, next_sealed = 0;
  for (int page = 0; page < pages; ++page) {
    for (uint64_t i = 0; i < sequences; ++i) {
      const uint64_t at = i * static_cast<uint64_t>(pages) + static_cast<uint64_t>(page);
      if (visibility.Sealed(page, s.context - 1)) {
        sealed_ids[at] =
            static_cast<uint32_t>((open_size + next_sealed++ * sealed_block) / kPageIdUnit);
      }
      const bool open_seen = !visibility.Sealed(page, s.context - s.tokens);
      if (open_seen) open_ids[at] = static_cast<uint32_t>(next_open++ * open_block / kPageIdUnit);
    }
  }
  const int heads = s.kv_heads * s.group;
  const std::vector<int32_t> positions(sequences, s.context - s.tokens);
  const std::vector<int32_t> tokens(sequences, s.tokens);
  std::vector<int32_t> rows(sequences);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i) * s.tokens;
  std::vector<float> q(sequences * static_cast<uint64_t>(s.tokens * heads * s.head_dim));
  Random random(3);
  for (float& x : q) x = static_cast<float>(random.Gaussian());
  DeviceBuffer<uint32_t> d_open{std::span<const uint32_t>(open_ids.data(), open_ids.size())};
  DeviceBuffer<uint32_t> d_sealed{std::span<const uint32_t>(sealed_ids.data(), sealed_ids.size())};
  DeviceBuffer<int32_t> d_positions{std::span<const int32_t>(positions)};
  DeviceBuffer<int32_t> d_tokens{std::span<const int32_t>(tokens)};
  DeviceBuffer<int32_t> d_rows{std::span<const int32_t>(rows)};
  DeviceBuffer<float> d_q{std::span<const float>(q)};
  DeviceBuffer<float> d_out(q.size());
  const int64_t workspace_bytes =
      cuda::DecodeWorkspaceBytes({s.head_dim, s.kv_heads, heads, s.tokens});
  DeviceBuffer<std::byte> workspace(static_cast<size_t>(workspace_bytes));

  cuda::DecodeArgs args;
  args.tables = {d_open.data(), d_sealed.data(), d_positions.data(), d_tokens.data(), d_rows.data(),
                 nullptr,       pages,           s.sequences};
  args.pages = {arena.data(), 0, 0, open, sealed, visibility};
  args.q = d_q.data();
  args.out = d_out.data();
  args.q_stride = args.out_stride = heads * s.head_dim;
  args.q_heads = heads;
  args.tokens = s.tokens;
  args.scale = 0.088f;
  args.rotate_q = InfoOf(s.k).tiles;
  args.rotate_out = InfoOf(s.v).tiles;
  args.generic = s.generic;
  args.overlap = s.overlap;
  const int calls = std::max(layers, bytes > (uint64_t{500} << 20) ? 2 : 16);
  const double us = TimeInGraph(calls, 15, [&](int i, cudaStream_t stream) {
    cuda::DecodeArgs call = args;
    call.pages.open_layer_offset = static_cast<uint64_t>(i % layers) * open.bytes();
    call.pages.sealed_layer_offset = static_cast<uint64_t>(i % layers) * sealed.bytes();
    cuda::LaunchDecodeAttention(call, workspace.data(), workspace_bytes, stream);
  });
  const double gbs = static_cast<double>(bytes) / us * 1e-3;
  std::printf(
      "%-10s %-10s D %3d GQA %2d T %2d %s %2d x %6d  %9.2f us  %5.0f GB/s  %5.1f %% of read\n",
      std::string(InfoOf(s.k).name).c_str(), std::string(InfoOf(s.v).name).c_str(), s.head_dim,
      s.group, s.tokens,
      s.generic   ? "any  "
      : s.overlap ? "PDL  "
                  : "fixed",
      s.sequences, s.context, us, gbs, 100 * gbs / roofline);
  std::fflush(stdout);
  std::fprintf(json,
               "{\"k\": \"%s\", \"v\": \"%s\", \"head_dim\": %d, \"kv_heads\": %d, \"group\": %d, "
               "\"tokens\": %d, \"generic\": %s, \"overlap\": %s, \"sequences\": %d, \"context\": "
               "%d, \"us\": %.3f, "
               "\"bytes\": %llu, \"gbs\": %.1f, \"roofline\": %.1f}\n",
               std::string(InfoOf(s.k).name).c_str(), std::string(InfoOf(s.v).name).c_str(),
               s.head_dim, s.kv_heads, s.group, s.tokens, s.generic ? "true" : "false",
               s.overlap ? "true" : "false", s.sequences, s.context, us,
               static_cast<unsigned long long>(bytes), gbs, roofline);
}

void Report(const char* what, Codec k, Codec v, int tokens, double us) {
  std::printf("%-7s %-10s %-10s %5d tokens, 8 heads: %9.2f us\n", what,
              std::string(InfoOf(k).name).c_str(), std::string(InfoOf(v).name).c_str(), tokens, us);
  std::fflush(stdout);
}

// Whole pages of one layer, both sides.
void MeasureSeal(Codec k, Codec v, int pages) {
  constexpr int kHeads = 8;
  const PageLayout open = MakePageLayout(128, kHeads, Codec::kTurbo8, Codec::kTurbo8);
  const PageLayout sealed = MakePageLayout(128, kHeads, k, v);
  const uint64_t open_size = uint64_t{open.bytes()} * static_cast<uint64_t>(pages);
  DeviceBuffer<std::byte> arena(open_size +
                                uint64_t{sealed.bytes()} * static_cast<uint64_t>(pages));
  FillPages(arena.data(), open_size, open);
  std::vector<cuda::SealJob> jobs;
  for (uint64_t i = 0; i < static_cast<uint64_t>(pages * kHeads); ++i) {
    for (const Side side : {Side::kKey, Side::kValue}) {
      jobs.push_back({i * open.head_bytes, open_size + i * sealed.head_bytes, side});
    }
  }
  const double us = TimeInGraph(4, 5, [&](int, cudaStream_t stream) {
    cuda::PageSealer(arena.data(), open, sealed, jobs).SealAll(stream);
  });
  Report("seal", k, v, pages * kPageTokens, us);
}

void MeasureEncode(int tokens) {
  constexpr int kHeads = 8;
  const PageLayout open = MakePageLayout(128, kHeads, Codec::kTurbo8, Codec::kTurbo8);
  const int pages = (tokens + kPageTokens - 1) / kPageTokens;
  const uint64_t block = (open.bytes() + kPageIdUnit - 1) / kPageIdUnit;
  DeviceBuffer<std::byte> arena(static_cast<size_t>(pages) * block * kPageIdUnit);
  std::vector<uint32_t> ids(static_cast<size_t>(pages));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i * block);
  const std::vector<int32_t> numbers = {0, tokens, 0};
  std::vector<float> x(static_cast<size_t>(tokens * kHeads * 128));
  Random random(3);
  for (float& value : x) value = static_cast<float>(random.Gaussian());
  DeviceBuffer<uint32_t> d_ids{std::span<const uint32_t>(ids.data(), ids.size())};
  DeviceBuffer<int32_t> d_numbers{std::span<const int32_t>(numbers.data(), numbers.size())};
  DeviceBuffer<float> k{std::span<const float>(x.data(), x.size())};
  DeviceBuffer<float> v{std::span<const float>(x.data(), x.size())};
  cuda::EncodeArgs args;
  args.tables = {d_ids.data(),
                 d_ids.data(),
                 d_numbers.data(),
                 d_numbers.data() + 1,
                 d_numbers.data() + 2,
                 nullptr,
                 pages,
                 1};
  args.pages = {arena.data(), 0, 0, open, open, {}};
  args.k = k.data();
  args.v = v.data();
  args.k_stride = args.v_stride = kHeads * 128;
  args.max_tokens = tokens;
  DeviceBuffer<float> kept(x.size());
  args.kept_keys = kept.data();
  const double us = TimeInGraph(4, 9, [&](int, cudaStream_t stream) {
    cuda::LaunchEncode(args, stream);
    if (cuda::NeedsKeyChain(args)) cuda::LaunchKeyChain(args, stream);
  });
  Report("encode", Codec::kTurbo8, Codec::kTurbo8, tokens, us);
}

// A few launches for a profiler.
void RunOne() {
  roofline = 1;
  Shape s{Codec::kTurbo3, Codec::kTurbo3};
  s.context = 4096;
  Measure(s);
  s.context = 32768;
  Measure(s);
}

void MeasurePages() {
  MeasureEncode(1);
  MeasureEncode(2048);
  for (const int pages : {4, 16}) {
    MeasureSeal(Codec::kTurbo3, Codec::kTurbo3, pages);
    MeasureSeal(Codec::kTurbo3Tcq, Codec::kTurbo3Tcq, pages);
    MeasureSeal(Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, pages);
  }
}

struct Size {
  int sequences, context;
};

void MeasureQueries() {
  Shape s{Codec::kTurbo3, Codec::kTurbo3};
  s.context = 131072;
  for (const int tokens : {1, 2, 4, 8, 16}) {
    s.tokens = tokens;
    Measure(s);
  }
  for (const int dim : {64, 256}) {
    s.head_dim = dim;
    for (const int tokens : {1, 8}) {
      s.tokens = tokens;
      Measure(s);
    }
  }
  s.head_dim = 128;
  s.k = Codec::kTurbo4Tcq;
  s.v = Codec::kTurbo3Tcq;
  for (const int tokens : {1, 4, 8}) {
    s.tokens = tokens;
    Measure(s);
  }
  for (const Size size : {Size{1, 4096}, Size{1, 32768}, Size{16, 4096}}) {
    s.sequences = size.sequences;
    s.context = size.context;
    Measure(s);
  }
}

void Run() {
  roofline = MeasureReadRoofline();
  MeasurePages();
  constexpr Size kSizes[] = {{1, 4096}, {1, 32768}, {1, 131072}, {16, 32768}, {16, 131072}};
  struct Pair {
    Codec k, v;
  };
  constexpr Pair kPairs[] = {
      {Codec::kTurbo3, Codec::kTurbo3},       {Codec::kTurbo2, Codec::kTurbo2},
      {Codec::kTurbo4, Codec::kTurbo4},       {Codec::kTurbo8, Codec::kTurbo8},
      {Codec::kTurbo3Tcq, Codec::kTurbo3Tcq}, {Codec::kTurbo4Tcq, Codec::kTurbo3Tcq}};
  for (const Pair pair : kPairs) {
    for (const Size size : kSizes) {
      Shape s{pair.k, pair.v};
      s.sequences = size.sequences;
      s.context = size.context;
      Measure(s);
    }
  }
  Shape s{Codec::kTurbo3, Codec::kTurbo3};
  s.sequences = 16;
  s.generic = true;
  Measure(s);
  s.k = Codec::kTurbo4;
  Measure(s);
  s = {Codec::kTurbo3, Codec::kTurbo3};
  for (const int dim : {64, 256}) {
    s.head_dim = dim;
    s.sequences = 16;
    Measure(s);
  }
  MeasureQueries();
  s = {Codec::kTurbo3, Codec::kTurbo3};
  s.context = 131072;
  s.group = 8;
  Measure(s);
  for (const Codec codec : {Codec::kTurbo3, Codec::kTurbo3Tcq}) {
    s = {codec, codec};
    s.overlap = true;
    for (const int context : {4096, 32768, 131072}) {
      s.context = context;
      Measure(s);
    }
  }
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  return tq::RunJsonlProgram(argc, argv, "bench_cuda_attention OUT.jsonl", tq::json, [&] {
    cudaDeviceProp device;
    tq::CheckCuda(cudaGetDeviceProperties(&device, 0), "device");
    std::printf("%s, %d multiprocessors, %d MiB L2\n", device.name, device.multiProcessorCount,
                device.l2CacheSize >> 20);
    const std::string what = argc > 2 ? argv[2] : "";
    if (what.empty()) return tq::Run();
    if (what == "pages") return tq::MeasurePages();
    if (what == "one") return tq::RunOne();
    if (what != "queries") {
      tq::Throw(tq::ErrorCode::kInvalidArgument, "'{}' is not one of one, pages, queries", what);
    }
    tq::roofline = tq::MeasureReadRoofline();
    tq::MeasureQueries();
  });
}
