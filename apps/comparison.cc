// SPDX-License-Identifier: Apache-2.0
#include "apps/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "apps/auto_policy.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "lab/compare.h"
#include "lab/simulation/apply_ideas.h"
#include "lab/simulation/simulated_attention.h"
#include "turboquant/base/hash.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

bool SameCodecs(const ComparisonRow& a, const ComparisonRow& b) {
  return a.policy.k == b.policy.k && a.policy.v == b.policy.v && a.policy.ages == b.policy.ages;
}

bool AllOf(const std::vector<Codec>& codecs, Codec codec) {
  return std::all_of(codecs.begin(), codecs.end(), [&](Codec c) { return c == codec; });
}

bool AnyTiles(const std::vector<Codec>& codecs) {
  return std::any_of(codecs.begin(), codecs.end(), [](Codec c) { return InfoOf(c).tiles; });
}

std::string TextOf(const ComparisonFlags& flags) {
  if (!HasText(flags.text))
    Throw(ErrorCode::kInvalidArgument, "give the text to compare on with -f FILE");
  return ReadText(flags.text);
}

ModelAndText LoadFor(const ComparisonFlags& flags) {
  if (flags.step.context <= 0)
    Throw(ErrorCode::kInvalidArgument, "-c: give the tokens of a window, 4 or more");
  const std::string text = TextOf(flags);
  return Tokenised(LoadEngine(flags.model), text);
}

// Codes and scales alone: what a cache without reference vectors takes.
double BitsOfCodes(const CachePolicy& policy, int head_dim) {
  double bits = 0;
  for (const Codec codec : policy.k) bits += BitsPerValue(codec, head_dim);
  for (const Codec codec : policy.v) bits += BitsPerValue(codec, head_dim);
  return bits / static_cast<double>(policy.k.size() + policy.v.size());
}

}  // namespace

void AddComparisonFlags(Command command, ComparisonFlags& flags) {
  flags.step.context = 2048;
  AddModelFlags(command, flags.model);
  AddTextFlags(command, flags.text);
  AddCacheShapeFlags(command, flags.cache);
  AddCacheAgeFlag(command, flags.cache);
  AddStepFlags(command, flags.step, StepUse::kMeasure);
  command.AddOption("--chunks", flags.chunks, "Windows to score at most (0: all)").ShowDefault();
  command.AddOption("-o,--output", flags.output,
                    "File of results as they come; if it is there, go on where it ends");
  command.AddFlag("--no-floor", flags.no_floor,
                  "Leave away the f32 row that shows what can be told from rounding");
  command.AddFlag("--json", flags.json, "Print JSON");
  command.AddOption("--svg", flags.svg, "File for a plot");
}

ModelAndText Tokenised(std::shared_ptr<const Engine> engine, const std::string& text) {
  std::vector<TokenId> tokens = engine->tokenizer().Encode(text, true, false);
  return {std::move(engine), std::move(tokens), TextHash(text)};
}

std::string TextHash(const std::string& text) {
  return HexString(Hash64(std::as_bytes(std::span(text))));
}

ComparedCaches::ComparedCaches(std::shared_ptr<const Engine> engine, const ComparisonFlags& flags,
                               const std::vector<CompareType>& types)
    : flags_(flags), engine_(std::move(engine)) {
  reference_ = MakeRow({.k = flags_.reference, .v = flags_.reference});
  for (const CompareType& type : types) {
    ComparisonRow row = MakeRow(type);
    if (SameCodecs(row, reference_) && type.ideas.empty()) continue;
    if (!flags_.leave_out || Runs(row)) rows_.push_back(std::move(row));
  }
  const bool f16 =
      AllOf(reference_.policy.k, Codec::kF16) && AllOf(reference_.policy.v, Codec::kF16);
  if (f16 && !flags_.no_floor && floor() == nullptr) {
    ComparisonRow row = MakeRow({.k = "f32", .v = "f32"});
    if (Runs(row)) rows_.insert(rows_.begin(), std::move(row));
  }
  for (const ComparisonRow& row : rows_) {
    if (calibration_ == nullptr && !row.type.no_calibration)
      calibration_ = CalibrationFor(*engine_, flags_.cache.calibration, row.policy);
  }
}

bool ComparedCaches::Runs(const ComparisonRow& row) const {
  try {
    if (!row.policy.ages.empty() && row.policy.ages.front().age >= flags_.step.context) {
      Throw(ErrorCode::kUnsupported, "no token of {} is {} old", flags_.step.context,
            row.policy.ages.front().age);
    }
    if (row.type.IsSimulated()) lab::SimulateCache(engine_->spec(), row.policy);  // or it throws
    engine_->backend().CheckCache(engine_->spec().kv_geometry(), HeldPolicy(row),
                                  engine_->spec().q_heads);
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    fmt::print(stderr, "left out {}: {}\n", row.type.Name(), error.what());
    return false;
  }
}

