// SPDX-License-Identifier: Apache-2.0
// turboquant dump-kv: the queries, keys and values of a model's layers as arrays.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "apps/text_input.h"
#include "lab/npy_file.h"
#include "lab/session_logits.h"

namespace tq::app {
namespace {

namespace fs = std::filesystem;

struct DumpFlags {
  ModelFlags model;
  std::string text_file, folder;
  std::vector<std::string> layers;
  int tokens = 2048;
  bool f16 = false;
};

// "3" or "0-5" each; none: all.
std::vector<bool> ChosenLayers(const std::vector<std::string>& ranges, int num_layers) {
  std::vector<bool> chosen(static_cast<size_t>(num_layers), ranges.empty());
  for (const std::string& range : ranges) {
    const char* const end = range.data() + range.size();
    int first = -1, last = -1;
    auto parsed = std::from_chars(range.data(), end, first);
    last = first;
    if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-')
      parsed = std::from_chars(parsed.ptr + 1, end, last);
    if (parsed.ec != std::errc() || parsed.ptr != end || first < 0 || last < first)
      Throw(ErrorCode::kInvalidArgument, "--layers: \"{}\" is neither LAYER nor FIRST-LAST", range);
    if (last >= num_layers)
      Throw(ErrorCode::kInvalidArgument, "--layers: there is no layer {}; the model has 0 to {}",
            last, num_layers - 1);
    for (int layer = first; layer <= last; ++layer) chosen[static_cast<size_t>(layer)] = true;
  }
  return chosen;
}

// Writes what passes a layer: [T, H, D] of q, [T, G, D] of k and v.
class DumpObserver final : public Observer {
 public:
  DumpObserver(const ModelSpec& spec, const DumpFlags& flags, int64_t tokens) {
    const lab::NpyType type = flags.f16 ? lab::NpyType::kF16 : lab::NpyType::kF32;
    const std::vector<bool> chosen = ChosenLayers(flags.layers, spec.num_layers);
    for (int layer = 0; layer < spec.num_layers; ++layer) {
      if (!chosen[static_cast<size_t>(layer)]) continue;
      for (const char which : {'q', 'k', 'v'}) {
        const int heads = which == 'q' ? spec.q_heads : spec.kv_heads;
        File file{fs::path(flags.folder) / fmt::format("layer-{:02}-{}.npy", layer, which),
                  {tokens, heads, spec.head_dim},
                  nullptr};
        file.writer = std::make_unique<lab::NpyWriter>(file.path, type, file.shape);
        files_[layer].push_back(std::move(file));
      }
    }
  }

  void Layer(int layer, SequenceId, int64_t, MatrixView<float> q, MatrixView<float> k,
             MatrixView<float> v) override {
    const auto found = files_.find(layer);
    if (found == files_.end()) return;
    const MatrixView<float> all[] = {q, k, v};
    for (size_t i = 0; i < std::size(all); ++i) {
      for (int64_t t = 0; t < all[i].rows; ++t)
        found->second[i].writer->Write({all[i].row(t), static_cast<size_t>(all[i].cols)});
    }
  }

  // Gives all files their names and lists them.
  void Finish() {
    Table table({"file", "shape"});
    for (auto& [layer, files] : files_) {
      for (File& file : files) {
        file.writer->Finish();
        table.AddRow({file.path.string(), lab::ShapeText(file.shape)});
      }
    }
    fmt::print("{}", table.Text());
  }

 private:
  struct File {
    fs::path path;
    std::vector<int64_t> shape;
    std::unique_ptr<lab::NpyWriter> writer;
  };
  std::map<int, std::vector<File>> files_;  // by layer: q, k, v
};

void RunDump(const DumpFlags& flags) {
  const std::string text = ReadTextOrBuiltin(flags.text_file);
  const auto engine = LoadEngine(flags.model);
  const ModelSpec& spec = engine->spec();
  std::vector<TokenId> tokens = engine->tokenizer().Encode(text, true, false);
  tokens.resize(std::min(
      {tokens.size(), static_cast<size_t>(flags.tokens), static_cast<size_t>(spec.context)}));
  if (tokens.empty()) Throw(ErrorCode::kInvalidArgument, "the text has no tokens");

  std::error_code error;
  fs::create_directories(flags.folder, error);
  if (error) Throw(ErrorCode::kIo, "cannot make the folder {}: {}", flags.folder, error.message());

  // What a pass leaves to the ones after it is read from an f16 cache, on every device.
  SessionOptions options;
  options.context = std::ssize(tokens);
  options.precision = Precision::kPrecise;
  options.cache = MakePolicy(*engine, "f16", "f16");
  auto observer = std::make_unique<DumpObserver>(spec, flags, std::ssize(tokens));
  DumpObserver& dump = *observer;
  lab::SessionLogits session(engine, options, std::move(observer));
  Progress bar("reading the text", Progress::Unit::kTokens);
  class NoLogits final : public LogitsSink {
    void Rows(int, int, MatrixView<const float>) override {}
  } none;
  const auto pass = static_cast<size_t>(options.chunk);
  for (size_t begin = 0; begin < tokens.size(); begin += pass) {
    ThrowIfInterrupted();
    const size_t count = std::min(pass, tokens.size() - begin);
    session.Feed(std::span(tokens).subspan(begin, count), 0, 0, none);
    bar.Update(begin + count, tokens.size());
  }
  bar.Done();
  dump.Finish();
  fmt::print(
      "\n{} tokens of {}; queries and keys after rotary embedding, scores are {:g} q.k; "
      "numpy.load(FILE)\n",
      tokens.size(), spec.name, spec.attention_scale);
}

}  // namespace

void AddDumpKvCommand(Command root) {
  auto flags = std::make_shared<DumpFlags>();
  const Command command = root.AddCommand(
      "dump-kv", "Write a model's queries, keys and values on a text as .npy files");
  AddModelFlags(command, flags->model);
  command
      .AddOption("-o,--output", flags->folder,
                 "Folder for layer-LL-q.npy [T, H, D], -k.npy and -v.npy [T, G, D]")
      .Required();
  command.AddOption("-f,--file", flags->text_file,
                    "Text instead of the built-in one; -: standard input");
  command.AddOption("-c,--ctx-size", flags->tokens, "Tokens of the text at most")
      .Between(1, 1 << 24)
      .ShowDefault();
  command.AddOption("--layers", flags->layers, "Layers to write, such as 0,5-7 (default: all)")
      .SplitAt(',');
  command.AddFlag("--f16", flags->f16, "Half as large, rounded");
  command.OnRun([flags] { RunDump(*flags); });
}

}  // namespace tq::app
