// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "turboquant/base/error.h"

namespace tq {
namespace {

constexpr uint32_t kStateTag = 0x31535154;  // "TQS1"

struct StateHeader {  // the recent tokens follow
  uint32_t tag = kStateTag;
  uint32_t count = 0;
  uint64_t random = 0;
};

void CheckSpec(const SamplerSpec& spec) {
  const auto require = [](bool good, std::string_view what, float value) {
    if (!good) Throw(ErrorCode::kInvalidArgument, "{} cannot be {}", what, value);
  };
  require(std::isfinite(spec.temperature), "the temperature", spec.temperature);
  require(!std::isnan(spec.top_p), "top-p", spec.top_p);
  require(!std::isnan(spec.min_p), "min-p", spec.min_p);
  require(std::isfinite(spec.repeat_penalty) && spec.repeat_penalty > 0, "the repeat penalty",
          spec.repeat_penalty);
  require(std::isfinite(spec.presence_penalty), "the presence penalty", spec.presence_penalty);
  require(std::isfinite(spec.frequency_penalty), "the frequency penalty", spec.frequency_penalty);
  for (const auto& [token, bias] : spec.logit_bias)
    require(!std::isnan(bias), fmt::format("the logit bias of token {}", token), bias);
}

bool Penalises(const SamplerSpec& spec) {
  return spec.repeat_penalty != 1 || spec.presence_penalty != 0 || spec.frequency_penalty != 0;
}

// exp((logit - largest) / temperature), also for infinite logits.
double Weight(float logit, float largest, float temperature) {
  return logit == largest ? 1.0 : std::exp((logit - largest) / temperature);
}

}  // namespace

Sampler::Sampler(const SamplerSpec& spec) : spec_(spec), random_(spec.seed) { CheckSpec(spec); }

void ThrowNoToken(size_t logits) {
  Throw(ErrorCode::kCorruptFile,
        "no token can be chosen: of {} logits none is a number above -infinity (damaged weights, "
        "or a logit bias that forbids every token)",
        logits);
}

bool Sampler::TakesLargest() const {
  return spec_.temperature <= 0 && spec_.logit_bias.empty() && !Penalises(spec_);
}

// Logits with bias and penalties; the same span if there are none.
std::span<const float> Sampler::Adjusted(std::span<const float> logits) {
  const bool penalties = Penalises(spec_) && !occurred_.empty();
  if (spec_.logit_bias.empty() && !penalties) return logits;
  const auto size = static_cast<TokenId>(logits.size());
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : spec_.logit_bias) {
    if (token < 0 || token >= size) {
      Throw(ErrorCode::kInvalidArgument,
            "the logit bias names token {}, but the vocabulary has {} tokens", token, size);
    }
    adjusted_[static_cast<size_t>(token)] += bias;
  }
  if (!penalties) return adjusted_;
  for (const auto& [token, count] : occurred_) {
    if (token < 0 || token >= size) continue;
    float& logit = adjusted_[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / spec_.repeat_penalty : logit * spec_.repeat_penalty;
    logit -= spec_.presence_penalty + static_cast<float>(count) * spec_.frequency_penalty;
  }
  return adjusted_;
}

// Top-p and min-p on the candidates: both keep the first so many of them in falling order, so what
// is left is the shorter list, largest first. Only as much is sorted as is kept.
void Sampler::KeepLikely() {
  const bool use_top_p = spec_.top_p < 1;
  if (!use_top_p && spec_.min_p <= 0) return;
  const float largest = std::ranges::min_element(candidates_, Before)->logit;
  double mass = 0;  // of all that top-k left
  if (use_top_p) {
    for (const Candidate& c : candidates_) mass += Weight(c.logit, largest, 1);
  }
  if (spec_.min_p > 0) {
    const float least = largest + std::log(std::min(spec_.min_p, 1.0f));
    std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < least; });
  }
  if (!use_top_p) return;
  double seen = 0;
  const auto begin = candidates_.begin();
  for (size_t sorted = 0, next = 64; sorted < candidates_.size(); next *= 4) {
    const size_t end = std::min(next, candidates_.size());
    std::partial_sort(begin + static_cast<ptrdiff_t>(sorted), begin + static_cast<ptrdiff_t>(end),
                      candidates_.end(), Before);
    for (; sorted < end; ++sorted) {
      seen += Weight(candidates_[sorted].logit, largest, 1);
      if (seen < static_cast<double>(spec_.top_p) * mass) continue;
      candidates_.resize(sorted + 1);
      return;
    }
  }
}

TokenId Sampler::Sample(std::span<const float> logits) {
  logits = Adjusted(logits);
  const bool greedy = spec_.temperature <= 0;
  TokenId token = greedy ? LargestLogit(logits) : -1;
  if (!greedy) {
    if (spec_.top_k > 0 && static_cast<size_t>(spec_.top_k) < logits.size())
      LargestLogits(logits, static_cast<size_t>(spec_.top_k), candidates_);
    else
      AllLogits(logits, candidates_);
  }
  if (greedy ? token < 0 : candidates_.empty()) ThrowNoToken(logits.size());
  if (greedy) return token;
  KeepLikely();
  const float largest = std::ranges::min_element(candidates_, Before)->logit;
  double mass = 0;
  for (const Candidate& c : candidates_) mass += Weight(c.logit, largest, spec_.temperature);
  double left = random_.Uniform() * mass;
  for (const Candidate& c : candidates_) {
    const double weight = Weight(c.logit, largest, spec_.temperature);
    if (weight == 0) continue;
    token = c.id;
    if (left < weight) break;
    left -= weight;  // rounding may leave a little at the end: the last possible token has it
  }
  return token;
}

void Sampler::Accept(TokenId token) {
  if (spec_.penalty_last_n == 0) return;
  recent_.push_back(token);
  ++occurred_[token];
  while (spec_.penalty_last_n > 0 && recent_.size() > static_cast<size_t>(spec_.penalty_last_n)) {
    const auto oldest = occurred_.find(recent_.front());
    if (--oldest->second == 0) occurred_.erase(oldest);
    recent_.pop_front();
  }
}

std::vector<std::byte> Sampler::SaveState() const {
  std::vector<std::byte> state(sizeof(StateHeader) + recent_.size() * sizeof(TokenId));
  const StateHeader header{.count = static_cast<uint32_t>(recent_.size()),
                           .random = random_.state()};
  std::memcpy(state.data(), &header, sizeof header);
  for (size_t i = 0; i < recent_.size(); ++i)
    std::memcpy(state.data() + sizeof header + i * sizeof(TokenId), &recent_[i], sizeof(TokenId));
  return state;
}

void Sampler::RestoreState(std::span<const std::byte> state) {
  StateHeader header{.tag = 0};
  if (state.size() >= sizeof header) std::memcpy(&header, state.data(), sizeof header);
  if (header.tag != kStateTag ||
      state.size() != sizeof header + size_t{header.count} * sizeof(TokenId)) {
    Throw(ErrorCode::kCorruptFile, "{} bytes that are no state of a sampler", state.size());
  }
  random_.set_state(header.random);
  recent_.clear();
  occurred_.clear();
  for (size_t at = sizeof header; at < state.size(); at += sizeof(TokenId)) {
    TokenId token;
    std::memcpy(&token, state.data() + at, sizeof token);
    Accept(token);
  }
}

}  // namespace tq
