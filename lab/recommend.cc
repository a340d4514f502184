// SPDX-License-Identifier: Apache-2.0
#include "lab/recommend.h"

#include <algorithm>
#include <cmath>

#include "lab/cache_allocation.h"
#include "lab/codec_noise.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr double kOneSided95 = 1.645;  // standard errors
constexpr int kProbeBits = 3;
// What a second policy aims below the limit, so that chance does not push it over again.
constexpr double kAim = 0.9;
// Upper limit over measured mean, before there is a measurement: standard errors of 12 %.
constexpr double kUsualWidening = kForeignText * (1 + kOneSided95 * 0.12);

// Divergence grows a little faster than noise: between 2 and 4 bits as noise (1 + 12 noise), the
// same factor for scalar and trellis codes (docs/recommend.md).
double Growth(double noise) { return noise * (1 + 12 * noise); }

struct Candidate {
  Codec codec;
  double noise;
  double bits;
};

std::vector<Candidate> Candidates(int head_dim) {
  std::vector<Candidate> candidates;
  for (const CodecInfo& info : kCodecs) {
    if (!info.tiles) continue;
    candidates.push_back(
        {info.codec, CodecNoise(info.codec, head_dim), BitsPerValue(info.codec, head_dim)});
  }
  return candidates;
}

// Tokens of a layer that are in sealed pages when `context` tokens are in the cache.
int64_t SealedTokens(const RecommendRequest& request, int layer) {
  const int sliding = request.geometry.sliding_window[static_cast<size_t>(layer)];
  const int64_t held = sliding > 0 ? std::min<int64_t>(sliding, request.context) : request.context;
  const int open_pages =
      request.shape.window_pages(sliding) + (sliding > 0 ? 0 : request.shape.sink_pages) + 1;
  return std::max<int64_t>(held - int64_t{open_pages} * kPageTokens, 0);
}

// [L] Not those whose sliding window is over before a page would be compressed.
std::vector<bool> LayersThatSeal(const RecommendRequest& request) {
  const CachePolicy policy = UniformPolicy(request.geometry, request.shape, Codec::kTurbo3);
  std::vector<bool> seals;
  for (const Codec codec : KvCache::FinalKeyCodecs(request.geometry, policy))
    seals.push_back(codec != OpenCodec(codec));
  return seals;
}

class Recommender {
 public:
  Recommender(const RecommendRequest& request, const PolicyMeasures& measures)
      : request_(request),
        measures_(measures),
        candidates_(Candidates(request.geometry.head_dim)),
        probe_(PickProbe()) {}

  RecommendResult Run() {
    CheckMemory();
    MeasurePlaces();
    Trial best = Measured(Fit(kAim * request_.max_divergence / kUsualWidening));
    if (!GoodEnough(best)) {
      const Allocation next = Fit(SumLimit(best));
      if (next.choice != best.allocation.choice) {
        const Trial second = Measured(next);
        if (Better(second, best)) best = second;
      }
    }
    return Report(best);
  }

 private:
  struct Trial {
    Allocation allocation;
    CachePolicy policy;
    uint64_t bytes = 0;
    Estimate measured;
    double upper = 0;
  };

  Candidate PickProbe() const {
    const Candidate* best = nullptr;
    for (const Candidate& c : candidates_) {
      if (InfoOf(c.codec).bits == kProbeBits && (best == nullptr || c.noise < best->noise))
        best = &c;
    }
    TQ_CHECK(best != nullptr);
    return *best;
  }

  CachePolicy Uniform(Codec codec) const {
    return UniformPolicy(request_.geometry, request_.shape, codec);
  }
  uint64_t Bytes(const CachePolicy& policy) const {
    return KvCache::BytesForContext(request_.geometry, policy, request_.context);
  }
  Codec Cheapest() const {
    return std::ranges::min_element(candidates_, {}, &Candidate::bits)->codec;
  }

  void CheckMemory() const {
    if (request_.max_bytes == 0) return;
    const Codec cheapest = Cheapest();
    const uint64_t least = Bytes(Uniform(cheapest));
    if (least <= request_.max_bytes) return;
    Throw(ErrorCode::kOutOfMemory,
          "a context of {} tokens takes {:.1f} MiB with {} everywhere, the cheapest there is, but "
          "the limit is {:.1f} MiB: raise it or take a smaller context",
          request_.context, static_cast<double>(least) / (1 << 20), InfoOf(cheapest).name,
          static_cast<double>(request_.max_bytes) / (1 << 20));
  }

  void MeasurePlaces() {
    const std::vector<bool> seals = LayersThatSeal(request_);
    for (int layer = 0; layer < request_.geometry.num_layers; ++layer) {
      for (const Side side : {Side::kKey, Side::kValue}) {
        CachePolicy policy = Uniform(kElsewhere);
        (side == Side::kKey ? policy.k : policy.v)[static_cast<size_t>(layer)] = probe_.codec;
        double sensitivity = 0;
        if (seals[static_cast<size_t>(layer)]) {
          ++runs_;
          sensitivity = std::max(measures_.place(policy).value, 0.0);
        }
        places_.push_back({layer, side, sensitivity});
        slots_.push_back(Options(places_.back()));
      }
    }
  }

