// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/session.h"

#include <algorithm>
#include <optional>

#include "turboquant/engine/memory_need.h"
#include "turboquant/kv/session_file.h"
#include "turboquant/model/decoder.h"

namespace tq {
namespace {

constexpr uint64_t kMostAddresses = uint64_t{1} << 40;  // what page ids can name

// Keeps the last row of logits.
class LastRow final : public LogitsSink {
 public:
  explicit LastRow(std::vector<float>& out) : out_(out) {}
  void Rows(int, int, MatrixView<const float> logits) override {
    const float* row = logits.row(logits.rows - 1);
    out_.assign(row, row + logits.cols);
  }
  void Largest(int, int, std::span<const int32_t> indices) override { largest = indices.back(); }

  TokenId largest = -1;

 private:
  std::vector<float>& out_;
};

void CheckPolicy(const ModelSpec& spec, const CachePolicy& policy) {
  const auto layers = static_cast<size_t>(spec.num_layers);
  if (policy.k.size() != layers || policy.v.size() != layers) {
    Throw(ErrorCode::kInvalidArgument,
          "the cache policy names codecs for {} and {} layers, but the model has {}",
          policy.k.size(), policy.v.size(), layers);
  }
}

std::unique_ptr<KvCache> MakeCache(const Engine& engine, const SessionOptions& options) {
  const KvGeometry geometry = engine.spec().kv_geometry();
  engine.backend().CheckCache(geometry, options.cache, engine.spec().q_heads);
  const std::optional<uint64_t> device = engine.backend().FreeMemory();
  const uint64_t available = device ? *device : AvailableMemory();
  CheckContextFits(geometry, options.cache, options.context, options.chunk,
                   options.cache_budget_bytes != 0
                       ? MemoryLimit{options.cache_budget_bytes, "the cache budget is"}
                       : MemoryLimit{available, device ? "the GPU has" : "this machine has"});
  const uint64_t need =
      KvCache::BytesForContext(geometry, options.cache, options.context, options.chunk);
  const uint64_t budget =
      options.cache_budget_bytes != 0 ? options.cache_budget_bytes : std::max(need, available);
  auto memory = engine.backend().MakeArenaMemory(std::min(2 * budget, kMostAddresses));
  return std::make_unique<KvCache>(geometry, options.cache, std::move(memory),
                                   std::min(budget, kMostAddresses));
}

SessionOptions Resolve(const Engine& engine, SessionOptions options) {
  CheckPolicy(engine.spec(), options.cache);
  if (options.context == 0) options.context = engine.spec().context;
  if (options.context < 0)
    Throw(ErrorCode::kInvalidArgument, "a context of {} tokens", options.context);
  if (options.chunk < 1)
    Throw(ErrorCode::kInvalidArgument, "prefill in steps of {} tokens: give at least 1",
          options.chunk);
  options.chunk = static_cast<int>(std::min<int64_t>(options.chunk, options.context));
  if (!UsesCalibration(options.cache)) options.calibration = nullptr;
  if (options.calibration != nullptr) {
    CheckCalibrationBelongs(*options.calibration, engine.model_id(), engine.spec().kv_geometry());
  }
  if (options.cache_watch.on) {
    if (!engine.backend().name().starts_with("cpu")) {
      Throw(ErrorCode::kUnsupported, "the cache is watched on the CPU only, not on {}",
            engine.backend().name());
    }
    if (options.cache_watch.every < 1)
      Throw(ErrorCode::kInvalidArgument, "a watch every {} steps: give at least 1",
            options.cache_watch.every);
    options.chunk =
        std::min(options.chunk, std::max(CacheWatch::MostTokensPerStep(options.cache), 1));
  }
  return options;
}

}  // namespace

struct Session::State {
  State(std::shared_ptr<const Engine> loaded, const SessionOptions& wanted)
      : engine(std::move(loaded)),
        options(Resolve(*engine, wanted)),
        cache(MakeCache(*engine, options)),
        key_maps(options.calibration == nullptr
                     ? nullptr
                     : std::make_unique<KeyMapSet>(
                           *options.calibration,
                           KvCache::FinalKeyCodecs(cache->geometry(), options.cache))),
        decoder(engine->spec(), engine->weights(), engine->backend(), KeyMaps()),
        main(cache->NewSequence()) {
    if (options.cache_watch.on)
      watch.emplace(engine->spec(), options.cache, KeyMaps(), options.context, options.cache_watch);
  }

  std::shared_ptr<const Engine> engine;
  SessionOptions options;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<const KeyMapSet> key_maps;  // null: none
  Decoder decoder;
  std::optional<CacheWatch> watch;
  SequenceId main;
  std::vector<TokenId> tokens;  // of `main`
  std::vector<float> logits;
  StepPlan step;  // kept for its memory

