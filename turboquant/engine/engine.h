// SPDX-License-Identifier: Apache-2.0
// A loaded model: immutable, shared by sessions.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "turboquant/backend/backend.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/model/weights.h"
#include "turboquant/text/chat_template.h"
#include "turboquant/text/tokenizer.h"

namespace tq {

struct EngineOptions {
  std::filesystem::path model;
  BackendOptions backend;
  std::function<void(uint64_t done, uint64_t total)>
      progress;  // bytes of weights; may throw Error(kCancelled)
};

class Engine {
 public:
  // Throws kNotFound, kCorruptFile, kUnsupported, kOutOfMemory.
  static std::shared_ptr<const Engine> Load(const EngineOptions& options);
  // A model of a known shape with random weights (model/synthetic.h) and no tokenizer: for timing.
  // Throws kOutOfMemory if it does not fit, saying what there is.
  static std::shared_ptr<const Engine> Synthetic(std::string_view name,
                                                 const BackendOptions& backend);

  const ModelSpec& spec() const { return spec_; }
  const Tokenizer& tokenizer() const {
    TQ_CHECK(tokenizer_ != nullptr);  // a synthetic model has none
    return *tokenizer_;
  }
  // Null if the file has no template or an unknown one; why_no_chat_template() then says which.
  const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
  const std::string& why_no_chat_template() const { return why_no_chat_template_; }
  const Weights& weights() const { return weights_; }
  Backend& backend() const { return *backend_; }
  uint64_t model_id() const { return model_id_; }  // identity of the file, for session files
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  Engine() = default;
  ModelSpec spec_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::string why_no_chat_template_;
  std::unique_ptr<Backend> backend_;
  Weights weights_;
  uint64_t model_id_ = 0;
  uint64_t file_bytes_ = 0;
};

}  // namespace tq
