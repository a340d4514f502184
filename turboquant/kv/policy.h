// SPDX-License-Identifier: Apache-2.0
// Which codec for which layer, side and age: a small value with a text form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "turboquant/codec/codec.h"
#include "turboquant/codec/page_layout.h"

namespace tq {

// What a cache is unless asked for otherwise.
inline constexpr Codec kDefaultKeyCodec = Codec::kTurbo4Tcq;
inline constexpr Codec kDefaultValueCodec = Codec::kTurbo3Tcq;

// "turbo4" or "turbo4:0-27,q8_0:28,30-35" (TYPE:LAYERS[,LAYERS]...; layers not named take
// `fallback`). Errors name the position in the text, the layer out of range, or the layer given
// twice.
std::vector<Codec> ParseCodecList(std::string_view text, int num_layers, Codec fallback);
// The shortest text that parses back to the same list.
std::string CodecListText(const std::vector<Codec>& codecs);

// Tokens at least `age` behind the newest one (whole pages of them, as for the window) are held in
// these codecs: a side falls to its codec if it has fewer bits than what the side had, and never
// rises. Sides in rows stay as they are.
inline constexpr int kMostAge = 1 << 24;  // tokens

struct AgeStep {
  int age = 0;
  Codec k = Codec::kTurbo2Tcq;
  Codec v = Codec::kTurbo2Tcq;

  int window_pages() const { return (age + kPageTokens - 1) / kPageTokens; }
  bool operator==(const AgeStep&) const = default;
};

// "4096:turbo3_tcq,16384:turbo3_tcq/turbo2_tcq" (AGE:TYPE or AGE:TYPE_K/TYPE_V, from young to old).
// Ages rise by whole pages, bits fall. Errors name the position in the text.
std::vector<AgeStep> ParseAgeSteps(std::string_view text);
// The text that parses back to the same steps.
std::string AgeStepsText(const std::vector<AgeStep>& steps);

// A sliding window holds the same few tokens at any context and all of them are recent: what its
// layers keep at 8 bits is the policy's window times this. Gemma 3 (windows of 512) with 1, 2 and
// 4: KLD .0058, .0037, .0015 and 36, 36, 34 MB of cache at 32K (docs/quality.md).
inline constexpr int kSlidingWindowFactor = 4;

struct CachePolicy {
  std::vector<Codec> k;            // [L] codec of keys behind the window
  std::vector<Codec> v;            // [L]
  int window = 128;                // newest tokens kept at 8 bits; rounded up to whole pages
  int sink_pages = 1;              // leading pages kept at 8 bits
  int rollback = 64;               // tokens for which a published page keeps its 8-bit form
  bool centring = true;            // page reference vectors; off only to measure what they bring
  std::vector<AgeStep> ages = {};  // fewer bits for older tokens; at most kMaxAges (kv_view.h)

  int window_pages() const { return (window + kPageTokens - 1) / kPageTokens; }
  // Of a layer; sliding_window 0: it sees everything.
  int window_pages(int sliding_window) const {
    return window_pages() * (sliding_window == 0 ? 1 : kSlidingWindowFactor);
  }
  bool operator==(const CachePolicy&) const = default;
};

// The codec in which tokens of a final codec enter: turbo8 for tiles, itself for rows.
Codec OpenCodec(Codec final_codec);

// What a side in `codec` is held in after an age step to `aged`.
Codec AgedCodec(Codec codec, Codec aged);
// Does any side of any layer fall to fewer bits?
bool Ages(const CachePolicy& policy);

}  // namespace tq
