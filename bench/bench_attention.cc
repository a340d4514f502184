// SPDX-License-Identifier: Apache-2.0
// Attention of one sequence: verifies against the double reference, then times passes over all
// layers of a model, whose pages together are larger than the caches. Pages are cold, as between
// the steps of a real model.
//   bench_attention [smollm2|qwen2.5-1.5b|gemma3-270m|DxGxGROUP ...] [--threads N]
//     [--codecs K/V,K/V...] [--depths N,N...] [--tokens N,N...] [--isa NAME,NAME...]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tests/attention/attention_case.h"
#include "turboquant/attention/attention.h"
#include "turboquant/attention/plan.h"

namespace tq {
namespace {

struct Shape {
  std::string name;
  int head_dim, kv_heads, group, layers;
};

struct Pair {
  Codec k, v;
  std::string Text() const { return fmt::format("{}/{}", InfoOf(k).name, InfoOf(v).name); }
};

struct Options {
  std::vector<Shape> shapes;
  std::vector<Pair> pairs;
  std::vector<int> depths = {512, 4096, 32768};
  std::vector<int> tokens = {1};
  std::vector<Isa> isas = {ActiveIsa()};
  int threads = 0;
};

constexpr size_t kColdBytes = size_t{256} << 20;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Time of one call of fn in seconds: the best of many runs of at least 20 ms.
template <typename Fn>
double Time(Fn fn) {
  fn();
  double best = 1e30;
  const double stop = Seconds() + 0.8;
  do {
    const double start = Seconds();
    int runs = 0;
    do {
      fn();
      ++runs;
    } while (Seconds() - start < 0.02);
    best = std::min(best, (Seconds() - start) / runs);
  } while (Seconds() < stop);
  return best;
}

double ReadBandwidth(const ThreadPool& pool) {
  AlignedBuffer<uint64_t> memory(kColdBytes / 8);
  for (uint64_t& x : memory.span()) x = 1;
  std::vector<uint64_t> sums(static_cast<size_t>(pool.num_threads()) * 8);
  const double seconds = Time([&] {
    pool.ParallelFor(static_cast<int64_t>(memory.size()), 4096,
                     [&](int64_t begin, int64_t end, int thread) {
                       uint64_t sum[8] = {};
                       for (int64_t i = begin; i < end; i += 8) {
                         for (int j = 0; j < 8; ++j) sum[j] += memory[static_cast<size_t>(i + j)];
                       }
                       for (uint64_t x : sum) sums[static_cast<size_t>(thread) * 8] += x;
                     });
  });
  return sums[0] != 0 ? static_cast<double>(kColdBytes) / seconds : 0;
}

CaseSpec SpecOf(const Shape& shape, const Pair& pair, int length, int tokens) {
  CaseSpec spec;
  spec.pages.head_dim = shape.head_dim;
  spec.pages.kv_heads = shape.kv_heads;
  spec.pages.k = pair.k;
  spec.pages.v = pair.v;
  spec.pages.length = length;
  spec.group = shape.group;
  spec.tokens = tokens;
  spec.fresh = tokens > 1;  // as generation prefills
  return spec;
}

bool Verify(const Shape& shape, const Pair& pair, int tokens, Isa isa, const ThreadPool& pool) {
  const CaseSpec spec = SpecOf(shape, pair, 700 + tokens, tokens);
  Case c(spec);
  c.Build();
  std::vector<float> out;
  const AttentionArgs args = c.Args(out);
  AttentionWorkspace workspace;
  Attend({&args, 1}, workspace, pool, isa);
  const double error = c.Error(out);
  if (error <= 3e-4) return true;
  fmt::print(stderr, "{}: error {:.2e} against the reference: {}\n", IsaName(isa), error,
             spec.Text());
  return false;
}

// Copies of one layer's pages, each page in the one form that the newest token reads.
class Layers {
 public:
  Layers(const KvLayerView& layer, int at_least) {
    const int64_t position = layer.length - 1;
    uint64_t layer_bytes = 0;
    for (int page = 0; page < layer.num_pages; ++page) {
      layer_bytes += Bytes(layer.visibility.Sealed(page, position) ? layer.sealed : layer.open);
    }
    bytes_ = static_cast<double>(layer_bytes);
    count_ = std::max(at_least, static_cast<int>(kColdBytes / layer_bytes) + 1);
    memory_ = AlignedBuffer<std::byte>(layer_bytes * static_cast<uint64_t>(count_));
    ids_.resize(static_cast<size_t>(count_ * layer.num_pages));
    view_ = layer;
    view_.arena = memory_.data();
    uint64_t at = 0;
    for (int i = 0; i < count_; ++i) {
      for (int page = 0; page < layer.num_pages; ++page) {
        const bool sealed = layer.visibility.Sealed(page, position);
        const uint64_t n = Bytes(sealed ? layer.sealed : layer.open);
        std::memcpy(memory_.data() + at,
                    sealed ? layer.SealedHead(page, 0) : layer.OpenHead(page, 0), n);
        ids_[static_cast<size_t>(i * layer.num_pages + page)] =
            static_cast<uint32_t>(at / kPageIdUnit);
        at += n;
      }
    }
  }

  int count() const { return count_; }
  double bytes() const { return bytes_; }  // of one layer
  KvLayerView At(int i) const {
    KvLayerView view = view_;
    view.open_pages = view.sealed_pages = ids_.data() + i * view_.num_pages;
    return view;
  }