  CacheSlot Options(const SideChoice& place) const {
    const double values = static_cast<double>(SealedTokens(request_, place.layer)) *
                          request_.geometry.kv_heads * request_.geometry.head_dim;
    CacheSlot slot;
    for (const Candidate& c : candidates_) {
      slot.push_back({c.codec, values * c.bits / 8,
                      place.sensitivity * Growth(c.noise) / Growth(probe_.noise)});
    }
    return slot;
  }

  CachePolicy PolicyOf(const Allocation& allocation) const {
    CachePolicy policy = Uniform(kElsewhere);
    for (size_t i = 0; i < places_.size(); ++i) {
      (places_[i].side == Side::kKey ? policy.k : policy.v)[static_cast<size_t>(places_[i].layer)] =
          slots_[i][allocation.choice[i]].codec;
    }
    return policy;
  }

  // An allocation whose single divergences sum to at most `sum` and whose real cache, with
  // everything that is not in sealed pages, fits the memory; as near as there is one.
  Allocation Fit(double sum) const {
    AllocationLimits limits;
    limits.divergence = sum;
    Allocation allocation = Allocate(slots_, limits);
    while (request_.max_bytes != 0) {
      const uint64_t bytes = Bytes(PolicyOf(allocation));
      if (bytes <= request_.max_bytes) break;
      limits.bytes = allocation.bytes - static_cast<double>(bytes - request_.max_bytes);
      const Allocation less = Allocate(slots_, limits);
      if (less.choice == allocation.choice) break;  // the cheapest, which fits: CheckMemory
      allocation = less;
    }
    return allocation;
  }

  Trial Measured(const Allocation& allocation) {
    Trial trial;
    trial.allocation = allocation;
    trial.policy = PolicyOf(allocation);
    trial.bytes = Bytes(trial.policy);
    ++runs_;
    trial.measured = measures_.policy(trial.policy);
    trial.upper = UpperLimit(trial.measured);
    return trial;
  }

  bool Within(const Trial& trial) const {
    return request_.max_divergence == 0 || trial.upper <= request_.max_divergence;
  }
  // Neither above the limit nor so far below it that bytes are wasted.
  bool GoodEnough(const Trial& trial) const {
    return request_.max_divergence == 0 ||
           (Within(trial) && trial.upper > kAim * kAim * request_.max_divergence);
  }
  // The sum of single divergences to aim at, given the upper limit that a trial's sum came to.
  double SumLimit(const Trial& trial) const {
    if (trial.upper <= 0) return 0;
    return kAim * request_.max_divergence * trial.allocation.divergence / trial.upper;
  }

  bool Better(const Trial& a, const Trial& b) const {
    if (Within(a) != Within(b)) return Within(a);
    return Within(a) ? a.bytes < b.bytes : a.upper < b.upper;
  }

  RecommendResult Report(const Trial& best) {
    RecommendResult result;
    result.policy = best.policy;
    result.probe = probe_.codec;
    result.places = places_;
    // Several places together lose more or less than the sum of each alone.
    const double interaction = best.allocation.divergence > 0
                                   ? std::max(best.measured.value, 0.0) / best.allocation.divergence
                                   : 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      const CacheOption& option = slots_[i][best.allocation.choice[i]];
      result.places[i].codec = option.codec;
      result.places[i].divergence = interaction * option.divergence;
    }
    result.bytes = best.bytes;
    result.measured = best.measured;
    result.upper = best.upper;
    result.runs = runs_;
    result.within_divergence = Within(best);
    if (!result.within_divergence) {
      const double sum = SumLimit(best);
      const Allocation unlimited = Allocate(slots_, {.divergence = sum});
      if (unlimited.divergence <= sum) result.bytes_needed = Bytes(PolicyOf(unlimited));
    }
    return result;
  }

  const RecommendRequest& request_;
  const PolicyMeasures& measures_;
  std::vector<Candidate> candidates_;
  Candidate probe_;
  std::vector<SideChoice> places_;
  std::vector<CacheSlot> slots_;
  int runs_ = 0;
};

}  // namespace

double UpperLimit(const Estimate& divergence) {
  return kForeignText * (std::max(divergence.value, 0.0) + kOneSided95 * divergence.error);
}

int MostRuns(const RecommendRequest& request) {
  const std::vector<bool> seals = LayersThatSeal(request);
  return 2 * static_cast<int>(std::ranges::count(seals, true)) + 4;
}

CachePolicy UniformPolicy(const KvGeometry& geometry, const CachePolicy& shape, Codec codec) {
  CachePolicy policy = shape;
  policy.k.assign(static_cast<size_t>(geometry.num_layers), codec);
  policy.v = policy.k;
  return policy;
}

RecommendResult Recommend(const RecommendRequest& request, const PolicyMeasures& measures) {
  return Recommender(request, measures).Run();
}

}  // namespace tq::lab
