// SPDX-License-Identifier: Apache-2.0
// turboquant compare: what each cache type costs in quality and buys in memory and speed, on the
// user's model and text.
#include "lab/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/compare_types.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "apps/text_input.h"
#include "lab/bench.h"
#include "lab/session_logits.h"

namespace tq::app {
namespace {

constexpr int kErrorBlock = 64;  // positions: neighbours of a text are not independent samples

struct CompareFlags {
  ModelFlags model;
  CacheFlags cache;
  StepFlags step;
  TextFlags text;
  int chunks = 4;
  std::vector<std::string> types = {
      "f32,q8_0,turbo8,q4_0,turbo4_tcq,turbo4,turbo4_tcq/turbo3_tcq,turbo3_tcq,turbo3,turbo2_tcq,"
      "turbo2"};
  std::string reference = "f16";
  int depth = -1;  // -1: the context
  int decode = 32;
  bool no_speed = false;
  bool json = false;
};

struct Row {
  CacheTypePair types;
  CachePolicy policy;
  double bits_per_value = 0;
  double bytes_per_token = 0;
  double decode_rate = 0;                         // tok/s; 0: not measured
  const lab::DivergenceScores* scores = nullptr;  // null: the reference itself
};

class Comparison {
 public:
  explicit Comparison(const CompareFlags& flags) : flags_(flags) {}

  void Run() {
    if (!HasText(flags_.text))
      Throw(ErrorCode::kInvalidArgument, "give the text to compare on with -f FILE");
    if (flags_.step.context <= 0)
      Throw(ErrorCode::kInvalidArgument, "-c: give the tokens of a window, 4 or more");
    const std::string text = ReadText(flags_.text);
    const std::vector<CacheTypePair> types = ParseTypePairs(flags_.types);
    engine_ = LoadEngine(flags_.model);
    const lab::TextWindows windows = lab::MakeWindows(
        engine_->tokenizer().Encode(text, true, false), engine_->tokenizer().special(),
        static_cast<int>(flags_.step.context), flags_.chunks, 1);
    rows_.push_back(MakeRow({flags_.reference, flags_.reference}));
    for (const CacheTypePair& pair : types) {
      Row row = MakeRow(pair);
      if (row.policy.k != rows_[0].policy.k || row.policy.v != rows_[0].policy.v)
        rows_.push_back(std::move(row));
    }
    MeasureQuality(windows);
    if (result_.complete && !flags_.no_speed) MeasureSpeed(windows);
    flags_.json ? PrintJson(windows) : PrintTable(windows);
    if (!result_.complete)
      Throw(ErrorCode::kCancelled, "interrupted; the figures cover {} positions", Positions());
  }

 private:
  size_t Positions() const { return result_.scores.empty() ? 0 : result_.scores[0].size(); }

  Row MakeRow(const CacheTypePair& pair) const {
    CacheFlags cache = flags_.cache;
    cache.type_k = pair.k;
    cache.type_v = pair.v;
    Row row;
    row.policy = MakeCachePolicy(*engine_, cache);
    row.types = {CodecListText(row.policy.k), CodecListText(row.policy.v)};
    const KvGeometry geometry = engine_->spec().kv_geometry();
    row.bits_per_value = PolicyBitsPerValue(geometry, row.policy);
    row.bytes_per_token = static_cast<double>(KvCache::BytesPerToken(geometry, row.policy));
    return row;
  }

  void MeasureQuality(const lab::TextWindows& windows) {
    std::vector<std::unique_ptr<lab::SessionLogits>> sources;
    std::vector<lab::LogitsSource*> candidates;
    for (const Row& row : rows_) {
      SessionOptions options =
          MakeSessionOptions(*engine_, flags_.cache, flags_.step, StepUse::kMeasure);
      options.cache = row.policy;
      sources.push_back(std::make_unique<lab::SessionLogits>(engine_, options));
      if (sources.size() > 1) candidates.push_back(sources.back().get());
    }
    Progress bar(fmt::format("comparing {} cache types", candidates.size()),
                 Progress::Unit::kTokens);
    lab::CompareOptions options;
    options.batch = std::min(flags_.step.batch, flags_.step.ubatch);
    options.on_progress = [&](int64_t done, int64_t total) {
      bar.Update(static_cast<uint64_t>(done), static_cast<uint64_t>(total));
      return !Interrupted();
    };
    result_ = lab::Compare(*sources[0], candidates, windows,
                           ThreadPool(engine_->backend().threads()), options);
    if (result_.complete) bar.Done();
    for (size_t i = 0; i < candidates.size(); ++i) rows_[i + 1].scores = &result_.scores[i];
  }

  void MeasureSpeed(const lab::TextWindows& windows) {
    depth_ = flags_.depth >= 0 ? flags_.depth : windows.context;
    Progress bar("timing decode", Progress::Unit::kSteps);
    for (size_t i = 0; i < rows_.size(); ++i) {
      bar.Update(i, rows_.size());
      lab::BenchOptions options;
      options.repetitions = 1;
      options.session.cache = rows_[i].policy;
      options.on_progress = [](int, int) { ThrowIfInterrupted(); };
      const lab::BenchCase test{.n_gen = flags_.decode, .n_depth = depth_};
      rows_[i].decode_rate = lab::RunBench(engine_, test, options).TokensPerSecond().front();
    }
    bar.Done();
  }