  uint64_t calibration_id() const {
    return options.calibration == nullptr ? 0 : options.calibration->id;
  }
  std::span<const KeyMap> KeyMaps() const {
    return key_maps == nullptr ? std::span<const KeyMap>() : key_maps->maps();
  }
  void CheckRoom(int64_t length, size_t more) const;
  void Forward(const StepPlan& plan);
  // largest_of as in StepPlan; returns what the sink heard of it.
  TokenId AppendChunks(std::span<const TokenId> more, bool want_logits,
                       const std::function<void(int64_t, int64_t)>& progress, int largest_of = 0);
};

void Session::State::CheckRoom(int64_t length, size_t more) const {
  const int64_t total = length + static_cast<int64_t>(more);
  if (total <= options.context) return;
  Throw(ErrorCode::kInvalidArgument,
        "the context is full: {} tokens and {} more are {}, but it holds {}", length, more, total,
        options.context);
}

void Session::State::Forward(const StepPlan& plan) {
  for (const SequenceSpan& span : plan.spans)
    CheckRoom(cache->Length(span.sequence), span.tokens.size());
  const auto own = std::ranges::find(plan.spans, main, &SequenceSpan::sequence);
  if (own != plan.spans.end()) tokens.reserve(tokens.size() + own->tokens.size());
  const int64_t before = cache->Length(main);
  const auto note = [&] {  // also when a sink gave up: the tokens are in the cache by then
    if (own != plan.spans.end() && cache->Length(main) > before)
      tokens.insert(tokens.end(), own->tokens.begin(), own->tokens.end());
  };
  try {
    decoder.Forward(plan, *cache);
  } catch (...) {
    note();
    throw;
  }
  note();
}

TokenId Session::State::AppendChunks(std::span<const TokenId> more, bool want_logits,
                                     const std::function<void(int64_t, int64_t)>& progress,
                                     int largest_of) {
  CheckRoom(cache->Length(main), more.size());
  cache->Reserve(main, static_cast<int64_t>(more.size()));
  LastRow last(logits);
  for (size_t done = 0; done < more.size();) {
    const size_t count = std::min<size_t>(more.size() - done, static_cast<size_t>(options.chunk));
    const bool wanted = want_logits && done + count == more.size();
    step.spans.assign(1, {.sequence = main,
                          .tokens = more.subspan(done, count),
                          .logits = wanted ? LogitsWanted::kLast : LogitsWanted::kNone});
    step.sink = &last;
    step.prefill = options.prefill;
    step.precision = options.precision;
    step.largest_of = largest_of;
    if (watch) step.observer = watch->BeforeStep(static_cast<int64_t>(count), wanted);
    Forward(step);
    if (watch) watch->AfterStep(*cache, main);
    done += count;
    if (progress) progress(static_cast<int64_t>(done), static_cast<int64_t>(more.size()));
  }
  return last.largest;
}

CachePolicy MakePolicy(const Engine& engine, std::string_view type_k, std::string_view type_v) {
  CachePolicy policy;
  policy.k = ParseCodecList(type_k, engine.spec().num_layers, kDefaultKeyCodec);
  policy.v = ParseCodecList(type_v, engine.spec().num_layers, kDefaultValueCodec);
  return policy;
}

Session::Session(std::shared_ptr<const Engine> engine, const SessionOptions& options)
    : state_(std::make_unique<State>(std::move(engine), options)) {}
Session::~Session() = default;

const Engine& Session::engine() const { return *state_->engine; }
const SessionOptions& Session::options() const { return state_->options; }
KvCache& Session::cache() { return *state_->cache; }
const CacheWatch* Session::cache_watch() const { return state_->watch ? &*state_->watch : nullptr; }
const std::vector<TokenId>& Session::tokens() const { return state_->tokens; }
int64_t Session::length() const { return static_cast<int64_t>(state_->tokens.size()); }
SequenceId Session::main_sequence() const { return state_->main; }

std::span<const float> Session::Append(std::span<const TokenId> tokens,
                                       const std::function<void(int64_t, int64_t)>& progress) {
  if (tokens.empty()) Throw(ErrorCode::kInvalidArgument, "there are no tokens to append");
  state_->AppendChunks(tokens, true, progress);
  return state_->logits;
}

TokenId Session::AppendGreedy(std::span<const TokenId> tokens, int vocabulary) {
  if (tokens.empty() || vocabulary < 1)
    Throw(ErrorCode::kInvalidArgument, "{} tokens to append, {} to choose from", tokens.size(),
          vocabulary);
  return state_->AppendChunks(tokens, true, {}, vocabulary);
}

void Session::Forward(const StepPlan& plan) { state_->Forward(plan); }

void Session::Truncate(int64_t length) {
  State& s = *state_;
  if (length < 0 || length > this->length()) {
    Throw(ErrorCode::kInvalidArgument, "cannot shorten {} tokens to {}", this->length(), length);
  }
  const int64_t kept = s.cache->Truncate(s.main, length);
  const std::vector<TokenId> again(s.tokens.begin() + kept, s.tokens.begin() + length);
  s.tokens.resize(static_cast<size_t>(kept));
  if (s.watch) s.watch->Truncate(kept);
  s.AppendChunks(again, false, {});
}

void Session::Clear() {
  State& s = *state_;
  s.cache->Truncate(s.main, 0);
  if (s.watch) s.watch->Truncate(0);
  s.tokens.clear();
}

void Session::Save(const std::filesystem::path& path, std::span<const std::byte> extra) const {
  const State& s = *state_;
  SessionFile::Save(path, *s.cache, s.main,
                    {.model_id = s.engine->model_id(),
                     .calibration_id = s.calibration_id(),
                     .tokens = s.tokens,
                     .extra = {extra.begin(), extra.end()}});
}

std::vector<std::byte> Session::Restore(const std::filesystem::path& path) {
  State& s = *state_;
  SessionFile::Loaded loaded =
      SessionFile::Load(path, *s.cache, s.engine->model_id(), s.calibration_id());
  if (static_cast<int64_t>(loaded.tokens.size()) > s.options.context) {
    s.cache->FreeSequence(loaded.sequence);
    Throw(ErrorCode::kInvalidArgument,
          "session file {}: it holds {} tokens, but the context is {}: use a larger context",
          path.string(), loaded.tokens.size(), s.options.context);
  }
  s.cache->FreeSequence(s.main);
  s.main = loaded.sequence;
  if (s.watch) s.watch->Truncate(0);
  s.tokens = std::move(loaded.tokens);
  return std::move(loaded.extra);
}

}  // namespace tq
