// SPDX-License-Identifier: Apache-2.0
#include "apps/common_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <chrono>

#include "apps/auto_policy.h"
#include "apps/budget_policy.h"
#include "apps/cache_watch_report.h"
#include "apps/device_flags.h"
#include "apps/fetch_model/model_table.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "turboquant/backend/cuda/cuda_backend.h"

namespace tq::app {
namespace {

const char* const kCacheTypeHelp =
    "TYPE or TYPE:LAYERS,... such as turbo4:0-27,q8_0:28-29; types: ";

std::string DeviceOf(const ModelFlags& flags) {
  return ChooseDevice(flags.device, flags.gpu_layers, kCudaBuiltIn, [&] {
    return ReadModelSpec(GgufFile::Open(ResolveModel(flags.model))).num_layers;
  });
}

}  // namespace

void AddModelFlags(Command command, ModelFlags& flags) {
  command
      .AddOption("-m,--model", flags.model,
                 "GGUF file, or a fetched model: " + FetchableModelNames())
      .FromVariable("LLAMA_ARG_MODEL")
      .Required();
  command.AddOption("-t,--threads", flags.threads, "Threads (0: every processor)")
      .FromVariable("LLAMA_ARG_THREADS");
  command.AddOption("--threads-batch", flags.threads, "The same (-tb; one pool serves both)");
  command
      .AddOption("--device", flags.device,
                 "Where to run (-dev): cpu, cuda (the first GPU) or cuda:N")
      .FromVariable("LLAMA_ARG_DEVICE")
      .ShowDefault();
  command
      .AddOption("--gpu-layers,--n-gpu-layers", flags.gpu_layers,
                 "Layers on a GPU (-ngl): 0, or all of them (all, 99); part of a model is refused")
      .FromVariable("LLAMA_ARG_N_GPU_LAYERS");
}

void AddCacheTypeFlags(Command command, CacheFlags& flags) {
  command
      .AddOption("--cache-type-k", flags.type_k,
                 std::string("Keys (-ctk): ") + kCacheTypeHelp + CodecNames())
      .FromVariable("LLAMA_ARG_CACHE_TYPE_K")
      .ShowDefault();
  command.AddOption("--cache-type-v", flags.type_v, "Values (-ctv), likewise")
      .FromVariable("LLAMA_ARG_CACHE_TYPE_V")
      .ShowDefault();
  AddAutomaticCacheFlag(command, flags);
}

void AddAutomaticCacheFlag(Command command, CacheFlags& flags) {
  command
      .AddOption("--cache", flags.automatic,
                 "auto: types by layer as `turboquant recommend` found for this model")
      .OneOf({kAutomaticCache})
      .Excludes("--cache-type-k")
      .Excludes("--cache-type-v");
}

void AddCacheShapeFlags(Command command, CacheFlags& flags) {
  command
      .AddOption("--cache-window", flags.window,
                 "Newest tokens that stay at 8 bits (rounded up to pages of 128; four times as "
                 "many in sliding-window layers)")
      .Between(0, 1 << 24)
      .ShowDefault();
  command
      .AddOption("--cache-sinks", flags.sinks,
                 "First tokens that stay at 8 bits (rounded up to pages of 128)")
      .Between(0, 1 << 24)
      .ShowDefault();
  command.AddFlag(
      "--no-centring", flags.no_centring,
      "Open pages without subtracting a mean from keys; sealed pages always do (compare's "
      "+no-centring simulates a cache without)");
  AddCalibrationFlags(command, flags.calibration);
}

void AddCacheAgeFlag(Command command, CacheFlags& flags) {
  command.AddOption("--cache-age", flags.ages,
                    "Fewer bits for older tokens: AGE:TYPE or AGE:TYPE_K/TYPE_V,... such as "
                    "4096:turbo3_tcq,16384:turbo2_tcq (rounded up to pages of 128; on a GPU one "
                    "age, from turbo8)");
}

void AddCacheBudgetFlag(Command command, CacheFlags& flags) {
  const Option budget =
      command
          .AddOption("--cache-budget", flags.budget,
                     "What the cache of a full context may take, such as 2GiB: chooses types that "
                     "fall with age from turbo8 to turbo2_tcq")
          .SizeWithUnit()
          .Positive();
  for (const char* other : {"--cache-type-k", "--cache-type-v", "--cache", "--cache-age"})
    budget.Excludes(other);
}

void AddCacheWatchFlag(Command command, CacheFlags& flags) {
  command.AddFlag("--cache-watch", flags.watch,
                  "Compare attention over compressed pages with 8-bit copies now and then; warn if "
                  "the cache harms this model");
}

void AddStepFlags(Command command, StepFlags& flags, StepUse use) {
  command.AddOption("-c,--ctx-size", flags.context, "Context in tokens (0: the model's)")
      .FromVariable("LLAMA_ARG_CTX_SIZE")
      .NonNegative()
      .ShowDefault();
  command.AddOption("-b,--batch-size", flags.batch, "Tokens of one logical step")
      .FromVariable("LLAMA_ARG_BATCH")
      .Positive()
      .ShowDefault();
  command.AddOption("--ubatch-size", flags.ubatch, "Tokens of one forward pass (-ub)")
      .FromVariable("LLAMA_ARG_UBATCH")
      .Positive()
      .ShowDefault();
  command
      .AddOption("--prefill", flags.prefill,
                 "exact: prompts see the cache as decoding would; fast: fresh keys and values "
                 "inside a pass, never worse")
      .OneOf({"exact", "fast"});
  if (use == StepUse::kGenerate) {
    command.AddFlag("--precise", flags.precise,
                    "f32 products instead of 8-bit activations: slower, to compare");
  } else {
    command.AddFlag("--fast", flags.fast,
                    "Fast products and prefill as in `run` (default: f32 products, exact prefill)");
  }
  // Flags of users' scripts that have nothing to switch here.
  command
      .AddIgnoredOption("--flash-attn",
                        "Accepted (-fa); attention here never builds the score matrix")
      .FromVariable("LLAMA_ARG_FLASH_ATTN");
}

void AddSamplingFlags(Command command, SamplerSpec& spec, int64_t& seed) {
  command
      .AddOption("--temp,--temperature", spec.temperature,
                 "Temperature (0: always the likeliest token)")
      .FromVariable("LLAMA_ARG_TEMPERATURE")
      .ShowDefault();
  command.AddOption("--top-k", spec.top_k, "Only the k likeliest tokens (0: all)")
      .FromVariable("LLAMA_ARG_TOP_K")
      .ShowDefault();
  command
      .AddOption("--top-p", spec.top_p,
                 "Only the likeliest tokens that make up this probability (1: off)")
      .FromVariable("LLAMA_ARG_TOP_P")
      .ShowDefault();
  command
      .AddOption("--min-p", spec.min_p,
                 "Only tokens at least this likely against the likeliest (0: off)")
      .FromVariable("LLAMA_ARG_MIN_P")
      .ShowDefault();
  command.AddOption("-s,--seed", seed, "Random seed (-1: from the clock)").ShowDefault();
  command
      .AddOption("--repeat-penalty", spec.repeat_penalty,
                 "Divides the logits of recent tokens (1: off)")
      .FromVariable("LLAMA_ARG_REPEAT_PENALTY")
      .ShowDefault();
  command
      .AddOption("--repeat-last-n", spec.penalty_last_n,
                 "Tokens that penalties look back (0: off, -1: all)")
      .ShowDefault();
  command
      .AddOption("--presence-penalty", spec.presence_penalty,
                 "Subtracted once for recent tokens (0: off)")
      .FromVariable("LLAMA_ARG_PRESENCE_PENALTY")
      .ShowDefault();
  command
      .AddOption("--frequency-penalty", spec.frequency_penalty,
                 "Subtracted per occurrence (0: off)")
      .FromVariable("LLAMA_ARG_FREQUENCY_PENALTY")
      .ShowDefault();
}

SamplerSpec ResolveSeed(SamplerSpec spec, int64_t seed) {
  spec.seed =
      seed >= 0
          ? static_cast<uint64_t>(seed)
          : static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  return spec;
}

std::shared_ptr<const Engine> LoadEngine(const ModelFlags& flags) {
  if (flags.threads < 0)
    Throw(ErrorCode::kInvalidArgument, "--threads {}: give 0 (all) or more", flags.threads);
  Progress bar("loading", Progress::Unit::kBytes);
  EngineOptions options;
  options.model = ResolveModel(flags.model);
  options.backend.device = DeviceOf(flags);
  options.backend.threads = flags.threads;
  options.progress = [&](uint64_t done, uint64_t total) {
    ThrowIfInterrupted();
    bar.Update(done, total);
  };
  auto engine = Engine::Load(options);
  bar.Done();
  const ModelSpec& spec = engine->spec();
  fmt::print(stderr, "model    {} ({}, {} layers, head dim {}, {} query / {} KV heads), {} on {}\n",
             spec.name, spec.architecture, spec.num_layers, spec.head_dim, spec.q_heads,
             spec.kv_heads, FormatBytes(static_cast<double>(engine->weights().bytes())),
             engine->backend().name());
  return engine;
}

CachePolicy MakeCachePolicy(const Engine& engine, const CacheFlags& flags, int64_t context,
                            int chunk) {
  CachePolicy policy;
  if (flags.automatic == kAutomaticCache) {
    policy = AutomaticPolicy(engine, flags, context);
  } else {
    policy = MakePolicy(engine, flags.type_k, flags.type_v);
    policy.window = flags.window;
    policy.sink_pages = (flags.sinks + kPageTokens - 1) / kPageTokens;
    policy.centring = !flags.no_centring;
  }
  if (flags.budget > 0) return BudgetPolicy(engine, flags, policy, context, chunk);
  if (!flags.ages.empty()) {
    policy.ages = ParseAgeSteps(flags.ages);
    if (!Ages(policy)) {
      Throw(ErrorCode::kInvalidArgument,
            "--cache-age {}: nothing falls to fewer bits; keys are {} and values {}", flags.ages,
            CodecListText(policy.k), CodecListText(policy.v));
    }
  }
  return policy;
}

SessionOptions MakeSessionOptions(const Engine& engine, const CacheFlags& cache,
                                  const StepFlags& step, StepUse use) {
  const bool measure = use == StepUse::kMeasure;
  SessionOptions options;
  options.chunk = std::min(step.batch, step.ubatch);
  options.cache = MakeCachePolicy(engine, cache, step.context, options.chunk);
  options.cache_budget_bytes = cache.budget;
  options.cache_watch.on = cache.watch;
  options.cache_watch.on_broken = WarnOfDrift;
  options.context = step.context;
  options.precision =
      step.precise || (measure && !step.fast) ? Precision::kPrecise : Precision::kFast;
  const bool exact = step.prefill.empty() ? measure && !step.fast : step.prefill == "exact";
  options.prefill = exact ? PrefillMode::kExact : PrefillMode::kFast;
  return options;
}

double PolicyBitsPerValue(const KvGeometry& geometry, const CachePolicy& policy, int64_t context) {
  return KvCache::BitsPerValue(geometry, policy, context);
}

void PrintCacheSummary(const Session& session) {
  const SessionOptions& options = session.options();
  const ModelSpec& spec = session.engine().spec();
  const KvGeometry geometry = spec.kv_geometry();
  const CachePolicy& policy = options.cache;
  const int64_t context = options.context > 0 ? options.context : spec.context;
  const bool tiles =
      std::any_of(policy.k.begin(), policy.k.end(), [](Codec c) { return InfoOf(c).tiles; }) ||
      std::any_of(policy.v.begin(), policy.v.end(), [](Codec c) { return InfoOf(c).tiles; });
  fmt::print(stderr, "cache    K {}, V {}", CodecListText(policy.k), CodecListText(policy.v));
  for (const AgeStep& step : policy.ages) {
    fmt::print(stderr, ", {} tokens back K {}, V {}", step.window_pages() * kPageTokens,
               InfoOf(step.k).name, InfoOf(step.v).name);
  }
  fmt::print(stderr, ": {:.3f} bits per value, {:.2f} KiB per token",
             PolicyBitsPerValue(geometry, policy, context),
             static_cast<double>(KvCache::BytesPerToken(geometry, policy, context)) / 1024);
  if (tiles) {
    fmt::print(stderr, "; newest {} and first {} tokens at 8 bits",
               policy.window_pages() * kPageTokens, policy.sink_pages * kPageTokens);
    const auto& windows = geometry.sliding_window;
    const auto sliding = std::ranges::find_if(windows, [](int window) { return window > 0; });
    if (policy.window > 0 && sliding != windows.end())
      fmt::print(stderr, " (newest {} in sliding-window layers)",
                 policy.window_pages(*sliding) * kPageTokens);
  }
  if (options.calibration != nullptr) {
    fmt::print(stderr, "; keys calibrated ({} of {} heads)",
               HeadsWithMap(*options.calibration, KvCache::FinalKeyCodecs(geometry, policy)),
               options.calibration->heads.size());
  }
  fmt::print(stderr,
             "\ncontext  {} tokens, at most {} of cache; {} products, {} prefill in passes of {}\n",
             context,
             FormatBytes(static_cast<double>(KvCache::BytesForContext(geometry, policy, context))),
             options.precision == Precision::kPrecise ? "f32" : "fast",
             options.prefill == PrefillMode::kExact ? "exact" : "fast", options.chunk);
  if (context > spec.context) {
    fmt::print(stderr,
               "note: the model was trained for {} tokens; beyond them it may lose the thread\n",
               spec.context);
  }
}

}  // namespace tq::app
