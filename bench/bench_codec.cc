// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per value of the codecs on one core, after checking that they do what they should:
// decoded distortion for every codec, equal bytes on every instruction set. Usage: bench_codec
// [--benchmark_filter=...]
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/codec/transform.h"

namespace tq {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<float> Gaussians(int head_dim) {
  Random random(1);
  std::vector<float> x(static_cast<size_t>(kPageTokens * head_dim));
  for (float& value : x) value = static_cast<float>(random.Gaussian());
  return x;
}

// An open page of Gaussian data and what is needed around it.
struct Pages {
  explicit Pages(int head_dim, Codec sealed_codec, Isa isa)
      : codec(GetPageCodec(isa)),
        x(Gaussians(head_dim)),
        view(x.data(), kPageTokens, head_dim),
        open(MakePageLayout(head_dim, 1, Codec::kTurbo8, Codec::kTurbo8)),
        sealed(MakePageLayout(head_dim, 1, sealed_codec, sealed_codec)),
        open_page(open.bytes()),
        sealed_page(sealed.bytes()),
        out(x.size()) {
    const std::vector<float> r(static_cast<size_t>(head_dim));
    codec.SetReference(open, open_page.data(), r.data());
    codec.EncodeKeys(open, open_page.data(), 0, view);
    codec.EncodeValues(open, open_page.data(), 0, view);
    Seal();
  }
  void Seal() {
    codec.SealKeys(open, open_page.data(), sealed, sealed_page.data(), {});
    codec.SealValues(open, open_page.data(), sealed, sealed_page.data(), {});
  }
  double DecibelsOfValues() {
    codec.DecodeValues(sealed, sealed_page.data(), 0, {out.data(), kPageTokens, open.head_dim});
    double error = 0, energy = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += std::pow(double{x[i]} - out[i], 2);
      energy += double{x[i]} * x[i];
    }
    return -10 * std::log10(error / energy);
  }

  const PageCodec& codec;
  std::vector<float> x;
  MatrixView<const float> view;
  PageLayout open, sealed;
  Bytes open_page, sealed_page;
  std::vector<float> out;
};

// Returns false, with a message, if a codec is wrong on some instruction set.
bool Verify() {
  const double least[] = {41.0, 20.1, 14.5, 9.0};  // 8 bits depend on the largest of D values
  for (int head_dim : kHeadDims) {
    std::string line = fmt::format("D = {:3}:", head_dim);
    int index = 0;
    for (Codec codec : {Codec::kTurbo8, Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo2}) {
      Pages expected(head_dim, codec, Isa::kScalar);
      const double decibels = expected.DecibelsOfValues();
      line += fmt::format("  {} {:.2f} dB", InfoOf(codec).name, decibels);
      if (decibels < least[index++]) {
        std::fprintf(stderr, "%s: too little\n", line.c_str());
        return false;
      }
      for (Isa isa : AvailableIsas()) {
        const Pages pages(head_dim, codec, isa);
        if (pages.open_page != expected.open_page || pages.sealed_page != expected.sealed_page) {
          std::fprintf(stderr, "D = %d on %s: other bytes than the scalar codec\n", head_dim,
                       IsaName(isa).data());
          return false;
        }
      }
    }
    std::printf("%s\n", line.c_str());
  }
  return true;
}

void PerValue(benchmark::State& state, int64_t values) {
  state.counters["time/value"] =
      benchmark::Counter(static_cast<double>(state.iterations() * values),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Register(Isa isa, int head_dim) {
  const auto add = [&](const std::string& what, auto&& body) {
    benchmark::RegisterBenchmark(fmt::format("{}/D{}/{}", what, head_dim, IsaName(isa)).c_str(),
                                 body);
  };
  const int64_t values = int64_t{kPageTokens} * head_dim;
  add("rotate", [=](benchmark::State& state) {
    std::vector<float> x = Gaussians(head_dim);
    for (auto _ : state) RotateRows(x.data(), kPageTokens, head_dim, head_dim, Side::kKey, isa);
    PerValue(state, values);
  });
  add("rotate_back", [=](benchmark::State& state) {
    std::vector<float> x = Gaussians(head_dim);
    for (auto _ : state) RotateBackRows(x.data(), kPageTokens, head_dim, head_dim, Side::kKey, isa);
    PerValue(state, values);
  });
  for (const bool keys : {true, false}) {
    const std::string side = keys ? "_k" : "_v";
    for (const int step : {kPageTokens, 1}) {
      add(step == 1 ? "encode8_one_token" + side : "encode8_page" + side,
          [=](benchmark::State& state) {
            Pages p(head_dim, Codec::kTurbo4, isa);
            for (auto _ : state) {
              for (int first = 0; first < kPageTokens; first += step) {
                const MatrixView<const float> rows(p.view.row(first), step, head_dim);
                (keys ? p.codec.EncodeKeys : p.codec.EncodeValues)(p.open, p.open_page.data(),
                                                                   first, rows);
              }
            }
            PerValue(state, values);
          });
    }
    for (Codec codec : {Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo2, Codec::kTurbo4Tcq,
                        Codec::kTurbo3Tcq, Codec::kTurbo2Tcq}) {
      const std::string name(InfoOf(codec).name);
      add("seal_" + name + side, [=](benchmark::State& state) {
        Pages p(head_dim, codec, isa);
        for (auto _ : state) {
          (keys ? p.codec.SealKeys : p.codec.SealValues)(p.open, p.open_page.data(), p.sealed,
                                                         p.sealed_page.data(), {});
        }
        PerValue(state, values);
      });
      add("decode_" + name + side, [=](benchmark::State& state) {
        Pages p(head_dim, codec, isa);
        for (auto _ : state) {
          (keys ? p.codec.DecodeKeys : p.codec.DecodeValues)(p.sealed, p.sealed_page.data(), 0,
                                                             {p.out.data(), kPageTokens, head_dim});
        }
        PerValue(state, values);
      });
    }
    add("decode_turbo8" + side, [=](benchmark::State& state) {
      Pages p(head_dim, Codec::kTurbo4, isa);
      for (auto _ : state) {
        (keys ? p.codec.DecodeKeys : p.codec.DecodeValues)(p.open, p.open_page.data(), 0,
                                                           {p.out.data(), kPageTokens, head_dim});
      }
      PerValue(state, values);
    });
  }
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (!tq::Verify()) return 1;
  for (tq::Isa isa : tq::AvailableIsas()) {
    for (int head_dim : {64, 112, 128, 256}) tq::Register(isa, head_dim);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