 private:
  static uint64_t Bytes(const PageLayout& layout) {
    return (layout.bytes() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
  }

  AlignedBuffer<std::byte> memory_;
  std::vector<uint32_t> ids_;
  KvLayerView view_;
  int count_;
  double bytes_;
};

// Seconds of one layer's attention of the last `tokens` tokens.
struct Timing {
  double seconds;
  double bytes;
};
Timing TimeLayer(const Shape& shape, const Pair& pair, int depth, int tokens, Isa isa,
                 const ThreadPool& pool) {
  Case c(SpecOf(shape, pair, depth + tokens, tokens));
  c.Build();
  std::vector<float> out;
  AttentionArgs args = c.Args(out);
  AttentionWorkspace workspace;
  // Many queries read a page often: whether it was cold does not matter.
  if (tokens > 1) {
    return {Time([&] { Attend({&args, 1}, workspace, pool, isa); }), 0};
  }
  const Layers layers(args.kv, shape.layers);
  const double seconds = Time([&] {
    for (int i = 0; i < layers.count(); ++i) {
      args.kv = layers.At(i);
      Attend({&args, 1}, workspace, pool, isa);
    }
  });
  return {seconds / layers.count(), layers.bytes()};
}

bool Run(const Options& options) {
  const ThreadPool pool(options.threads);
  const double bandwidth = ReadBandwidth(pool);
  fmt::print("{} threads; plain reads {:.1f} GB/s\n", pool.num_threads(), bandwidth / 1e9);
  for (const Shape& shape : options.shapes) {
    for (int tokens : options.tokens) {
      fmt::print("{}: D {} G {} group {}, {} queries, {} layers per step\n", shape.name,
                 shape.head_dim, shape.kv_heads, shape.group, tokens, shape.layers);
      for (Isa isa : options.isas) {
        for (int depth : options.depths) {
          double f16 = 0;
          for (const Pair& pair : options.pairs) {
            if (!Verify(shape, pair, tokens, isa, pool)) return false;
            const Timing t = TimeLayer(shape, pair, depth, tokens, isa, pool);
            if (pair.k == Codec::kF16 && pair.v == Codec::kF16) f16 = t.seconds;
            // Pairs of a query and a key that it sees.
            const double pairs = tokens * (depth + 0.5 * (tokens + 1)) * shape.kv_heads;
            std::string line = fmt::format(
                "  {:7} {:14} depth {:5}: {:8.3f} ms/step {:7.2f} us/layer", IsaName(isa),
                pair.Text(), depth, t.seconds * shape.layers * 1e3, t.seconds * 1e6);
            if (tokens == 1) {
              line += fmt::format(" {:6.2f} ns/key/head {:5.1f} GB/s = {:3.0f}% of reads",
                                  t.seconds * 1e9 / pairs, t.bytes / t.seconds / 1e9,
                                  100 * t.bytes / t.seconds / bandwidth);
            } else {
              line += fmt::format(" {:6.1f} GFLOP/s",
                                  4e-9 * pairs * shape.group * shape.head_dim / t.seconds);
            }
            if (f16 > 0) line += fmt::format(" {:5.2f}x f16", f16 / t.seconds);
            fmt::print("{}\n", line);
            std::fflush(stdout);
          }
        }
      }
    }
  }
  return true;
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::vector<int> Numbers(const std::string& text) {
  std::vector<int> numbers;
  for (const std::string& part : Split(text, ',')) numbers.push_back(std::stoi(part));
  return numbers;
}

std::vector<Pair> ParsePairs(const std::string& text) {
  std::vector<Pair> pairs;
  for (const std::string& part : Split(text, ',')) {
    const std::vector<std::string> sides = Split(part, '/');
    pairs.push_back({ParseCodec(sides.front()), ParseCodec(sides.back())});
  }
  return pairs;
}

Isa ParseIsa(const std::string& name) {
  for (Isa isa : AvailableIsas()) {
    if (IsaName(isa) == name) return isa;
  }
  Throw(ErrorCode::kInvalidArgument, "this machine does not run '{}'", name);
}

Shape ParseShape(const std::string& name) {
  const Shape known[] = {
      {"smollm2", 64, 3, 3, 30}, {"qwen2.5-1.5b", 128, 2, 6, 28}, {"gemma3-270m", 256, 1, 4, 18}};
  for (const Shape& shape : known) {
    if (shape.name == name) return shape;
  }
  const std::vector<std::string> parts = Split(name, 'x');
  if (parts.size() != 3) {
    Throw(ErrorCode::kInvalidArgument,
          "unknown shape '{}'; known: smollm2, qwen2.5-1.5b, gemma3-270m, or DxGxGROUP", name);
  }
  return {name, std::stoi(parts[0]), std::stoi(parts[1]), std::stoi(parts[2]), 1};
}

int Main(int argc, char** argv) {
  Options options;
  options.pairs = ParsePairs(
      "f16/f16,q8_0/q8_0,q4_0/q4_0,turbo8/turbo8,turbo4/turbo4,turbo4/turbo3,"
      "turbo3/turbo3,turbo2/turbo2");
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) Throw(ErrorCode::kInvalidArgument, "{} needs a value", arg);
      return argv[++i];
    };
    if (arg == "--threads") {
      options.threads = std::stoi(value());
    } else if (arg == "--codecs") {
      options.pairs = ParsePairs(value());
    } else if (arg == "--depths") {
      options.depths = Numbers(value());
    } else if (arg == "--tokens") {
      options.tokens = Numbers(value());
    } else if (arg == "--isa") {
      options.isas.clear();
      for (const std::string& name : Split(value(), ',')) options.isas.push_back(ParseIsa(name));
    } else {
      options.shapes.push_back(ParseShape(arg));
    }
  }
  if (options.shapes.empty()) options.shapes = {ParseShape("smollm2"), ParseShape("qwen2.5-1.5b")};
  return Run(options) ? 0 : 1;
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  try {
    return tq::Main(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
