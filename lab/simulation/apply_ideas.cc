// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/apply_ideas.h"

#include <fmt/format.h>

#include <algorithm>

#include "lab/simulation/alpha.h"
#include "lab/simulation/mse_scale.h"
#include "lab/simulation/sign_residual.h"

namespace tq::lab {
namespace {

bool Tiles(Codec codec) { return InfoOf(codec).tiles; }
// Codes of a codebook or trellis, whose scale is made to keep the vector's norm.
bool Coded(Codec codec) { return Tiles(codec) && InfoOf(codec).bits < 8; }
bool FewBits(Codec codec) { return Coded(codec) && InfoOf(codec).bits < 4; }
bool Scalar(Codec codec) { return Coded(codec) && !InfoOf(codec).trellis; }
bool HasBitToSpare(Codec codec) { return codec == Codec::kTurbo4 || codec == Codec::kTurbo3; }
Codec OneBitLess(Codec codec) { return codec == Codec::kTurbo4 ? Codec::kTurbo3 : Codec::kTurbo2; }

bool Any(const std::vector<Codec>& codecs, bool (*has)(Codec)) {
  return std::any_of(codecs.begin(), codecs.end(), has);
}
bool AnySide(const CachePolicy& p, bool (*has)(Codec)) { return Any(p.k, has) || Any(p.v, has); }

// What an idea wants of a policy, and what is said otherwise.
struct Need {
  Idea idea;
  bool (*met)(const CachePolicy&);
  const char* reason;
};
constexpr Need kNeeds[] = {
    {Idea::kNoRotation, [](const CachePolicy& p) { return AnySide(p, Tiles); },
     "neither keys nor values are rotated"},
    {Idea::kQjl,
     [](const CachePolicy& p) {
       return Any(p.k, HasBitToSpare) &&
              !Any(p.k, [](Codec c) { return Tiles(c) && !HasBitToSpare(c); });
     },
     "keys must be turbo4 or turbo3: a trellis has no codes of one bit less in its place, turbo2 "
     "no "
     "bit to spare, turbo8 no codebook"},
    {Idea::kVectorMean, [](const CachePolicy& p) { return AnySide(p, Tiles); },
     "neither keys nor values are transformed"},
    {Idea::kChannelScale, [](const CachePolicy& p) { return Any(p.k, Tiles); },
     "keys are not transformed"},
    {Idea::kMseScale, [](const CachePolicy& p) { return AnySide(p, Coded); },
     "neither keys nor values have scales that keep the norm"},
    {Idea::kSubspace,
     [](const CachePolicy& p) {
       return Any(p.k, Scalar) && !Any(p.k, [](Codec c) { return Tiles(c) && !Scalar(c); });
     },
     "keys must be turbo4, turbo3 or turbo2: a trellis chooses its codes together, turbo8 has no "
     "codebook"},
    {Idea::kEncodeAlpha, [](const CachePolicy& p) { return Any(p.v, Coded); },
     "values have no scales that keep the norm"},
    {Idea::kContextAlpha,
     [](const CachePolicy& p) {
       return Any(p.v, FewBits) && !Any(p.v, [](Codec c) { return Tiles(c) && !FewBits(c); });
     },
     "alpha by context was fitted to values of 3 and 2 bits only"},
};

void ApplyToLayer(const Ideas& ideas, Codec k, Codec v, int head_dim, SimulatedLayer& layer) {
  const auto transform = [&](Codec codec, FakeSide& side, FakeSide& recent) {
    if (!Tiles(codec)) return;
    // One basis for both forms; what one of them loses is its own.
    if (ideas.Has(Idea::kNoRotation)) side.rotate = recent.rotate = false;
    side.vector_mean = ideas.Has(Idea::kVectorMean);
    if (ideas.Has(Idea::kMseScale) && Coded(codec)) side.codec = WithMseScale(side.codec);
  };
  if (ideas.Has(Idea::kQjl) && HasBitToSpare(k))
    layer.k.codec = FakeCodecOf(OneBitLess(k), head_dim);
  transform(k, layer.k, layer.recent_k);
  transform(v, layer.v, layer.recent_v);
  if (ideas.Has(Idea::kQjl) && HasBitToSpare(k))
    layer.k.codec = WithSignResidual(layer.k.codec, head_dim);
  if (ideas.Has(Idea::kChannelScale) && Tiles(k)) {
    for (FakeSide* form : {&layer.k, &layer.recent_k}) {
      form->channel_scale = true;
      form->maps = nullptr;
    }
  }
  if (ideas.Has(Idea::kSubspace) && Scalar(k)) {
    layer.k.subspace_bits = InfoOf(k).bits;
    layer.k.subspace_rank = std::max(static_cast<int>(ideas.Number(Idea::kSubspace) * head_dim), 1);
  }
  if (ideas.Has(Idea::kEncodeAlpha) && Coded(v))
    layer.v.codec = WithEncodeAlpha(layer.v.codec, ideas.Number(Idea::kEncodeAlpha));
  if (ideas.Has(Idea::kAlpha)) {
    const auto alpha = static_cast<float>(ideas.Number(Idea::kAlpha));
    layer.alpha = [alpha](int64_t) { return alpha; };
  }
  if (ideas.Has(Idea::kContextAlpha) && FewBits(v))
    layer.alpha = [bits = InfoOf(v).bits](int64_t tokens) { return ContextAlpha(bits, tokens); };
}

}  // namespace

std::string WhyNot(const Ideas& ideas, const CachePolicy& policy) {
  for (const Need& need : kNeeds) {
    if (!ideas.Has(need.idea) || need.met(policy)) continue;
    return fmt::format("+{}: {}", kIdeas[static_cast<size_t>(need.idea)].name, need.reason);
  }
  if (ideas.Has(Idea::kAlpha) && ideas.Has(Idea::kContextAlpha))
    return "+alpha, +context-alpha: both are factors of the same values; give one";
  if (ideas.Has(Idea::kSubspace)) {
    for (const Idea other : {Idea::kQjl, Idea::kMseScale, Idea::kChannelScale}) {
      if (ideas.Has(other))
        return fmt::format("+query-subspace chooses the codes that +{} does: give one",
                           kIdeas[static_cast<size_t>(other)].name);
    }
  }
  return "";
}

void ApplyIdeas(const Ideas& ideas, const CachePolicy& policy, int head_dim,
                SimulatedCache& cache) {
  for (size_t i = 0; i < cache.layers.size(); ++i)
    ApplyToLayer(ideas, policy.k[i], policy.v[i], head_dim, cache.layers[i]);
  if (ideas.Has(Idea::kSparseV)) cache.sparse_v = static_cast<float>(ideas.Number(Idea::kSparseV));
}

double ExtraBitsPerValue(const Ideas& ideas, int head_dim) {
  // An f16 norm per key.
  return ideas.Has(Idea::kQjl) ? 16.0 / (2 * head_dim) : 0;
}

}  // namespace tq::lab
