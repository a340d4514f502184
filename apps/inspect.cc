// SPDX-License-Identifier: Apache-2.0
// turboquant inspect: what a model file holds, and what each cache type would cost in memory.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "apps/budget_policy.h"
#include "apps/calibration_flags.h"
#include "apps/commands.h"
#include "apps/fetch_model/model_table.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "turboquant/engine/calibration_store.h"
#include "turboquant/gguf/gguf_file.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/text/chat_template.h"
#include "turboquant/text/tokenizer.h"

namespace tq::app {
namespace {

struct InspectFlags {
  std::string model;
  bool tensors = false;
  bool metadata = false;
  uint64_t budget = 0;
};

constexpr int64_t kContexts[] = {4096, 8192, 16384, 32768, 65536, 131072};

std::string ValueText(const GgufValue& value) {
  const auto list = [](const auto& items) {
    std::string text = fmt::format("{} values:", items.size());
    for (size_t i = 0; i < items.size() && i < 6; ++i) text += fmt::format(" {}", items[i]);
    return text + (items.size() > 6 ? " ..." : "");
  };
  if (const auto* v = std::get_if<bool>(&value)) return *v ? "true" : "false";
  if (const auto* v = std::get_if<int64_t>(&value)) return fmt::format("{}", *v);
  if (const auto* v = std::get_if<uint64_t>(&value)) return fmt::format("{}", *v);
  if (const auto* v = std::get_if<double>(&value)) return fmt::format("{:g}", *v);
  if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) return list(*v);
  if (const auto* v = std::get_if<std::vector<double>>(&value)) return list(*v);
  if (const auto* v = std::get_if<std::vector<std::string>>(&value))
    return fmt::format("{} texts", v->size());
  std::string text = std::get<std::string>(value);
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text.size() <= 100 ? text : text.substr(0, 100) + "...";
}

// What cannot be run is said in its place, so that the rest of the file can still be looked at.
template <typename Fn>
std::string OrWhyNot(Fn&& fn) {
  try {
    return fn();
  } catch (const Error& error) {
    return fmt::format("not run: {}", error.what());
  }
}

void PrintFormats(const GgufFile& file) {
  struct Sum {
    int tensors = 0;
    uint64_t values = 0, bytes = 0;
  };
  std::map<std::string_view, Sum> sums;
  for (const GgufTensor& tensor : file.tensors()) {
    Sum& sum = sums[InfoOf(tensor.format).name];
    ++sum.tensors;
    sum.values += tensor.num_values();
    sum.bytes += tensor.data.size();
  }
  Table table({"tensor format", "tensors", "values", "size", "bits per value"});
  for (const auto& [name, sum] : sums) {
    table.AddRow({std::string(name), fmt::format("{}", sum.tensors), fmt::format("{}", sum.values),
                  FormatBytes(static_cast<double>(sum.bytes)),
                  fmt::format("{:.2f}", 8.0 * static_cast<double>(sum.bytes) /
                                            static_cast<double>(sum.values))});
  }
  fmt::print("\n{}", table.Text());
}

void PrintCacheCosts(const KvGeometry& geometry) {
  std::vector<std::string> header = {"cache type (K and V)", "bits per value", "KiB per token"};
  for (const int64_t context : kContexts)
    header.push_back(fmt::format("{}K tokens", context / 1024));
  Table table(std::move(header));
  for (const CodecInfo& codec : kCodecs) {
    CachePolicy policy;
    policy.k.assign(static_cast<size_t>(geometry.num_layers), codec.codec);
    policy.v = policy.k;
    std::vector<std::string> row = {std::string(codec.name)};
    try {
      const double per_token = static_cast<double>(KvCache::BytesPerToken(geometry, policy));
      row.push_back(fmt::format("{:.3f}", KvCache::BitsPerValue(geometry, policy)));
      row.push_back(fmt::format("{:.2f}", per_token / 1024));
      for (const int64_t context : kContexts) {
        row.push_back(
            FormatBytes(static_cast<double>(KvCache::BytesForContext(geometry, policy, context))));
      }
    } catch (const Error&) {
      row.resize(3 + std::size(kContexts), "not for this head dim");
    }
    table.AddRow(std::move(row));
  }
  fmt::print("\nMemory of the cache of one sequence (scales and 8-bit pages included):\n{}",
             table.Text());
}

void PrintBudget(const KvGeometry& geometry, uint64_t budget) {
  Table table({"context", "K / V", "then", "bits per value", "memory", "expected KLD when full"},
              3);
  for (const int64_t context : kContexts) {
    std::vector<std::string> row = {fmt::format("{}K tokens", context / 1024)};
    try {
      const BudgetedCache cache = FitBudget(geometry, {}, context, 0, budget);
      const CachePolicy& policy = cache.policy;
      row.push_back(fmt::format("{} / {}", CodecListText(policy.k), CodecListText(policy.v)));
      row.push_back(policy.ages.empty() ? "-" : AgeStepsText(policy.ages));
      row.push_back(fmt::format("{:.3f}", KvCache::BitsPerValue(geometry, policy, context)));
      row.push_back(
          FormatBytes(static_cast<double>(KvCache::BytesForContext(geometry, policy, context))));
      row.push_back(ExpectedDivergence(cache));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOutOfMemory) throw;
      row.insert(row.end(), {"does not fit", "-", "-", "-", "-"});
    }
    table.AddRow(std::move(row));
  }
  fmt::print(
      "\nWhat --cache-budget {} makes of a context (expected KLD: an estimate, "
      "docs/quality.md):\n{}",
      FormatBytes(static_cast<double>(budget)), table.Text());
}

