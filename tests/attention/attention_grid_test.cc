// SPDX-License-Identifier: Apache-2.0
// Attend against AttendReference over the grid of everything that changes a kernel's path, on every
// instruction set of this machine. Slow: the default suite has one case of each kind.
#include <gtest/gtest.h>

#include "tests/attention/attention_case.h"

namespace tq {
namespace {

// Walks through a list, one step per call: lists of coprime lengths meet in all combinations.
template <typename T>
class Wheel {
 public:
  Wheel(std::initializer_list<T> values) : values_(values) {}
  T Next() { return values_[next_++ % values_.size()]; }

 private:
  std::vector<T> values_;
  size_t next_ = 0;
};

TEST(AttendGrid, EveryPairOfCodecsInEveryHeadDim) {
  std::vector<Codec> all(std::begin(kTiles), std::end(kTiles));
  all.insert(all.end(), std::begin(kRows), std::end(kRows));
  Wheel<int> groups{1, 2, 3, 4, 7, 8, 16};
  Wheel<int> lengths{1, 31, 32, 127, 128, 129, 300, 500};
  Wheel<int> slides{0, 0, 100};
  Wheel<int> tokens{1, 1, 2, 1, 40};
  for (int d : kHeadDims) {
    for (Codec k : all) {
      for (Codec v : all) {
        const auto blocks = [](Codec c) { return c == Codec::kQ8_0 || c == Codec::kQ4_0; };
        if (d % 32 != 0 && (blocks(k) || blocks(v))) continue;
        CaseSpec spec{Pages(d, k, v, lengths.Next())};
        spec.group = groups.Next();
        spec.tokens = std::min(tokens.Next(), spec.pages.length);
        spec.pages.visibility.sliding_window = slides.Next();
        if (spec.pages.visibility.sliding_window != 0) spec.pages.visibility.sink_pages = 0;
        Check(spec);
      }
    }
  }
}

TEST(AttendGrid, EveryGroupLengthAndWindow) {
  Wheel<int> dims{64, 80, 96, 112, 128, 192, 256};
  Wheel<Codec> codecs{Codec::kTurbo4, Codec::kTurbo3,    Codec::kF16,       Codec::kTurbo2,
                      Codec::kTurbo8, Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, Codec::kTurbo2Tcq};
  for (int group : {1, 2, 3, 4, 7, 8, 16}) {
    for (int length : {1, 31, 32, 127, 128, 129, 1000}) {
      for (int slide : {0, 200}) {
        const Codec k = codecs.Next();
        CaseSpec spec{Pages(dims.Next(), k, codecs.Next(), length)};
        spec.group = group;
        spec.pages.visibility.sliding_window = slide;
        spec.pages.visibility.sink_pages = slide == 0 ? 1 : 0;
        Check(spec);
      }
    }
  }
}

TEST(AttendGrid, SinkAmong32KKeys) {
  for (Codec codec : {Codec::kTurbo8, Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo2,
                      Codec::kTurbo4Tcq, Codec::kTurbo3Tcq, Codec::kTurbo2Tcq}) {
    for (int d : {64, 128}) {
      for (double nats : {0.0, 9.0, 12.0}) {
        Case c = SinkCase(codec, d, nats);
        CheckOnAllIsas(c);
      }
    }
  }
}

}  // namespace
}  // namespace tq
