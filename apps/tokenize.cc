// SPDX-License-Identifier: Apache-2.0
// turboquant tokenize: text to token ids, with the output formats of llama-tokenize.
#include <fmt/format.h>

#include <memory>

#include "apps/commands.h"
#include "apps/fetch_model/model_table.h"
#include "apps/utf8.h"
#include "turboquant/base/error.h"
#include "turboquant/gguf/gguf_file.h"
#include "turboquant/text/tokenizer.h"

namespace tq::app {
namespace {

struct TokenizeFlags {
  std::string model, prompt, file;
  bool standard_input = false, ids_only = false, no_bos = false, no_parse_special = false,
       show_count = false, log_disable = false;
};

// Printable form of a token's bytes: what is no UTF-8 is shown as \xNN.
std::string Shown(const std::string& bytes) {
  std::string text;
  if (!FindInvalidUtf8(bytes)) {
    for (const char c : bytes)
      text += c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : std::string(1, c);
    return text;
  }
  for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

void Tokenize(const TokenizeFlags& flags, bool has_prompt) {
  if (has_prompt + !flags.file.empty() + flags.standard_input != 1) {
    Throw(ErrorCode::kInvalidArgument, "give exactly one text: -p TEXT, -f FILE or --stdin");
  }
  const std::string text =
      has_prompt ? flags.prompt : ReadTextFile(flags.standard_input ? "-" : flags.file);
  RequireUtf8(text, has_prompt             ? "the prompt"
                    : flags.standard_input ? "standard input"
                                           : flags.file);
  const GgufFile file = GgufFile::Open(ResolveModel(flags.model));
  const auto tokenizer = Tokenizer::FromGguf(file);
  const auto ids = tokenizer->Encode(text, !flags.no_bos, !flags.no_parse_special);
  if (flags.ids_only) {
    fmt::print("[{}]\n", fmt::join(ids, ", "));
  } else {
    for (const TokenId id : ids)
      fmt::print("{:6} -> '{}'\n", id, Shown(tokenizer->TokenBytes(id, true)));
  }
  if (flags.show_count) fmt::print("Total number of tokens: {}\n", ids.size());
}

}  // namespace

void AddTokenizeCommand(Command root) {
  auto flags = std::make_shared<TokenizeFlags>();
  const Command command = root.AddCommand("tokenize", "Show the tokens of a text");
  command
      .AddOption("-m,--model", flags->model,
                 "GGUF file, or a fetched model: " + FetchableModelNames())
      .FromVariable("LLAMA_ARG_MODEL")
      .Required();
  const Option prompt = command.AddOption("-p,--prompt", flags->prompt, "Text");
  command.AddOption("-f,--file", flags->file, "File with the text");
  command.AddFlag("--stdin", flags->standard_input, "Text from standard input");
  command.AddFlag("--ids", flags->ids_only, "Only the ids, as a list [1, 2, 3]");
  command.AddFlag("--no-bos", flags->no_bos,
                  "Do not add the tokens that the model wants around a text");
  command.AddFlag("--no-parse-special", flags->no_parse_special,
                  "Special tokens written in the text stay text");
  command.AddFlag("--show-count", flags->show_count, "Print how many there are");
  command.AddFlag("--log-disable", flags->log_disable, "Accepted; there is no log");
  command.OnRun([flags, prompt] { Tokenize(*flags, prompt.IsGiven()); });
}

}  // namespace tq::app
