// SPDX-License-Identifier: Apache-2.0
// A cache that exists in the lab only: which tokens a query reads exactly, which through a fake
// codec, layer by layer. More general than the product's page log: ranges are counted in tokens.
#pragma once

#include <functional>
#include <vector>

#include "lab/simulation/fake_codec.h"
#include "turboquant/kv/policy.h"
#include "turboquant/model/model_spec.h"

namespace tq::lab {

struct SimulatedLayer {
  FakeSide k, v;                // tokens outside sinks and window
  FakeSide recent_k, recent_v;  // the others
  // Values outside sinks and window are multiplied by it when they are read, by a query that sees
  // so many tokens; null: they are not.
  std::function<float(int64_t tokens)> alpha = {};
};

struct SimulatedCache {
  std::vector<SimulatedLayer> layers;  // [L]
  int sinks = 0;   // first tokens read in recent form; none in sliding-window layers
  int window = 0;  // newest tokens in recent form, the query's own included; kSlidingWindowFactor
                   // times as many in sliding-window layers
  bool whole_pages = false;  // as the product: both rounded up, and the query's own page is recent
  // Values are skipped if their softmax weight is below this by the tokens read so far, which is
  // all that one pass over the cache can know; the weight itself counts in the sum. 0: none are.
  float sparse_v = 0;
};

// Calibrated maps [G] of a layer's keys, or null.
using KeyMapsOfLayer = std::function<const KeyMap*(int layer)>;

// What the product does under `policy`; without its centring nothing at all is subtracted. Change
// what it returns to leave the product's ways.
SimulatedCache SimulateCache(const ModelSpec& spec, const CachePolicy& policy,
                             const KeyMapsOfLayer& key_maps = {});

}  // namespace tq::lab