  void PrintTable(const lab::TextWindows& windows) const {
    const ModelSpec& spec = engine_->spec();
    fmt::print("{}, {} windows of {} tokens, {} positions scored, against a cache of {}\n",
               spec.name, windows.count, windows.context, Positions(), rows_[0].types.Name());
    if (Positions() == 0) return;
    const lab::Estimate base = result_.scores[0].perplexity_base();
    fmt::print("perplexity of the reference: {:.4f} ± {:.4f}\n\n", base.value, base.error);
    std::vector<std::string> header = {"cache type (K / V)", "bits/value", "KiB/token",
                                       "KLD mean ± SE",      "median",     "99.9 %",
                                       "same top",           "PPL ratio"};
    if (depth_ >= 0) header.push_back(fmt::format("tok/s @ {}", depth_));
    Table table(std::move(header));
    for (const Row& row : rows_) {
      std::vector<std::string> cells = {row.types.Name(), fmt::format("{:.3f}", row.bits_per_value),
                                        fmt::format("{:.2f}", row.bytes_per_token / 1024)};
      if (row.scores == nullptr) {
        cells.insert(cells.end(), 5, "-");
      } else {
        const lab::Estimate kld = lab::BlockMean(row.scores->kld, kErrorBlock),
                            ratio = row.scores->ratio();
        const std::vector<float> sorted = lab::Sorted(row.scores->kld);
        cells.push_back(fmt::format("{:.5f} ± {:.5f}", kld.value, kld.error));
        cells.push_back(fmt::format("{:.5f}", lab::Percentile(sorted, 0.5)));
        cells.push_back(fmt::format("{:.4f}", lab::Percentile(sorted, 0.999)));
        cells.push_back(fmt::format("{:.2f} %", 100 * row.scores->same_top_rate().value));
        cells.push_back(fmt::format("{:.4f} ± {:.4f}", ratio.value, ratio.error));
      }
      if (depth_ >= 0) cells.push_back(fmt::format("{:.1f}", row.decode_rate));
      table.AddRow(std::move(cells));
    }
    fmt::print("{}", table.Text());
    fmt::print(
        "\nKLD: divergence of the predictions from the reference's, 0 is the same. The f32 row, if "
        "there, is the noise floor.\n");
  }

  void PrintJson(const lab::TextWindows& windows) const {
    nlohmann::ordered_json json;
    json["model"] = engine_->spec().name;
    json["architecture"] = engine_->spec().architecture;
    json["context"] = windows.context;
    json["windows"] = windows.count;
    json["positions"] = Positions();
    json["complete"] = result_.complete;
    json["precision"] = flags_.step.fast ? "fast" : "precise";
    json["cache_window"] = rows_[0].policy.window_pages() * kPageTokens;
    json["cache_sinks"] = rows_[0].policy.sink_pages * kPageTokens;
    if (depth_ >= 0) json["decode_depth"] = depth_;
    json["rows"] = nlohmann::ordered_json::array();
    for (const Row& row : rows_) {
      nlohmann::ordered_json entry;
      entry["type_k"] = row.types.k;
      entry["type_v"] = row.types.v;
      entry["reference"] = row.scores == nullptr;
      entry["bits_per_value"] = row.bits_per_value;
      entry["kv_bytes_per_token"] = row.bytes_per_token;
      if (row.scores != nullptr && row.scores->size() > 0) {
        const lab::DivergenceScores& s = *row.scores;
        const std::vector<float> sorted = lab::Sorted(s.kld);
        const lab::Estimate kld = lab::BlockMean(s.kld, kErrorBlock);
        entry["kld_mean"] = kld.value;
        entry["kld_se"] = kld.error;
        entry["kld_median"] = lab::Percentile(sorted, 0.5);
        entry["kld_99"] = lab::Percentile(sorted, 0.99);
        entry["kld_99_9"] = lab::Percentile(sorted, 0.999);
        entry["same_top"] = s.same_top_rate().value;
        entry["ppl"] = s.perplexity().value;
        entry["ppl_reference"] = s.perplexity_base().value;
        entry["ppl_ratio"] = s.ratio().value;
        entry["ppl_ratio_se"] = s.ratio().error;
      }
      if (depth_ >= 0) entry["decode_tokens_per_second"] = row.decode_rate;
      json["rows"].push_back(std::move(entry));
    }
    fmt::print("{}\n", json.dump(2));
  }

  const CompareFlags& flags_;
  std::shared_ptr<const Engine> engine_;
  std::vector<Row> rows_;  // the reference first
  lab::CompareResult result_;
  int depth_ = -1;
};

}  // namespace

void AddCompareCommand(CLI::App& root) {
  auto flags = std::make_shared<CompareFlags>();
  flags->step.context = 2048;
  CLI::App* command = root.add_subcommand(
      "compare", "Set cache types side by side on a model and a text: quality, memory, speed");
  AddModelFlags(*command, flags->model);
  AddTextFlags(*command, flags->text);
  AddCacheShapeFlags(*command, flags->cache);
  AddStepFlags(*command, flags->step, StepUse::kMeasure);
  command
      ->add_option("--types", flags->types,
                   "Cache types: TYPE or TYPE_K/TYPE_V, separated by commas or blanks; types: " +
                       CodecNames())
      ->capture_default_str();
  command
      ->add_option("--reference", flags->reference,
                   "Cache type that the others are measured against")
      ->capture_default_str();
  command->add_option("--chunks", flags->chunks, "Windows to score at most (0: all)")
      ->capture_default_str();
  command
      ->add_option("--depth", flags->depth,
                   "Tokens in the cache when decoding is timed (-1: the context)")
      ->capture_default_str();
  command->add_option("--decode", flags->decode, "Tokens to decode for the timing")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--no-speed", flags->no_speed, "Do not time");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags] { Comparison(*flags).Run(); });
}

}  // namespace tq::app
