// SPDX-License-Identifier: Apache-2.0
// Which cache policy a model should run with: measures how much each layer's keys and values suffer
// from compression, then spends the bytes where they save most.
#pragma once

#include <functional>
#include <vector>

#include "lab/statistics.h"
#include "turboquant/codec/transform.h"
#include "turboquant/kv/kv_cache.h"

namespace tq::lab {

struct RecommendRequest {
  KvGeometry geometry;
  CachePolicy shape;  // window, sinks, centring; its codecs are not read
  int64_t context = 0;
  uint64_t max_bytes = 0;     // of the cache at that context; 0: no limit
  double max_divergence = 0;  // for the upper limit; 0: no limit
};

// One layer's keys or values.
struct SideChoice {
  int layer = 0;
  Side side = Side::kKey;
  double sensitivity = 0;  // divergence of the probe codec here from kElsewhere here
  Codec codec = Codec::kF16;
  double divergence = 0;  // its share of the expected one
};

struct RecommendResult {
  CachePolicy policy;
  Codec probe = Codec::kF16;       // what sensitivities were measured with
  std::vector<SideChoice> places;  // layer by layer, keys before values
  uint64_t bytes = 0;              // at the context
  Estimate measured;               // divergence of the policy itself on the calibration text
  double upper = 0;                // UpperLimit(measured)
  int runs = 0;                    // over the text, without the references'
  bool within_divergence = true;   // upper <= max_divergence
  // If not: what would reach it according to the model of sums; 0 bytes: nothing here would.
  uint64_t bytes_needed = 0;
};

// One-sided 95 % limit of the mean over such text from its standard error, times what foreign text
// may add: kForeignText.
inline constexpr double kForeignText = 1.5;
double UpperLimit(const Estimate& divergence);

// What all places but the one being measured are held in. Tokens enter in it, so that every device
// runs it beside any codec; its own divergence is in what is compared with and does not count.
inline constexpr Codec kElsewhere = Codec::kTurbo8;
CachePolicy UniformPolicy(const KvGeometry& geometry, const CachePolicy& shape, Codec codec);

// The runs a recommendation takes over the calibration text at most: one per side of each layer
// that compresses anything, two of the policies chosen, and both references' own.
int MostRuns(const RecommendRequest& request);

using MeasurePolicy = std::function<Estimate(const CachePolicy&)>;
struct PolicyMeasures {
  MeasurePolicy place;   // divergence from a cache of kElsewhere alone; all are asked first
  MeasurePolicy policy;  // from an f16 cache
};

// Throws kOutOfMemory before anything is measured if no policy fits max_bytes, saying what would.
RecommendResult Recommend(const RecommendRequest& request, const PolicyMeasures& measures);

}  // namespace tq::lab
