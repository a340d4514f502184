// SPDX-License-Identifier: Apache-2.0
// The experiments on KV-cache quantisation that others published (autorepl project
// "TurboQuant KV Cache Optimization", its forks and logs), and what this lab measures beside each:
// plain data. Figures in it are the publishers', with their source; ours are only ever measured.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lab/experiments/verdict.h"

namespace tq::lab {

// What is measured of an experiment's rows, and how a row is written.
enum class Measure {
  kDivergence,  // KL divergence from an f16 cache; rows: cache types as `compare --types` has them.
                // "{-N}" stands for the N-th last layer
  kSpeed,       // tokens per second; rows: types, then d=DEPTH, pp=PROMPT (else decoding), ub=PASS
  kNoise,       // dB of signal over a codec's noise on Gaussian vectors; rows: "turbo3 dim=128"
  kRetrieval,   // part of the needles found, each among distractors, in a text of `size` tokens;
                // rows: cache types
  kDecode,      // millions of values per second of one core; rows: ways of decode_ladder.h
  kBasis,  // millions of tokens per second of attention on one core; rows: a type, then "original"
           // (keys and values turned back token by token) or "rotated" (query and output turned)
  kNone    // cannot be run here: `reason`, and the `nearest` experiment that can
};

// What was found, as a comparison of two rows.
struct Claim {
  std::string_view text;
  std::string_view a;
  Relation relation;
  std::string_view b;
  double margin = 0;  // part of b's figure; 0: the relation's usual one (MarginOf)
};

struct Experiment {
  std::string_view id;  // the last six digits of autorepl's "cexp_..." or "proposed-N"
  std::string_view title;
  std::string_view hypothesis;  // in our words
  std::string_view published;   // figure
  std::string_view verdict;     // the publishers'
  std::string_view source;      // tag, see kSources
  Measure measure = Measure::kNone;
  // kDivergence: tokens of a window; kRetrieval: of the context; kSpeed: of depth
  int size = 0;
  int head_dim = 0;                            // of the models that it is about; 0: any
  std::vector<Claim> claims = {};              // their rows are measured
  std::string_view reason = {}, nearest = {};  // kNone
};

// What the tags in Experiment::source stand for.
struct Source {
  std::string_view tag, meaning;
};
std::span<const Source> Sources();

// Finished ones first, as the listing has them, then the proposed.
std::span<const Experiment> Experiments();
// Throws kInvalidArgument naming the id that comes nearest.
const Experiment& GetExperiment(std::string_view id);

// The rows that the claims name, each once, in order; with kSpeed the same of an f16 cache too.
std::vector<std::string> RowsOf(const Experiment& experiment);

bool HigherIsBetter(Measure measure);
std::string_view UnitOf(Measure measure);  // "KLD", "found", "tok/s", "dB", ...
bool NeedsModel(Measure measure);

// Parts of the list, one file each.
std::vector<Experiment> CacheExperiments();
std::vector<Experiment> KernelExperiments();
std::vector<Experiment> PrefillExperiments();
std::vector<Experiment> ProposedExperiments();

}  // namespace tq::lab