// What the session of a simulated row holds is not read.
CachePolicy ComparedCaches::HeldPolicy(const ComparisonRow& row) {
  CachePolicy policy = row.policy;
  if (!row.type.IsSimulated()) return policy;
  std::ranges::fill(policy.k, Codec::kF16);
  std::ranges::fill(policy.v, Codec::kF16);
  return policy;
}

std::shared_ptr<const Calibration> ComparedCaches::CalibrationOf(const ComparisonRow& row) const {
  return row.type.no_calibration || !UsesCalibration(row.policy) ? nullptr : calibration_;
}

const ComparisonRow* ComparedCaches::Find(const CompareType& asked) const {
  const auto found = std::ranges::find(rows_, asked, &ComparisonRow::asked);
  return found == rows_.end() ? nullptr : &*found;
}

const ComparisonRow* ComparedCaches::floor() const {
  const auto found = std::find_if(rows_.begin(), rows_.end(), [](const ComparisonRow& row) {
    return AllOf(row.policy.k, Codec::kF32) && AllOf(row.policy.v, Codec::kF32) &&
           row.type.ideas.empty();
  });
  return found == rows_.end() ? nullptr : &*found;
}

CacheFlags ComparedCaches::CacheShape() const {
  CacheFlags cache = flags_.cache;
  cache.ages.clear();
  return cache;
}

ComparisonRow ComparedCaches::MakeRow(const CompareType& type) const {
  CacheFlags cache = flags_.cache;
  cache.type_k = type.k;
  cache.type_v = type.v;
  cache.window = type.window.value_or(cache.window);
  cache.sinks = type.sinks.value_or(cache.sinks);
  cache.no_centring = cache.no_centring || type.no_centring;
  ComparisonRow row;
  row.asked = type;
  if (type.k == kAutomaticCache && type.v == kAutomaticCache) cache.automatic = kAutomaticCache;
  cache.ages = type.ages;
  row.policy = MakeCachePolicy(*engine_, cache, flags_.step.context);
  if (type.ages.empty() && !flags_.cache.ages.empty()) {
    row.policy.ages = ParseAgeSteps(flags_.cache.ages);
    if (!Ages(row.policy)) row.policy.ages.clear();
  }
  row.type = type;
  row.type.ages = AgeStepsText(row.policy.ages);
  if (!row.policy.ages.empty() && row.type.IsSimulated())
    Throw(ErrorCode::kInvalidArgument, "--types \"{}\": ages are not simulated", type.Name());
  if (cache.automatic.empty()) {
    row.type.k = CodecListText(row.policy.k);
    row.type.v = CodecListText(row.policy.v);
  }
  row.type.no_centring = cache.no_centring && AnyTiles(row.policy.k);
  if (const std::string reason = lab::WhyNot(type.ideas, row.policy); !reason.empty())
    Throw(ErrorCode::kInvalidArgument, "--types \"{}\": {}", type.Name(), reason);
  const KvGeometry geometry = engine_->spec().kv_geometry();
  row.bits_per_value = row.type.no_centring
                           ? BitsOfCodes(row.policy, engine_->spec().head_dim)
                           : PolicyBitsPerValue(geometry, row.policy, flags_.step.context);
  row.bits_per_value += lab::ExtraBitsPerValue(type.ideas, geometry.head_dim);
  row.bytes_per_token =
      static_cast<double>(KvCache::BytesPerToken(geometry, row.policy, flags_.step.context));
  return row;
}

lab::SimulatedCache ComparedCaches::Simulated(const ComparisonRow& row) {
  const ModelSpec& spec = engine_->spec();
  lab::KeyMapsOfLayer maps;
  if (const auto calibration = CalibrationOf(row)) {
    simulated_maps_.push_back(std::make_unique<KeyMapSet>(
        *calibration, KvCache::FinalKeyCodecs(spec.kv_geometry(), row.policy)));
    maps = [&spec, set = simulated_maps_.back().get()](int layer) {
      return &set->maps()[static_cast<size_t>(layer * spec.kv_heads)];
    };
  }
  lab::SimulatedCache cache = lab::SimulateCache(spec, row.policy, maps);
  if (row.type.tokens) {
    cache.whole_pages = false;
    cache.sinks = row.type.sinks.value_or(flags_.cache.sinks);
  }
  lab::ApplyIdeas(row.type.ideas, row.policy, spec.head_dim, cache);
  return cache;
}

