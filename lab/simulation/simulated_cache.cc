// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/simulated_cache.h"

namespace tq::lab {
namespace {

FakeSide MakeSide(const ModelSpec& spec, Codec codec, FakeCentring centring = FakeCentring::kNone,
                  const KeyMap* maps = nullptr) {
  const bool tiles = InfoOf(codec).tiles;
  FakeSide side;
  if (codec != Codec::kF32) side.codec = FakeCodecOf(codec, spec.head_dim);
  side.rotate = tiles;
  side.centring = tiles ? centring : FakeCentring::kNone;
  side.maps = tiles ? maps : nullptr;
  return side;
}

SimulatedLayer MakeLayer(const ModelSpec& spec, Codec k, Codec v, bool centring,
                         const KeyMap* maps) {
  const FakeCentring recent = centring ? FakeCentring::kPrevious : FakeCentring::kNone;
  const FakeCentring sealed = centring ? FakeCentring::kPage : FakeCentring::kNone;
  // Pages of turbo8 are never sealed: they keep the reference with which they opened.
  return {.k = MakeSide(spec, k, k == OpenCodec(k) ? recent : sealed, maps),
          .v = MakeSide(spec, v),
          .recent_k = MakeSide(spec, OpenCodec(k), recent, maps),
          .recent_v = MakeSide(spec, OpenCodec(v))};
}

}  // namespace

SimulatedCache SimulateCache(const ModelSpec& spec, const CachePolicy& policy,
                             const KeyMapsOfLayer& key_maps) {
  SimulatedCache cache;
  cache.window = policy.window;
  cache.sinks = policy.sink_pages * kPageTokens;
  cache.whole_pages = true;
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    const auto index = static_cast<size_t>(layer);
    const KeyMap* maps = key_maps ? key_maps(layer) : nullptr;
    cache.layers.push_back(
        MakeLayer(spec, policy.k[index], policy.v[index], policy.centring, maps));
  }
  return cache;
}

}  // namespace tq::lab
