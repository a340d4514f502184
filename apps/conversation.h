// SPDX-License-Identifier: Apache-2.0
// A chat of several turns over one session: feeds only what is new, makes room when the context is
// full, saves and loads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
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
  // Ctrl-C while the message is read throws kCancelled; the conversation is as before then, as
  // after any other error.
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
  using Notice = std::function<void(const std::string&)>;
  std::vector<TokenId> Wanted(const std::string& rendered, size_t& newest) const;
  std::vector<TokenId> Fit(std::vector<TokenId> wanted, size_t newest, const Notice& notice) const;
  struct Held {
    std::span<const TokenId> computed;  // the end of what was wanted
    std::span<const float> logits;      // [V] after it
  };
  Held Hold(const std::vector<TokenId>& wanted);
  GenerateResult Reply(GenerateOptions options,
                       const std::function<bool(std::string_view)>& on_text, const Notice& notice);
  int64_t context() const;

  std::shared_ptr<const Engine> engine_;
  Session session_;
  ChatTemplate chat_;
  SamplerSpec sampler_spec_;
  Sampler sampler_;
  int64_t keep_;
  std::vector<ChatMessage> messages_;
  // The text whose tokens went into the session, special tokens written out; none if that is not
  // known any more.
  std::optional<std::string> fed_ = "";
  Timing timing_;
};

}  // namespace tq::app
