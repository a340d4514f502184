// SPDX-License-Identifier: Apache-2.0
// turboquant recommend: the cache policy for a model, a context and what the user can spare.
#include "lab/recommend.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/auto_policy.h"
#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "apps/text_input.h"
#include "lab/reference_logits.h"
#include "lab/session_logits.h"
#include "turboquant/base/hash.h"
#include "turboquant/engine/recommendation_file.h"

namespace tq::app {
namespace {

constexpr int kMostTokens = 2048;    // of one window of the text
constexpr int kFewestTokens = 1024;  // below, hardly a page is sealed where positions are scored
constexpr int kErrorBlock = 64;      // positions: neighbours of a text are not independent samples

struct RecommendFlags {
  ModelFlags model;
  CacheFlags cache;
  int64_t context = 0;
  uint64_t memory = 0;
  double max_divergence = 0;
  std::string file;
  int chunks = 1;
  bool no_store = false;
  bool json = false;
};

class RecommendCommand {
 public:
  explicit RecommendCommand(const RecommendFlags& flags) : flags_(flags) {}

  void Run() {
    const std::string text = ReadTextOrBuiltin(flags_.file);
    engine_ = LoadEngine(flags_.model);
    request_ = MakeRequest();
    const lab::TextWindows windows = MakeTextWindows(text);
    Measure(windows);
    std::string stored;
    if (result_.within_divergence && !flags_.no_store) stored = Store(windows);
    flags_.json ? PrintJson(windows, stored) : Print(windows, stored);
    if (!result_.within_divergence) ThrowUnmet();
  }

 private:
  lab::RecommendRequest MakeRequest() const {
    lab::RecommendRequest request;
    request.geometry = engine_->spec().kv_geometry();
    request.context = flags_.context > 0 ? flags_.context : engine_->spec().context;
    request.shape = MakeCachePolicy(*engine_, flags_.cache, request.context);
    request.max_bytes = flags_.memory;
    request.max_divergence = flags_.max_divergence;
    if (flags_.memory == 0 && flags_.max_divergence == 0)  // the defaults' memory, spent better
      request.max_bytes =
          KvCache::BytesForContext(request.geometry, request.shape, request.context);
    return request;
  }

  lab::TextWindows MakeTextWindows(const std::string& text) const {
    std::vector<TokenId> tokens = engine_->tokenizer().Encode(text, true, false);
    const auto length = static_cast<int64_t>(tokens.size());
    if (length < kFewestTokens) {
      Throw(ErrorCode::kInvalidArgument,
            "the text has {} tokens: give one of {} or more, or hardly anything of it would be "
            "compressed",
            length, kFewestTokens);
    }
    const auto window = static_cast<int>(
        std::min<int64_t>({length, kMostTokens, std::max<int64_t>(engine_->spec().context, 4)}));
    return lab::MakeWindows(std::move(tokens), engine_->tokenizer().special(), window,
                            flags_.chunks, 1);
  }

  void Measure(const lab::TextWindows& windows) {
    SessionOptions session;
    session.context = windows.context;
    session.prefill = PrefillMode::kExact;
    session.precision = Precision::kPrecise;
    session.calibration = CalibrationFor(*engine_, flags_.cache.calibration, request_.shape);
    const auto source = [&](const CachePolicy& policy) {
      session.cache = policy;
      return lab::SessionLogits(engine_, session);
    };
    Progress bar("measuring layers", Progress::Unit::kTokens);
    const int64_t total = int64_t{lab::MostRuns(request_)} * windows.count * windows.context;
    int64_t done = 0;
    lab::ReferenceOptions options;
    options.on_fed = [&](int64_t tokens) {
      ThrowIfInterrupted();
      bar.Update(static_cast<uint64_t>(done += tokens), static_cast<uint64_t>(total));
    };
    const ThreadPool pool(engine_->backend().threads());
    // One reference at a time is in memory: all places are measured before the first policy.
    std::optional<lab::ReferenceLogits> reference;
    std::optional<Codec> held;
    const auto from = [&](Codec codec) {
      return [&, codec](const CachePolicy& policy) {
        if (held != codec) {
          reference.reset();
          lab::SessionLogits run =
              source(lab::UniformPolicy(request_.geometry, request_.shape, codec));
          reference.emplace(run, windows, pool, options);
          held = codec;
        }
        lab::SessionLogits run = source(policy);
        return lab::BlockMean(reference->Divergence(run),
                              std::max(kErrorBlock / reference->stride(), 1));
      };
    };
    result_ =
        lab::Recommend(request_, {.place = from(lab::kElsewhere), .policy = from(Codec::kF16)});
    positions_ = reference->positions();
    bar.Done();
  }

  std::string Store(const lab::TextWindows& windows) const {
    const Recommendation recommendation{
        .model_id = engine_->model_id(),
        .context = request_.context,
        .policy = result_.policy,
        .divergence = result_.measured.value,
        .upper = result_.upper,
        .bytes = result_.bytes,
        .text_id = Hash64(std::as_bytes(std::span(windows.tokens)))};
    try {
      return SaveRecommendation(RecommendationFolder(), recommendation).string();
    } catch (const Error& error) {  // the figures are worth printing all the same
      fmt::print(stderr, "warning: not stored for --cache auto: {}\n", error.what());
      return "";
    }
  }

