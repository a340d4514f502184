// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/engine.h"

namespace tq {

std::shared_ptr<const Engine> Engine::Load(const EngineOptions& options) {
  const GgufFile file = GgufFile::Open(options.model);
  std::shared_ptr<Engine> engine(new Engine);
  engine->spec_ = ReadModelSpec(file);
  engine->tokenizer_ = Tokenizer::FromGguf(file);
  if (engine->tokenizer_->size() > engine->spec_.vocabulary) {
    Throw(ErrorCode::kCorruptFile, "{}: {} tokens, but embeddings of {} only",
          options.model.string(), engine->tokenizer_->size(), engine->spec_.vocabulary);
  }
  try {
    engine->chat_template_ = ChatTemplate::FromGguf(file);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported && error.code() != ErrorCode::kNotFound) throw;
    engine->why_no_chat_template_ = error.what();
  }
  engine->backend_ = MakeBackend(options.backend);
  engine->weights_ = LoadWeights(file, engine->spec_, *engine->backend_, options.progress);
  engine->model_id_ = file.Identity();
  engine->file_bytes_ = file.total_bytes();
  return engine;
}

}  // namespace tq
