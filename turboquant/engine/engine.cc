// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/engine.h"

#include "turboquant/base/hash.h"
#include "turboquant/engine/memory_need.h"
#include "turboquant/model/synthetic.h"

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

std::shared_ptr<const Engine> Engine::Synthetic(std::string_view name,
                                                const BackendOptions& backend) {
  std::shared_ptr<Engine> engine(new Engine);
  engine->spec_ = SyntheticModelSpec(name);
  engine->backend_ = MakeBackend(backend);
  const std::optional<uint64_t> device = engine->backend_->FreeMemory();
  const uint64_t available = device ? *device : AvailableMemory();
  const uint64_t need = SyntheticWeightBytes(engine->spec_);
  if (need > available) {
    Throw(ErrorCode::kOutOfMemory,
          "the synthetic model {} needs {:.1f} GiB for weights, but {} {:.1f} GiB; these are: {}",
          name, static_cast<double>(need) / (1 << 30), device ? "the GPU has" : "this machine has",
          static_cast<double>(available) / (1 << 30), SyntheticModelNames());
  }
  engine->weights_ = MakeSyntheticWeights(engine->spec_, *engine->backend_);
  engine->model_id_ = Hash64(std::as_bytes(std::span(name)));
  engine->file_bytes_ = engine->weights_.bytes();
  return engine;
}

}  // namespace tq
