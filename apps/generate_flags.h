// SPDX-License-Identifier: Apache-2.0
// What `run` and `chat` share: length, stops, template, and the figures printed at the end.
#pragma once

#include <string>
#include <vector>

#include "apps/common_flags.h"
#include "apps/text_input.h"
#include "turboquant/engine/generate.h"

namespace tq::app {

struct GenerateFlags {
  int64_t predict = -1;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  bool show_special = false;
  std::string system;
  std::string system_file;
  std::string chat_template;
  int64_t keep = 0;
  bool jinja = false;
};

// All that `run` and `chat` have in common.
struct ReplyFlags {
  ModelFlags model;
  TextFlags text;
  GenerateFlags generate;
  CacheFlags cache;
  StepFlags step;
  SamplerSpec sampler;
  int64_t seed = -1;
};
void AddReplyFlags(Command command, ReplyFlags& flags);

GenerateOptions MakeGenerateOptions(const GenerateFlags& flags);

// The template named by --chat-template or the model's. Throws kUnsupported saying why there is
// none.
ChatTemplate ResolveChatTemplate(const Engine& engine, const GenerateFlags& flags);

// The system prompt from -sys or its file; UTF-8 checked.
std::string ReadSystemPrompt(const GenerateFlags& flags);

struct Timing {
  int64_t prompt_tokens = 0;
  double prompt_seconds = 0;
  int64_t generated_tokens = 0;
  double decode_seconds = 0;
};
// One line on stderr, with what the cache holds and takes.
void PrintTiming(const Timing& timing, Session& session);

const char* StopReasonText(StopReason reason);

}  // namespace tq::app
