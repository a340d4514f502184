// SPDX-License-Identifier: Apache-2.0
// A chat of several turns over one session: feeds only what is new, makes room when the context is
// full, saves and loads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/generate_flags.h"
#include "turboquant/engine/generate.h"
#include "turboquant/engine/session.h"

namespace tq::app {

class Conversation {
 public:
  Conversation(std::shared_ptr<const Engine> engine, const SessionOptions& options,
               ChatTemplate chat, const SamplerSpec& sampler, int64_t keep, std::string system);

  // Adds a user's message and generates the reply. `notice` gets a line when old tokens had to go.
  GenerateResult Turn(std::string_view text, GenerateOptions options,
                      const std::function<bool(std::string_view)>& on_text,
                      const std::function<void(const std::string&)>& notice);

  void Clear();  // keeps the system message
  void Save(const std::filesystem::path& path) const;
  void Load(const std::filesystem::path& path);

  Session& session() { return session_; }
  const Timing& last_timing() const { return timing_; }
  const std::vector<ChatMessage>& messages() const { return messages_; }

 private:
  std::span<const float> Feed(const std::vector<TokenId>& tokens,
                              const std::function<void(const std::string&)>& notice);
  std::span<const float> MakeRoom(int64_t tokens,
                                  const std::function<void(const std::string&)>& notice);
  int64_t context() const;

  std::shared_ptr<const Engine> engine_;
  Session session_;
  ChatTemplate chat_;
  SamplerSpec sampler_spec_;
  Sampler sampler_;
  int64_t keep_;
  std::vector<ChatMessage> messages_;
  std::string fed_;  // the text whose tokens went into the session, special tokens written out
  Timing timing_;
};

}  // namespace tq::app
