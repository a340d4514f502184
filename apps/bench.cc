// SPDX-License-Identifier: Apache-2.0
// turboquant bench: speed of prompts and decoding at depth, with llama-bench's flags and output.
#include "lab/bench.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <memory>

#include "apps/bench_grid.h"
#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/device_flags.h"
#include "apps/fetch_model/model_table.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "lab/bench_report.h"
#include "turboquant/backend/cuda/cuda_backend.h"
#include "turboquant/base/version.h"
#include "turboquant/gguf/gguf_file.h"
#include "turboquant/model/synthetic.h"

namespace tq::app {
namespace {

struct BenchFlags {
  ModelFlags model;
  std::string synthetic;
  CacheFlags cache;
  BenchLists lists;
  int repetitions = 5;
  std::string output = "md";
  bool no_warm_up = false;
  bool precise = false;
};

std::string CpuName() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

lab::BenchMachine Describe(const Engine& engine, const std::filesystem::path& path) {
  const GgufFile file = GgufFile::Open(path);
  lab::BenchMachine machine;
  std::map<std::string_view, uint64_t> bytes_of_format;
  for (const GgufTensor& tensor : file.tensors()) {
    machine.model_n_params += tensor.num_values();
    machine.model_size += tensor.data.size();
    bytes_of_format[InfoOf(tensor.format).name] += tensor.data.size();
  }
  std::string_view main_format;
  uint64_t most = 0;
  for (const auto& [name, bytes] : bytes_of_format) {
    if (bytes > most) {
      most = bytes;
      main_format = name;
    }
  }
  machine.build_commit = kBuildCommit;
  machine.cpu_info = CpuName();
  machine.model_filename = path.string();
  machine.model_type =
      fmt::format("{} {} {}", engine.spec().architecture, engine.spec().size_label, main_format);
  machine.n_threads = engine.backend().threads();
  return machine;
}

lab::BenchMachine DescribeSynthetic(const Engine& engine) {
  lab::BenchMachine machine;
  machine.build_commit = kBuildCommit;
  machine.cpu_info = CpuName();
  machine.model_type = fmt::format("{} Q4_0", engine.spec().name);
  machine.model_size = engine.weights().bytes();
  machine.model_n_params = machine.model_size * 16 / 9;
  machine.n_threads = engine.backend().threads();
  return machine;
}

std::shared_ptr<const Engine> MakeSynthetic(const BenchFlags& flags) {
  const std::string device =
      ChooseDevice(flags.model.device, flags.model.gpu_layers, kCudaBuiltIn,
                   [&] { return SyntheticModelSpec(flags.synthetic).num_layers; });
  auto engine =
      Engine::Synthetic(flags.synthetic, {.device = device, .threads = flags.model.threads});
  fmt::print(stderr, "model    {}, {} of random weights on {}\n", engine->spec().name,
             FormatBytes(static_cast<double>(engine->weights().bytes())), engine->backend().name());
  return engine;
}

lab::BenchFormat Format(const std::string& name) {
  return name == "json"    ? lab::BenchFormat::kJson
         : name == "jsonl" ? lab::BenchFormat::kJsonLines
         : name == "csv"   ? lab::BenchFormat::kCsv
                           : lab::BenchFormat::kMarkdown;
}

void Bench(const BenchFlags& flags) {
  const std::vector<lab::BenchCase> grid = BenchGrid(flags.lists);
  if (grid.empty()) Throw(ErrorCode::kInvalidArgument, "nothing to run: -p and -n are both 0");
  if (flags.repetitions < 1)
    Throw(ErrorCode::kInvalidArgument, "-r {}: give 1 or more", flags.repetitions);
  if (flags.synthetic.empty() == flags.model.model.empty()) {
    Throw(ErrorCode::kInvalidArgument, "give a model (-m) or a synthetic one (--synthetic: {})",
          SyntheticModelNames());
  }
  const bool synthetic = !flags.synthetic.empty();
  const auto engine = synthetic ? MakeSynthetic(flags) : LoadEngine(flags.model);
  lab::BenchMachine machine =
      synthetic ? DescribeSynthetic(*engine) : Describe(*engine, ResolveModel(flags.model.model));
  const std::string device = engine->backend().name();
  if (device.starts_with("cuda")) {
    machine.backend = "CUDA";
    machine.gpu_info = device;
  }
  lab::BenchReport report(Format(flags.output), machine, true);
  fmt::print("{}", report.Header());
  std::fflush(stdout);
  std::shared_ptr<const Calibration> calibration;  // one for all cases that have a use for it
  for (const lab::BenchCase& test : grid) {
    CacheFlags cache = flags.cache;
    cache.type_k = test.type_k;
    cache.type_v = test.type_v;
    lab::BenchOptions options;
    options.repetitions = flags.repetitions;
    options.warm_up = !flags.no_warm_up;
    options.session.cache =
        MakeCachePolicy(*engine, cache, test.n_depth + test.n_prompt + test.n_gen,
                        std::min(test.n_batch, test.n_ubatch));
    options.session.cache_budget_bytes = cache.budget;
    // A synthetic model has no words to calibrate on.
    if (calibration == nullptr && (!synthetic || !cache.calibration.file.empty()))
      calibration = CalibrationFor(*engine, cache.calibration, options.session.cache);
    options.session.calibration = calibration;
    options.session.precision = flags.precise ? Precision::kPrecise : Precision::kFast;
    Progress bar(test.Name(), Progress::Unit::kSteps);
    options.on_progress = [&](int done, int of) {
      ThrowIfInterrupted();
      bar.Update(static_cast<uint64_t>(done), static_cast<uint64_t>(of));
    };
    lab::BenchResult result = lab::RunBench(engine, test, options);
    result.test.type_k =
        CodecListText(options.session.cache.k);  // aliases become the canonical name
    result.test.type_v = CodecListText(options.session.cache.v);
    bar.Done();
    fmt::print("{}", report.Row(result));
    std::fflush(stdout);
  }
  fmt::print("{}", report.Footer());
}

}  // namespace

void AddBenchCommand(Command root) {
  auto flags = std::make_shared<BenchFlags>();
  flags->lists.types_k = {kDefaultTypeK};
  flags->lists.types_v = {kDefaultTypeV};
  const Command command = root.AddCommand(
      "bench", "Speed of prompts and of decoding at depth, as llama-bench measures it");
  AddModelFlags(command, flags->model);
  command.GetOption("--model").Required(false);
  command.AddOption("--synthetic", flags->synthetic,
                    "Instead of -m: random 4-bit weights in the shape of " + SyntheticModelNames());
  command
      .AddOption("-p,--n-prompt", flags->lists.prompt, "Prompt tokens (lists: A,B A-B A-B+S A-B*F)")
      .ShowDefault();
  command.AddOption("-n,--n-gen", flags->lists.gen, "Generated tokens").ShowDefault();
  command.AddOption("--prompt-gen", flags->lists.prompt_gen,
                    "PROMPT,GEN in one test (-pg; may be given several times)");
  command
      .AddOption("-d,--n-depth", flags->lists.depth, "Tokens in the cache before (really computed)")
      .ShowDefault();
  command.AddOption("-r,--repetitions", flags->repetitions, "Repetitions of each test")
      .ShowDefault();
  command.AddOption("-b,--batch-size", flags->lists.batch, "Tokens of one logical step")
      .ShowDefault();
  command.AddOption("--ubatch-size", flags->lists.ubatch, "Tokens of one forward pass (-ub)")
      .ShowDefault();
  command
      .AddOption("--cache-type-k", flags->lists.types_k,
                 "Cache types of keys (-ctk), separated by commas")
      .SplitAt(',');
  command.AddOption("--cache-type-v", flags->lists.types_v, "Cache types of values (-ctv)")
      .SplitAt(',');
  AddAutomaticCacheFlag(command, flags->cache);
  AddCacheShapeFlags(command, flags->cache);
  AddCacheAgeFlag(command, flags->cache);
  AddCacheBudgetFlag(command, flags->cache);
  command.AddOption("-o,--output", flags->output, "md, json, jsonl or csv")
      .OneOf({"md", "json", "jsonl", "csv"})
      .ShowDefault();
  command.AddFlag("--no-warmup", flags->no_warm_up,
                  "Leave out the run before the first repetition");
  command.AddFlag("--precise", flags->precise, "f32 products");
  command.OnRun([flags] { Bench(*flags); });
}

}  // namespace tq::app