std::unique_ptr<lab::SessionLogits> ComparedCaches::MakeSource(const ComparisonRow& row) {
  SessionOptions options =
      MakeSessionOptions(*engine_, CacheShape(), flags_.step, StepUse::kMeasure);
  options.cache = HeldPolicy(row);
  options.chunk = row.type.pass.value_or(options.chunk);
  if (!row.type.IsSimulated()) {
    options.calibration = CalibrationOf(row);
    return std::make_unique<lab::SessionLogits>(engine_, options);
  }
  return std::make_unique<lab::SessionLogits>(
      engine_, options,
      std::make_unique<lab::SimulatedAttention>(engine_->spec(), Simulated(row),
                                                engine_->backend().threads()));
}

std::string ComparedCaches::KeyOf(const ComparisonRow& row) const {
  CompareType type = row.type;
  type.window = row.policy.window;
  type.sinks = type.sinks.value_or(flags_.cache.sinks);
  type.simulated = type.IsSimulated();
  return type.Name();
}

lab::ResultFacts ComparedCaches::Facts() const {
  const SessionOptions options =
      MakeSessionOptions(*engine_, CacheShape(), flags_.step, StepUse::kMeasure);
  return {{"build", kBuildCommit},
          {"model", engine_->spec().name},
          {"model_id", HexString(engine_->model_id())},
          {"reference", reference_.type.Name()},
          {"calibration", calibration_id() == 0 ? "none" : HexString(calibration_id())},
          {"products", options.precision == Precision::kPrecise ? "f32" : "fast"},
          {"prefill", options.prefill == PrefillMode::kExact ? "exact" : "fast"}};
}

Comparison::Comparison(const ComparisonFlags& flags, const std::vector<CompareType>& types)
    : Comparison(LoadFor(flags), flags, types) {}

Comparison::Comparison(const ModelAndText& loaded, const ComparisonFlags& flags,
                       const std::vector<CompareType>& types)
    : Comparison(loaded,
                 lab::MakeWindows(loaded.tokens, loaded.engine->tokenizer().special(),
                                  static_cast<int>(flags.step.context), flags.chunks, 1),
                 flags, types) {}

// Windows are made first: a text that is too short is refused before anything takes time.
Comparison::Comparison(const ModelAndText& loaded, lab::TextWindows windows,
                       const ComparisonFlags& flags, const std::vector<CompareType>& types)
    : ComparedCaches(loaded.engine, flags, types),
      text_hash_(loaded.text_hash),
      windows_(std::move(windows)) {}

void Comparison::Score() {
  const auto positions = static_cast<size_t>(windows_.scored());
  std::optional<lab::CompareFile> file;
  if (!flags().output.empty()) {
    lab::ResultFacts facts = Facts();
    facts.emplace_back("text_hash", text_hash_);
    facts.emplace_back("context", fmt::format("{}", windows_.context));
    file.emplace(flags().output, facts, positions);
  }

  const ThreadPool pool(engine()->backend().threads());
  const std::unique_ptr<lab::SessionLogits> reference = MakeSource(ComparedCaches::reference());
  std::vector<std::unique_ptr<lab::SessionLogits>> sources(rows().size());
  Progress bar(fmt::format("comparing {} cache types", rows().size()), Progress::Unit::kTokens);
  const auto total =
      static_cast<uint64_t>(windows_.count) * static_cast<uint64_t>(windows_.context);
  for (int w = 0; w < windows_.count && complete_; ++w) {
    std::vector<size_t> missing;
    for (size_t i = 0; i < rows().size(); ++i) {
      const lab::DivergenceScores* known = file ? file->Find(KeyOf(rows()[i]), w) : nullptr;
      known != nullptr ? rows()[i].scores.Append(*known) : missing.push_back(i);
    }
    if (missing.empty()) continue;
    std::vector<lab::LogitsSource*> candidates;
    for (const size_t i : missing) {
      if (sources[i] == nullptr) sources[i] = MakeSource(rows()[i]);
      candidates.push_back(sources[i].get());
    }
    lab::CompareOptions options;
    options.batch = std::min(flags().step.batch, flags().step.ubatch);
    options.on_progress = [&](int done) {
      bar.Update(static_cast<uint64_t>(w) * static_cast<uint64_t>(windows_.context) +
                     static_cast<uint64_t>(done),
                 total);
      return !Interrupted();
    };
    std::vector<lab::DivergenceScores> scores(missing.size());
    complete_ = lab::CompareWindow(*reference, candidates, windows_, w, pool, options, scores);
    for (size_t i = 0; i < missing.size(); ++i) {
      ComparisonRow& row = rows()[missing[i]];
      if (complete_ && file) file->Add(KeyOf(row), w, scores[i]);
      row.scores.Append(scores[i]);
    }
  }
  if (complete_) bar.Done();
  size_t least = rows().empty() ? 0 : rows()[0].scores.size();  // what the file knew may be more
  for (const ComparisonRow& row : rows()) least = std::min(least, row.scores.size());
  for (ComparisonRow& row : rows()) row.scores.Resize(least);
}

}  // namespace tq::app
