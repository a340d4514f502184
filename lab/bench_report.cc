// SPDX-License-Identifier: Apache-2.0
#include "lab/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace tq::lab {
namespace {

struct Column {
  const char* title;
  int width;  // negative: to the left
};
constexpr std::array kColumns = {Column{"model", -30},   Column{"size", 10},   Column{"params", 10},
                                 Column{"backend", -10}, Column{"threads", 7}, Column{"type_k", 6},
                                 Column{"type_v", 6},    Column{"test", 15},   Column{"t/s", 20}};
constexpr size_t kTypeK = 5, kTypeV = 6;

// Pads by code points: "±" takes one column.
std::string Padded(const std::string& text, int width) {
  const auto length =
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  const std::string blanks(static_cast<size_t>(std::max<long>(0, std::abs(width) - length)), ' ');
  return width < 0 ? text + blanks : blanks + text;
}

std::string SizeText(uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 1024 ? fmt::format("{:.2f} MiB", mib) : fmt::format("{:.2f} GiB", mib / 1024);
}

std::string ParametersText(uint64_t n) {
  const auto millions = static_cast<double>(n) / 1e6;
  return millions < 1000 ? fmt::format("{:.2f} M", millions)
                         : fmt::format("{:.2f} B", millions / 1000);
}

std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

}  // namespace

BenchReport::BenchReport(BenchFormat format, BenchMachine machine, bool show_types)
    : format_(format), machine_(std::move(machine)), show_types_(show_types) {}

std::string BenchReport::Header() const {
  if (format_ == BenchFormat::kJson) return "[\n";
  if (format_ != BenchFormat::kMarkdown) return "";  // CSV: with the first row, whose keys it names
  std::string titles = "|", rule = "|";
  for (size_t c = 0; c < kColumns.size(); ++c) {
    if (!show_types_ && (c == kTypeK || c == kTypeV)) continue;
    const int width = kColumns[c].width;
    titles += " " + Padded(kColumns[c].title, width) + " |";
    rule += " " + std::string(static_cast<size_t>(std::abs(width) - 1), '-') +
            (width > 0 ? ":" : "-") + " |";
  }
  return titles + "\n" + rule + "\n";
}

std::string BenchReport::Row(const BenchResult& result) {
  const MeanAndDeviation rate = Summarise(result.TokensPerSecond());
  if (format_ == BenchFormat::kMarkdown) {
    const std::array<std::string, kColumns.size()> cells = {
        machine_.model_type,
        SizeText(machine_.model_size),
        ParametersText(machine_.model_n_params),
        machine_.backend,
        fmt::format("{}", machine_.n_threads),
        result.test.type_k,
        result.test.type_v,
        result.test.Name(),
        fmt::format("{:.2f} ± {:.2f}", rate.mean, rate.deviation)};
    std::string line = "|";
    for (size_t c = 0; c < cells.size(); ++c) {
      if (!show_types_ && (c == kTypeK || c == kTypeV)) continue;
      line += " " + Padded(cells[c], kColumns[c].width) + " |";
    }
    return line + "\n";
  }
  const auto fields = Fields(result);
  std::string text;
  if (format_ == BenchFormat::kCsv) {
    const auto quote = [](std::string value) {
      if (value.size() >= 2 && value.front() == '"') value = value.substr(1, value.size() - 2);
      std::string doubled;
      for (const char c : value) doubled += c == '"' ? "\"\"" : std::string(1, c);
      return "\"" + doubled + "\"";
    };
    std::string header;
    for (const auto& [key, value] : fields) {
      if (key.starts_with("samples")) continue;
      header += (header.empty() ? "" : ",") + key;
      text += (text.empty() ? "" : ",") + quote(value);
    }
    text = (rows_ == 0 ? header + "\n" : "") + text + "\n";
  } else {
    const bool lines = format_ == BenchFormat::kJsonLines;
    for (const auto& [key, value] : fields) {
      text += (text.empty() ? ""
               : lines      ? ", "
                            : ",\n") +
              fmt::format("{}\"{}\": {}", lines ? "" : "    ", key, value);
    }
    text =
        lines ? "{" + text + "}\n" : fmt::format("{}  {{\n{}\n  }}", rows_ > 0 ? ",\n" : "", text);
  }
  ++rows_;
  return text;
}

std::string BenchReport::Footer() const {
  if (format_ == BenchFormat::kJson) return "\n]\n";
  return format_ == BenchFormat::kMarkdown ? fmt::format("\nbuild: {} (0)\n", machine_.build_commit)
                                           : "";
}

std::vector<std::pair<std::string, std::string>> BenchReport::Fields(const BenchResult& r) const {
  std::vector<double> times(r.samples_ns.begin(), r.samples_ns.end());
  const std::vector<double> rates = r.TokensPerSecond();
  const MeanAndDeviation time = Summarise(times), rate = Summarise(rates);
  const auto number = [](auto value) { return fmt::format("{}", value); };
  return {
      {"build_commit", Quoted(machine_.build_commit)},
      {"build_number", "0"},
      {"cpu_info", Quoted(machine_.cpu_info)},
      {"gpu_info", Quoted(machine_.gpu_info)},
      {"backends", Quoted(machine_.backend)},
      {"model_filename", Quoted(machine_.model_filename)},
      {"model_type", Quoted(machine_.model_type)},
      {"model_size", number(machine_.model_size)},
      {"model_n_params", number(machine_.model_n_params)},
      {"n_batch", number(r.test.n_batch)},
      {"n_ubatch", number(r.test.n_ubatch)},
      {"n_threads", number(machine_.n_threads)},
      {"type_k", Quoted(r.test.type_k)},
      {"type_v", Quoted(r.test.type_v)},
      {"n_gpu_layers", machine_.gpu_info.empty() ? "0" : "-1"},
      {"flash_attn", "true"},
      {"use_mmap", "true"},
      {"n_prompt", number(r.test.n_prompt)},
      {"n_gen", number(r.test.n_gen)},
      {"n_depth", number(r.test.n_depth)},
      {"test_time", Quoted(r.test_time)},
      {"avg_ns", fmt::format("{:.0f}", time.mean)},
      {"stddev_ns", fmt::format("{:.0f}", time.deviation)},
      {"avg_ts", fmt::format("{:.6f}", rate.mean)},
      {"stddev_ts", fmt::format("{:.6f}", rate.deviation)},
      {"kv_bytes_per_token", fmt::format("{:.0f}", r.kv_bytes_per_token)},
      {"kv_bits_per_value", fmt::format("{:.4f}", r.kv_bits_per_value)},
      {"kv_bytes_total", number(r.kv_bytes_total)},
      {"samples_ns", fmt::format("[ {} ]", fmt::join(r.samples_ns, ", "))},
      {"samples_ts", fmt::format("[ {:.3f} ]", fmt::join(rates, ", "))},
  };
}

}  // namespace tq::lab
