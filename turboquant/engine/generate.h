// SPDX-License-Identifier: Apache-2.0
// The generation loop: sample, append, stream text, stop.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/engine/sampler.h"
#include "turboquant/engine/session.h"

namespace tq {

struct GenerateOptions {
  int64_t max_tokens = -1;                // -1: until a stop or the context is full
  std::vector<std::string> stop_strings;  // never part of the text delivered
  bool ignore_eos = false;
  bool show_special = false;
};

enum class StopReason { kEndOfGeneration, kMaxTokens, kStopString, kContextFull, kCancelled };

struct GenerateResult {
  StopReason reason;
  std::string text;             // what on_text got
  std::vector<TokenId> tokens;  // all that were chosen; the last one is not in the session
  double decode_seconds = 0;    // of tokens.size() - 1 decode steps
};

// Continues from `logits` (those of the session's last token). on_text gets whole UTF-8 characters
// as they are certain, after every token (none may be: then an empty text); it returns false to
// cancel (Ctrl-C).
GenerateResult Generate(Session& session, Sampler& sampler, std::span<const float> logits,
                        const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text = {});

}  // namespace tq
