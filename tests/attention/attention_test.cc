// SPDX-License-Identifier: Apache-2.0
// Attend against AttendReference, on every instruction set of this machine.
#include "turboquant/attention/attention.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/attention/attention_case.h"

namespace tq {
namespace {

TEST(Attend, EveryHeadDimAndTileCodec) {
  for (int d : kHeadDims) {
    for (Codec codec : kTiles) {
      for (int tokens : {1, 3}) {
        CaseSpec spec{Pages(d, codec, codec, 300)};
        spec.group = 3;
        spec.tokens = tokens;
        Check(spec);
      }
    }
  }
}

TEST(Attend, EveryPairOfCodecs) {
  std::vector<Codec> all(std::begin(kTiles), std::end(kTiles));
  all.insert(all.end(), std::begin(kRows), std::end(kRows));
  for (Codec k : all) {
    for (Codec v : all) {
      CaseSpec spec{Pages(64, k, v, 400)};
      spec.group = 2;
      Check(spec);
    }
  }
}

TEST(Attend, RowsOfEveryHeadDim) {
  for (int d : {32, 40, 64, 80, 112, 256}) {
    for (Codec codec : kRows) {
      if (d % 32 != 0 && (codec == Codec::kQ8_0 || codec == Codec::kQ4_0)) continue;
      for (int group : {1, 4}) {
        CaseSpec spec{Pages(d, codec, codec, 150)};
        spec.group = group;
        Check(spec);
      }
    }
  }
}

TEST(Attend, EveryLength) {
  for (int length : {1, 2, 31, 32, 33, 127, 128, 129, 255, 256, 300, 1000}) {
    for (Codec codec : {Codec::kTurbo3, Codec::kTurbo4, Codec::kF16}) {
      CaseSpec spec{Pages(64, codec, codec, length, 3)};
      spec.group = 3;
      Check(spec);
    }
  }
}

TEST(Attend, EveryGroup) {
  for (int group : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
    for (int d : {64, 128}) {
      CaseSpec spec{Pages(d, Codec::kTurbo4, Codec::kTurbo3, 300)};
      spec.group = group;
      Check(spec);
      spec.pages.k = spec.pages.v = Codec::kF16;
      Check(spec);
    }
  }
}

TEST(Attend, EveryVisibilityAndTokenCount) {
  for (int window : {0, 1, 2}) {
    for (int slide : {0, 100, 128, 500}) {
      for (int tokens : {1, 5, 130}) {
        for (int length : {130, 700}) {
          CaseSpec spec{Pages(64, Codec::kTurbo3, Codec::kTurbo2, length)};
          spec.pages.visibility.window_pages = window;
          spec.pages.visibility.sliding_window = slide;
          spec.pages.visibility.sink_pages = slide == 0 ? 1 : 0;
          spec.tokens = tokens;
          spec.group = tokens == 1 ? 4 : 1;
          Check(spec);
        }
      }
    }
  }
}

TEST(Attend, PagesThatLostTheirOpenForm) {
  CaseSpec spec{Pages(64, Codec::kTurbo3, Codec::kTurbo3, 600)};
  spec.pages.visibility.window_pages = 2;
  spec.pages.visibility.sealed_below = 4;
  for (int tokens : {1, 20, 200}) {
    spec.tokens = tokens;
    Check(spec);
  }
}

TEST(Attend, PagesOfSeveralAges) {
  for (int d : {64, 80}) {
    CaseSpec spec{Pages(d, Codec::kTurbo4Tcq, Codec::kTurbo3, 900)};
    spec.group = 2;
    spec.pages.visibility.window_pages = 1;
    spec.pages.ages = {{2, Codec::kTurbo3, Codec::kTurbo3}, {4, Codec::kTurbo3, Codec::kTurbo2Tcq}};
    for (int tokens : {1, 5, 20, 300}) {
      spec.tokens = tokens;
      spec.pages.visibility.sealed_below = 0;
      spec.pages.ages[0].aged_below = spec.pages.ages[1].aged_below = 0;
      Check(spec);
      // The same pages, further on than these queries ask for.
      spec.pages.visibility.sealed_below = 6;
      spec.pages.ages[0].aged_below = 5;
      spec.pages.ages[1].aged_below = 4;
      Check(spec);
    }
  }
}

// What is read is the form of its age: other bytes in other forms change nothing.
TEST(Attend, ReadsOneFormOfEachPage) {
  CaseSpec spec{Pages(64, Codec::kTurbo4, Codec::kTurbo4, 800)};
  spec.pages.visibility.window_pages = 1;
  spec.pages.ages = {{3, Codec::kTurbo3, Codec::kTurbo2}};
  Case c(spec);
  c.Build();
  const KvLayerView view = c.built->view();
  const int64_t position = spec.pages.length - 1;  // b = 6: pages 1, 2 aged, 3, 4 sealed
  const int expected[] = {kOpenForm, 2, 2, kSealedForm, kSealedForm, kOpenForm, kOpenForm};
  for (int page = 0; page < 7; ++page)
    EXPECT_EQ(view.FormAt(page, position), expected[page]) << page;
  const std::vector<float> before = c.Reference();
  for (int page = 0; page < 6; ++page) {
    for (const int form : {kOpenForm, kSealedForm, 2}) {
      if (form != expected[page])
        std::memset(view.Head(form, page, 0), 0x11, view.Layout(form).head_bytes);
    }
  }
  CheckOnAllIsas(c);
  std::vector<float> after;
  AttendReference(c.Args(after));
  EXPECT_EQ(before, after);
}

TEST(Attend, Prefill) {
  for (int d : {64, 80, 256}) {
    for (Codec codec : {Codec::kTurbo4, Codec::kF32}) {
      for (int group : {1, 3}) {
        CaseSpec spec{Pages(d, codec, Codec::kTurbo2, 333)};
        spec.tokens = 150;
        spec.group = group;
        Check(spec);
      }
    }
  }
  CaseSpec odd{Pages(40, Codec::kF16, Codec::kF16, 200)};
  odd.tokens = 70;
  Check(odd);
}

TEST(Attend, FreshTokens) {
  for (int tokens : {1, 4, 40, 200}) {
    for (int length : {200, 520}) {
      for (int slide : {0, 90}) {
        CaseSpec spec{Pages(64, Codec::kTurbo3, Codec::kTurbo3, length, 2)};
        spec.tokens = tokens;
        spec.group = 2;
        spec.fresh = true;
        spec.pages.visibility.sliding_window = slide;
        Check(spec);
      }
    }
  }
}

TEST(Attend, OutputsMayTakeThePlaceOfQueries) {
  for (const bool fresh : {true, false}) {
    for (int tokens : {1, 4, 300}) {
      CaseSpec spec{Pages(64, Codec::kF16, Codec::kF16, 700, 2)};
      spec.tokens = tokens;
      spec.group = 3;
      spec.fresh = fresh;
      Case c(spec);
      c.Build();
      AttentionWorkspace workspace;
      std::vector<float> apart, in_place = c.q;
      AttentionArgs args = c.Args(apart);
      Attend({&args, 1}, workspace, ThreadPool(2));
      args.q = args.out = in_place.data();
      Attend({&args, 1}, workspace, ThreadPool(2));
      EXPECT_EQ(in_place, apart) << c.spec.Text();
    }
  }
}

TEST(Attend, ManyCallsAtOnceEqualOneByOne) {
  std::vector<std::unique_ptr<Case>> cases;
  int i = 0;
  for (int length : {5, 700, 130, 64}) {
    CaseSpec spec{Pages(64, Codec::kTurbo3, Codec::kTurbo4, length, 3)};
    spec.group = 3;
    spec.tokens = length == 130 ? 100 : length == 64 ? 7 : 1;
    spec.seed = static_cast<uint64_t>(++i);
    cases.push_back(std::make_unique<Case>(spec));
    cases.back()->Build();
  }
  for (Isa isa : AvailableIsas()) {
    for (int threads : {1, 2, 3}) {
      AttentionWorkspace workspace;
      std::vector<std::vector<float>> outs(cases.size());
      std::vector<AttentionArgs> calls;
      for (size_t n = 0; n < cases.size(); ++n) calls.push_back(cases[n]->Args(outs[n]));
      Attend(calls, workspace, ThreadPool(threads), isa);
      for (size_t n = 0; n < cases.size(); ++n) {
        EXPECT_LE(cases[n]->Error(outs[n]), kDecodeTolerance) << cases[n]->spec.Text();
      }
      // The same again: the same bits.
      std::vector<std::vector<float>> again(cases.size());
      calls.clear();
      for (size_t n = 0; n < cases.size(); ++n) calls.push_back(cases[n]->Args(again[n]));
      Attend(calls, workspace, ThreadPool(threads), isa);
      EXPECT_EQ(outs, again);
    }
  }
}

// One key that takes nearly all the weight, and 32K others.
TEST(Attend, SinkAmong32KKeys) {
  for (Codec codec : {Codec::kTurbo3, Codec::kTurbo3Tcq}) {
    Case c = SinkCase(codec, 64, 9);
    CheckOnAllIsas(c);
  }
}

TEST(Attend, SplitsOverThreadsAgree) {
  for (int tokens : {1, 70}) {
    CaseSpec spec{Pages(64, Codec::kTurbo4, Codec::kTurbo3, 3000, 2)};
    spec.group = 3;
    spec.tokens = tokens;
    Case c(spec);
    c.Build();
    for (Isa isa : AvailableIsas()) {
      std::vector<float> one;
      const AttentionArgs args = c.Args(one);
      AttentionWorkspace workspace;
      Attend({&args, 1}, workspace, ThreadPool(1), isa);
      for (int threads : {2, 3, 5}) {
        std::vector<float> split;
        const AttentionArgs again = c.Args(split);
        Attend({&again, 1}, workspace, ThreadPool(threads), isa);
        for (size_t i = 0; i < one.size(); ++i) {
          ASSERT_NEAR(split[i], one[i], 1e-5) << IsaName(isa) << " " << threads << " threads";
        }
      }
    }
  }
}

TEST(Attend, AwkwardScales) {
  for (Codec codec : {Codec::kTurbo8, Codec::kTurbo4, Codec::kTurbo2, Codec::kQ8_0}) {
    for (int what = 0; what < 5; ++what) {
      for (int tokens : {1, 40}) {
        CaseSpec spec{Pages(64, codec, codec, 260)};
        spec.tokens = tokens;
        spec.group = 2;
        Case c(spec);
        if (what == 0) std::fill(c.v.begin(), c.v.end(), 0.0f);
        if (what == 1) std::fill(c.q.begin(), c.q.end(), 0.0f);
        if (what == 2) std::fill(c.k.begin(), c.k.end(), 0.0f);
        if (what == 3) {
          for (size_t i = 0; i < c.v.size(); i += 997) c.v[i] *= 10000.0f;
        }
        if (what == 4) {  // value vectors of very different length
          for (size_t i = 0; i < c.v.size(); ++i) c.v[i] *= i / 64 % 7 == 0 ? 1000.0f : 0.01f;
        }
        c.Build();
        AttentionWorkspace workspace;
        for (Isa isa : AvailableIsas()) {
          std::vector<float> out;
          const AttentionArgs args = c.Args(out);
          Attend({&args, 1}, workspace, ThreadPool(1), isa);
          EXPECT_LE(c.Error(out), kDecodeTolerance)
              << IsaName(isa) << " case " << what << " " << spec.Text();
        }
      }
    }
  }
}

}  // namespace
}  // namespace tq
