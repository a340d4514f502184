// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels against their CPU twins, as one plain program: built for a device with nvcc, and
// for the CPU with tests/cuda/emulated/ (then ctest runs it). Prints a line per case, goes on after
// a failure, and returns 1 if there was one. `quick` as argument: the small cases only.
#include <cstring>

#include "decode_case.h"
#include "page_case.h"

namespace tq {
namespace {

int failures = 0;

void Check(const DecodeSpec& spec) {
  DecodeCase c(spec);
  const double error = c.Run();
  // Queries are 16-bit: the error of a score grows with the key's norm.
  const bool good = error <= (spec.data == Data::kOutliers ? 2e-3 : 3e-4);
  if (!good) ++failures;
  std::printf("%s error %.2e  decode %s\n", good ? "ok  " : "FAIL", error, spec.Text().c_str());
  std::fflush(stdout);
}

void Report(bool good, const std::string& text) {
  if (!good) ++failures;
  std::printf("%s %s\n", good ? "ok  " : "FAIL", text.c_str());
  std::fflush(stdout);
}
void Check(const PageCaseSpec& spec) {
  PageCase c(spec);
  Report(c.Run(), "pages " + spec.Text());
}

void PageCases(bool all) {
  PageCaseSpec base;
  for (const int dim : kHeadDims) {
    for (const bool back : {false, true}) {
      const bool good =
          CheckTransform(dim, Side::kKey, back) && CheckTransform(dim, Side::kValue, back);
      Report(good, fmt::format("transform D {}{}", dim, back ? " back" : ""));
    }
    for (const int rows : {1, 7, 70})
      Report(CheckMapRows(dim, rows), fmt::format("map D {} rows {}", dim, rows));
  }
  for (const Codec codec : {Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo2, Codec::kTurbo8}) {
    PageCaseSpec spec = base;
    spec.k = spec.v = codec;
    Check(spec);
  }
  for (const Codec codec : {Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, Codec::kTurbo2Tcq}) {
    PageCaseSpec spec = base;
    spec.kv_heads = 1;
    spec.k = spec.v = codec;
    spec.strange = codec == Codec::kTurbo3Tcq;
    Check(spec);
  }
  {
    PageCaseSpec spec = base;
    spec.rotate = true;
    spec.chunks = {1, 2, 120, 1, 4, 1, 140, 1};
    Check(spec);
    spec.rotate = false;
    spec.strange = true;
    Check(spec);
  }
  for (const Codec codec : {Codec::kF16, Codec::kQ8_0}) {
    PageCaseSpec spec = base;
    spec.k = spec.v = codec;
    spec.strange = true;
    spec.chunks = {1, 140};
    Check(spec);
    spec.v = Codec::kTurbo4;
    Check(spec);
    std::swap(spec.k, spec.v);
    Check(spec);
  }
  // Pages that are sealed again: every source, levels and trellises as what they fall to, one side
  // alone.
  {
    PageCaseSpec spec = base;
    spec.kv_heads = 1;
    spec.chunks = {520};
    spec.k = spec.v = Codec::kTurbo8;
    spec.ages = {{2, Codec::kTurbo4, Codec::kTurbo8}, {3, Codec::kTurbo3, Codec::kTurbo3}};
    Check(spec);
    spec.chunks = {390};
    spec.k = spec.v = Codec::kTurbo4;
    spec.ages = {{2, Codec::kTurbo3Tcq, Codec::kTurbo4}, {3, Codec::kTurbo2, Codec::kTurbo2Tcq}};
    spec.strange = true;
    Check(spec);
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo3Tcq;
    spec.ages = {{2, Codec::kTurbo3, Codec::kTurbo3Tcq}, {3, Codec::kTurbo2Tcq, Codec::kTurbo2}};
    spec.strange = false;
    Check(spec);
  }
  if (!all) return;
  for (const int dim : kHeadDims) {
    PageCaseSpec spec = base;
    spec.head_dim = dim;
    spec.kv_heads = 1;
    spec.chunks = {390};
    spec.ages = {{2, Codec::kTurbo2, Codec::kTurbo2Tcq}};
    Check(spec);
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo4;
    spec.ages = {{2, Codec::kTurbo3Tcq, Codec::kTurbo3}};
    Check(spec);
  }
  for (const int dim : kHeadDims) {
    PageCaseSpec spec = base;
    spec.head_dim = dim;
    spec.kv_heads = 1;
    spec.rotate = true;
    spec.chunks = {130, 130};
    Check(spec);
    spec.k = Codec::kTurbo4;
    spec.v = Codec::kTurbo2;
    spec.strange = true;
    spec.rotate = false;
    Check(spec);
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo3Tcq;
    Check(spec);
  }
}

// More query rows than a warp's registers hold: four warps share a step, or groups of warps steps.
void WideCases(const DecodeSpec& base, bool all) {
  DecodeSpec wide = base;
  wide.kv_heads = 1;
  wide.tokens = 8;
  for (const int length : {8, 40, 129, 300, 517, 900}) {
    DecodeSpec spec = wide;
    spec.lengths = {length};
    Check(spec);
  }
  for (const Data data :
       {Data::kOutliers, Data::kZeros, Data::kSink, Data::kLateSink, Data::kTiny}) {
    DecodeSpec spec = wide;
    spec.data = data;
    spec.lengths = {600};
    Check(spec);
  }
  {  // pages that never seal
    DecodeSpec spec = wide;
    spec.k = spec.v = Codec::kTurbo8;
    spec.lengths = {390, 77};
    Check(spec);
  }
  {  // levels of unsigned bytes
    DecodeSpec spec = wide;
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo3Tcq;
    spec.lengths = {516, 140};
    Check(spec);
  }
  {  // levels whose products need sums of queries and of weights
    DecodeSpec spec = wide;
    spec.k = spec.v = Codec::kTurbo4;
    spec.lengths = {516, 140};
    Check(spec);
  }
  {  // rows of two items, the second one not full
    DecodeSpec spec = wide;
    spec.tokens = 9;
    spec.lengths = {516};
    Check(spec);
  }
  {  // of two KV heads
    DecodeSpec spec = wide;
    spec.kv_heads = 2;
    spec.tokens = 9;
    spec.lengths = {300};
    Check(spec);
  }
  for (const int tokens : {8, 1}) {  // runs of many steps, some of a page of two; several segments
    DecodeSpec spec = wide;
    spec.tokens = tokens;
    spec.blocks = 1;
    spec.lengths = {2000};
    Check(spec);
    spec.k = spec.v = Codec::kTurbo8;
    spec.lengths = {1000};
    Check(spec);
    spec = wide;
    spec.tokens = tokens;
    spec.blocks = 2;
    spec.kv_heads = 2;
    spec.lengths = {1300, 700};
    Check(spec);
  }
  {  // launches that follow each other closely
    DecodeSpec spec = wide;
    spec.overlap = true;
    spec.lengths = {900, 390};
    Check(spec);
    spec.tokens = 1;
    Check(spec);
  }
  {  // more slots than a warp has lanes, and more heads to merge than blocks
    DecodeSpec spec = wide;
    spec.lengths.assign(40, 150);
    spec.lengths[0] = 300;
    spec.lengths[33] = 0;
    Check(spec);
  }
  {  // heads of one length but for an idle slot
    DecodeSpec spec = wide;
    spec.tokens = 1;
    spec.lengths.assign(17, 140);
    spec.lengths[5] = 0;
    Check(spec);
  }
  for (const int tokens : {5, 11}) {  // two groups and four
    DecodeSpec spec = wide;
    spec.narrow = true;
    spec.tokens = tokens;
    spec.lengths = {516, 140};
    Check(spec);
  }
  {  // one query each but for the first sequence, an idle slot, rows in the stored basis
    DecodeSpec spec = wide;
    spec.rotate = false;
    spec.kv_heads = 2;
    spec.lengths = {900, 3, 0, 260};
    Check(spec);
  }
  {
    DecodeSpec spec = wide;
    spec.sliding_window = 200;
    spec.sink_pages = 0;
    spec.group = 6;
    spec.tokens = 5;
    spec.lengths = {770};
    Check(spec);
  }
  if (!all) return;
  constexpr Codec kPairs[][2] = {
      {Codec::kTurbo8, Codec::kTurbo8},       {Codec::kTurbo4, Codec::kTurbo4},
      {Codec::kTurbo3, Codec::kTurbo3},       {Codec::kTurbo2, Codec::kTurbo2},
      {Codec::kTurbo3Tcq, Codec::kTurbo3Tcq}, {Codec::kTurbo4Tcq, Codec::kTurbo3Tcq}};
  for (const int dim : {64, 128, 256}) {  // wide at 128
    for (const auto& [k, v] : kPairs) {
      for (const int tokens : {3, 7, 32}) {
        DecodeSpec spec = wide;
        spec.head_dim = dim;
        spec.k = k;
        spec.v = v;
        spec.tokens = tokens;
        spec.lengths = {1030, 200};
        Check(spec);
      }
    }
  }
  {  // one head over many blocks
    DecodeSpec spec = wide;
    spec.kv_heads = 2;
    spec.lengths = {9000};
    Check(spec);
  }
}

void DecodeCases(bool all) {
  DecodeSpec base;
  constexpr Codec kTiles[] = {Codec::kTurbo8,   Codec::kTurbo4,    Codec::kTurbo3,
                              Codec::kTurbo2,   Codec::kTurbo4Tcq, Codec::kTurbo3Tcq,
                              Codec::kTurbo2Tcq};
  for (const Codec codec : kTiles) {
    for (const bool generic : {false, true}) {
      DecodeSpec spec = base;
      spec.k = spec.v = codec;
      spec.generic = generic;
      spec.lengths = {700};
      Check(spec);
    }
  }
  for (const int length : {1, 31, 33, 128, 129, 256, 385}) {
    DecodeSpec spec = base;
    spec.lengths = {length};
    Check(spec);
  }
  {  // a batch of different lengths with an idle slot
    DecodeSpec spec = base;
    spec.lengths = {900, 3, 0, 260, 131};
    Check(spec);
  }
  for (const int kv_heads : {1, 2, 5}) {  // heads of equal length: one block or several for each
    DecodeSpec spec = base;
    spec.kv_heads = kv_heads;
    spec.lengths = {2300};
    Check(spec);
  }
  {  // more slots than a warp has lanes, some idle
    DecodeSpec spec = base;
    spec.kv_heads = 1;
    spec.lengths.clear();
    for (int i = 0; i < 70; ++i) spec.lengths.push_back(i % 3 == 1 ? 0 : 1 + i * 37 % 150);
    Check(spec);
  }
  for (const int window : {0, 3}) {
    DecodeSpec spec = base;
    spec.window_pages = window;
    spec.lengths = {650};
    Check(spec);
  }
  for (const int tokens : {2, 5}) {  // across a page boundary: two forms of one page in one call
    DecodeSpec spec = base;
    spec.tokens = tokens;
    spec.lengths = {514, 300};
    Check(spec);
  }
  {
    DecodeSpec spec = base;
    spec.sliding_window = 200;
    spec.sink_pages = 0;
    spec.tokens = 3;
    spec.lengths = {770};
    Check(spec);
  }
  {
    DecodeSpec spec = base;
    spec.sealed_below = 4;
    spec.lengths = {520};
    Check(spec);
  }
  {  // pages in four forms, then two of one page in one call, at every boundary
    DecodeSpec spec = base;
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo4;
    spec.ages = {{3, Codec::kTurbo3, Codec::kTurbo3Tcq}, {5, Codec::kTurbo2, Codec::kTurbo2Tcq}};
    spec.lengths = {1300, 0, 420, 3, 900};
    Check(spec);
    spec.tokens = 7;
    spec.lengths = {1028, 770};
    Check(spec);
    spec.ages[0].aged_below = 4;  // after a truncation
    spec.ages[1].aged_below = 3;
    spec.sealed_below = 6;
    spec.lengths = {900};
    Check(spec);
    spec.ages = {{2, Codec::kTurbo2, Codec::kTurbo2}};
    spec.sealed_below = 0;
    spec.sink_pages = 0;
    spec.sliding_window = 500;
    spec.lengths = {898};
    Check(spec);
  }
  for (const Data data :
       {Data::kOutliers, Data::kZeros, Data::kSink, Data::kLateSink, Data::kTiny}) {
    for (const Codec codec : {Codec::kTurbo3, Codec::kTurbo4}) {
      DecodeSpec spec = base;
      spec.data = data;
      spec.k = spec.v = codec;
      spec.lengths = {600};
      Check(spec);
    }
  }
  for (const int group : {1, 3, 5, 8, 16}) {
    DecodeSpec spec = base;
    spec.group = group;
    spec.kv_heads = 1;
    spec.lengths = {400};
    Check(spec);
  }
  {
    DecodeSpec spec = base;
    spec.rotate = false;
    Check(spec);
  }
  {
    DecodeSpec spec = base;  // the default cache
    spec.k = Codec::kTurbo4Tcq;
    spec.v = Codec::kTurbo3Tcq;
    spec.lengths = {900, 140};
    Check(spec);
  }
  {
    DecodeSpec spec = base;  // keys of this head dim straddle units
    spec.head_dim = 80;
    spec.kv_heads = 1;
    spec.v = Codec::kTurbo4Tcq;
    spec.lengths = {400};
    Check(spec);
  }
  WideCases(base, all);
  if (!all) return;
  for (const int dim : kHeadDims) {
    for (const bool generic : {false, true}) {
      DecodeSpec spec = base;
      spec.head_dim = dim;
      spec.kv_heads = 1;
      spec.generic = generic;
      spec.k = Codec::kTurbo4;
      spec.v = generic ? Codec::kTurbo2 : Codec::kTurbo4;
      spec.lengths = {520, 140};
      Check(spec);
      spec.k = Codec::kTurbo3;
      spec.v = Codec::kTurbo3;
      spec.tokens = 2;
      Check(spec);
      spec.k = Codec::kTurbo4Tcq;
      spec.v = Codec::kTurbo3Tcq;
      Check(spec);
    }
  }
  for (const Codec k : kTiles) {
    for (const Codec v : kTiles) {
      DecodeSpec spec = base;
      spec.k = k;
      spec.v = v;
      spec.lengths = {400};
      Check(spec);
    }
  }
  for (const int tokens : {8, 16, 32}) {
    DecodeSpec spec = base;
    spec.kv_heads = 1;
    spec.tokens = tokens;
    spec.lengths = {390};
    Check(spec);
  }
}

}  // namespace
}  // namespace tq

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  tq::PageCases(!quick);
  tq::DecodeCases(!quick);
  std::printf("%s\n", tq::failures == 0 ? "all cases pass" : "FAILURES");
  return tq::failures == 0 ? 0 : 1;
}