void Inspect(const InspectFlags& flags) {
  const std::filesystem::path path = ResolveModel(flags.model);
  const GgufFile file = GgufFile::Open(path);
  uint64_t values = 0;
  for (const GgufTensor& tensor : file.tensors()) values += tensor.num_values();
  fmt::print("file            {} ({})\n", path.string(),
             FormatBytes(static_cast<double>(file.total_bytes())));
  fmt::print("name            {}\n", file.GetString("general.name", "(none)"));
  fmt::print("architecture    {}\n", file.GetString("general.architecture", "(none)"));
  fmt::print("parameters      {:.1f} M in {} tensors\n", static_cast<double>(values) / 1e6,
             file.tensors().size());
  std::unique_ptr<ModelSpec> spec;
  fmt::print("shape           {}\n", OrWhyNot([&] {
               spec = std::make_unique<ModelSpec>(ReadModelSpec(file));
               return fmt::format(
                   "{} layers, embedding {}, feed-forward {}, {} query and {} KV heads of {}, "
                   "vocabulary {}",
                   spec->num_layers, spec->embedding, spec->feed_forward, spec->q_heads,
                   spec->kv_heads, spec->head_dim, spec->vocabulary);
             }));
  if (spec) {
    fmt::print("context         {} tokens\n", spec->context);
    int windowed = 0, window = 0;
    for (const LayerSpec& layer : spec->layers) {
      windowed += layer.sliding_window > 0;
      window = std::max(window, layer.sliding_window);
    }
    if (windowed > 0)
      fmt::print("sliding window  {} tokens in {} of {} layers\n", window, windowed,
                 spec->num_layers);
  }
  fmt::print("tokenizer       {}\n",
             OrWhyNot([&] { return Tokenizer::FromGguf(file)->description(); }));
  fmt::print("chat template   {}\n",
             OrWhyNot([&] { return std::string(ChatTemplate::FromGguf(file).name()); }));
  PrintFormats(file);
  if (flags.metadata) {
    fmt::print("\n");
    for (const auto& [key, value] : file.metadata()) fmt::print("{} = {}\n", key, ValueText(value));
  }
  if (flags.tensors) {
    fmt::print("\n");
    for (const GgufTensor& t : file.tensors()) {
      fmt::print("{:<40} {:<7} [{}]\n", t.name, InfoOf(t.format).name, fmt::join(t.shape, ", "));
    }
  }
  if (!spec) return;
  PrintCacheCosts(spec->kv_geometry());
  if (flags.budget > 0) PrintBudget(spec->kv_geometry(), flags.budget);
  if (const auto calibration =
          FindCalibration(CalibrationFolder(), file.Identity(), spec->kv_geometry())) {
    fmt::print("\n{}", CalibrationTable(*calibration));
  } else {
    fmt::print("\nKeys are not calibrated yet: that is done at the first load.\n");
  }
}

}  // namespace

void AddInspectCommand(Command root) {
  auto flags = std::make_shared<InspectFlags>();
  const Command command =
      root.AddCommand("inspect", "Show a model file and what each cache type would cost in memory");
  command
      .AddOption("-m,--model,model", flags->model,
                 "GGUF file, or a fetched model: " + FetchableModelNames())
      .FromVariable("LLAMA_ARG_MODEL")
      .Required();
  command.AddFlag("--metadata", flags->metadata, "List the metadata");
  command.AddFlag("--tensors", flags->tensors, "List the tensors");
  command
      .AddOption("--cache-budget", flags->budget,
                 "Show what this flag makes of contexts, such as 2GiB")
      .SizeWithUnit();
  command.OnRun([flags] { Inspect(*flags); });
}

}  // namespace tq::app
