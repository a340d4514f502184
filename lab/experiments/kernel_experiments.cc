// SPDX-License-Identifier: Apache-2.0
// Finished experiments on kernels and where a step's time goes.
#include "lab/experiments/experiment.h"

namespace tq::lab {
namespace {

constexpr std::string_view kMetalSource =
    "AR, T:docs/decode-speed-hardware-analysis.md (M2 Pro, Qwen2.5-7B, 8K)";

}  // namespace

std::vector<Experiment> KernelExperiments() {
  using enum Relation;
  return {
      {.id = "cfe4ca",
       .title = "The cache's part of a step",
       .hypothesis = "With one sequence, the cache is a negligible part of decoding",
       .published = "27B, RTX 3090: weights 83.6 % of the time, attention 0.6 %; types of the "
                    "cache differ by 4 to 5 %",
       .verdict = "success, but measured with an empty cache",
       .source = "AR:cfe4ca, BR:\"Weight GEMM Dominance Proof\"",
       .measure = Measure::kSpeed,
       .size = 4096,
       .claims = {{"An f16 cache that is full costs nothing", "f16", kSame, "f16 d=0"},
                  {"3-bit codes are as fast as f16", "turbo3_tcq", kSame, "f16", 0.05}}},
      {.id = "e426cb",
       .title = "Activations quantised inside the mat-vec",
       .hypothesis = "Fusing the quantisation of activations into the product of weights is faster",
       .published = "27B, RTX 3090: 30.0 tok/s before; 24.82, 20.57, 8.70 in three ways of fusing",
       .verdict = "dead: every block quantises the same vector again",
       .source = "AR:e426cb",
       .reason = "products of weights do not touch the cache; there is one way of them here, which "
                 "quantises once",
       .nearest = "cfe4ca"},
      {.id = "f85c20",
       .title = "Steps as CUDA graphs",
       .hypothesis = "A graph of the decode step takes away the overhead of launches",
       .published = "27B, RTX 3090: 29.9 to 30.83 tok/s",
       .verdict = "works; more on faster GPUs and with smaller models",
       .source = "AR:f85c20, b:59b7ea29b",
       .reason = "the CUDA backend always runs decode steps as graphs; there is no step without to "
                 "time",
       .nearest = "cfe4ca"},
      {.id = "c05db2",
       .title = "Pairs of values from a half2 table",
       .hypothesis = "Two values at a time from a table of pairs, the sign by selection",
       .published = "12.0 tok/s, 49 % of what reading without decoding gives (24.5)",
       .verdict = "failure: selections become branches",
       .source = kMetalSource,
       .measure = Measure::kDecode,
       .claims =
           {{"Pairs by selection are slower than 4 magnitudes and a sign (here: loops on a CPU)",
             "magnitudes", kBetter, "pairs"},
            {"Reading without decoding is faster", "nothing", kBetter, "pairs"}}},
      {.id = "c4ea9d",
       .title = "A sum per level, no table",
       .hypothesis = "Summing the query's values per level reads no table",
       .published = "8.1 tok/s, 33 %",
       .verdict = "failure, the worst of more than 20",
       .source = kMetalSource,
       .measure = Measure::kDecode,
       .claims = {{"A sum per level is slower than 4 magnitudes and a sign (here: loops on a CPU)",
                   "magnitudes", kBetter, "levels"},
                  {"Reading without decoding is faster", "nothing", kBetter, "levels"}}},
      {.id = "dd82bb",
       .title = "Levels as a polynomial of the bits",
       .hypothesis = "Levels computed by multiply-adds need no memory",
       .published = "11.4 tok/s, 47 %",
       .verdict = "failure: seven operations cost more than one read",
       .source = kMetalSource,
       .measure = Measure::kDecode,
       .claims = {{"A polynomial is slower than 4 magnitudes and a sign (here: loops on a CPU)",
                   "magnitudes", kBetter, "polynomial"},
                  {"Reading without decoding is faster", "nothing", kBetter, "polynomial"}}},
      {.id = "ec2202",
       .title = "Whole bytes and a table of 8",
       .hypothesis = "Reading bytes in batches makes the table of 8 levels fast",
       .published = "13.7 tok/s, 56 %; 4 magnitudes and a sign 15.1, 62 %",
       .verdict = "failure against 4 magnitudes",
       .source = kMetalSource,
       .measure = Measure::kDecode,
       .claims = {{"A table of 8 is slower than 4 magnitudes and a sign (here: loops on a CPU)",
                   "magnitudes", kBetter, "table"},
                  {"Reading without decoding is faster", "nothing", kBetter, "table"}}},
  };
}

}  // namespace tq::lab