  void Print(const lab::TextWindows& windows, const std::string& stored) const {
    const CachePolicy& policy = result_.policy;
    fmt::print(
        "{}: {} tokens of {}, {} positions compared: the policy with an f16 cache, single "
        "sides with {} throughout; {} runs\n\n",
        engine_->spec().name, windows.tokens.size(),
        flags_.file.empty() ? "the built-in text" : flags_.file, positions_,
        InfoOf(lab::kElsewhere).name, result_.runs + 2);
    const std::string alone = fmt::format("KLD of {} alone", InfoOf(result_.probe).name);
    Table table({"layer", "K: " + alone, "type", "its share", "V: " + alone, "type", "its share"});
    for (size_t i = 0; i < result_.places.size(); i += 2) {
      std::vector<std::string> cells = {fmt::format("{}", result_.places[i].layer)};
      for (const lab::SideChoice& place : {result_.places[i], result_.places[i + 1]}) {
        cells.push_back(fmt::format("{:.6f}", place.sensitivity));
        cells.push_back(std::string(InfoOf(place.codec).name));
        cells.push_back(fmt::format("{:.6f}", place.divergence));
      }
      table.AddRow(std::move(cells));
    }
    fmt::print("{}\n", table.Text());
    fmt::print("policy   -ctk {} -ctv {}\n", CodecListText(policy.k), CodecListText(policy.v));
    fmt::print("memory   {} at a context of {} tokens; {:.3f} bits per value in the long run\n",
               FormatBytes(static_cast<double>(result_.bytes)), request_.context,
               PolicyBitsPerValue(request_.geometry, policy));
    fmt::print(
        "KLD      {:.5f} ± {:.5f} measured; at most {:.5f} with 95 % confidence, of which a factor "
        "of {} for text of another kind\n",
        result_.measured.value, result_.measured.error, result_.upper, lab::kForeignText);
    if (!stored.empty())
      fmt::print("stored   {}\n         --cache auto takes it, for contexts up to {}\n", stored,
                 request_.context);
  }

  void PrintJson(const lab::TextWindows& windows, const std::string& stored) const {
    nlohmann::ordered_json json;
    json["model"] = engine_->spec().name;
    json["context"] = request_.context;
    json["type_k"] = CodecListText(result_.policy.k);
    json["type_v"] = CodecListText(result_.policy.v);
    json["cache_window"] = result_.policy.window_pages() * kPageTokens;
    json["cache_sinks"] = result_.policy.sink_pages * kPageTokens;
    json["bits_per_value"] = PolicyBitsPerValue(request_.geometry, result_.policy);
    json["bytes"] = result_.bytes;
    json["max_bytes"] = request_.max_bytes;
    json["max_kld"] = request_.max_divergence;
    json["kld_mean"] = result_.measured.value;
    json["kld_se"] = result_.measured.error;
    json["kld_upper"] = result_.upper;
    json["within_limits"] = result_.within_divergence;
    json["tokens"] = windows.tokens.size();
    json["positions"] = positions_;
    json["runs"] = result_.runs + 2;
    json["probe"] = InfoOf(result_.probe).name;
    json["elsewhere"] = InfoOf(lab::kElsewhere).name;
    json["stored"] = stored;
    json["places"] = nlohmann::ordered_json::array();
    for (const lab::SideChoice& place : result_.places) {
      json["places"].push_back({{"layer", place.layer},
                                {"side", place.side == Side::kKey ? "k" : "v"},
                                {"kld_alone", place.sensitivity},
                                {"type", InfoOf(place.codec).name},
                                {"kld_share", place.divergence}});
    }
    fmt::print("{}\n", json.dump(2));
  }

  [[noreturn]] void ThrowUnmet() const {
    const std::string what =
        result_.bytes_needed == 0
            ? std::string("no type here reaches it; an f16 cache (-ctk f16 -ctv f16) has none")
            : fmt::format("about {} would reach it at this context",
                          FormatBytes(static_cast<double>(result_.bytes_needed)));
    Throw(flags_.memory > 0 ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidArgument,
          "--max-kld {}: the best found{} may reach {:.5f}; {}. Nothing was stored",
          request_.max_divergence, flags_.memory > 0 ? " within --memory" : "", result_.upper,
          what);
  }

  const RecommendFlags& flags_;
  std::shared_ptr<const Engine> engine_;
  lab::RecommendRequest request_;
  lab::RecommendResult result_;
  int64_t positions_ = 0;
};

}  // namespace

void AddRecommendCommand(Command root) {
  auto flags = std::make_shared<RecommendFlags>();
  const Command command = root.AddCommand(
      "recommend", "Measure a model and say which cache types it should run with, by layer");
  AddModelFlags(command, flags->model);
  AddCacheShapeFlags(command, flags->cache);
  command.AddOption("-c,--ctx-size", flags->context, "Context in tokens (0: the model's)")
      .FromVariable("LLAMA_ARG_CTX_SIZE")
      .NonNegative()
      .ShowDefault();
  command
      .AddOption("--memory", flags->memory,
                 "What the cache may take at that context, such as 2GiB (without it and without "
                 "--max-kld: what the default types take)")
      .SizeWithUnit();
  command
      .AddOption("--max-kld", flags->max_divergence,
                 "What the upper limit of the KL divergence may be: the fewest bytes for it")
      .Positive();
  command.AddOption("-f,--file", flags->file,
                    "Text to measure on instead of the built-in one; -: standard input");
  command.AddOption("--chunks", flags->chunks, "Windows of the text to measure on (0: all)")
      .ShowDefault();
  command.AddFlag("--no-store", flags->no_store, "Do not keep the result for --cache auto");
  command.AddFlag("--json", flags->json, "Print JSON");
  command.OnRun([flags] { RecommendCommand(*flags).Run(); });
}

}  // namespace tq::app
