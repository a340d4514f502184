// SPDX-License-Identifier: Apache-2.0
// Any bytes become tokens and come back; special tokens in them change nothing of that.
#include "tests/support/tiny_vocabulary.h"
#include "turboquant/base/error.h"
#include "turboquant/text/tokenizer.h"

namespace {

template <typename Fill>
std::unique_ptr<const tq::Tokenizer> Make(const Fill& fill) {
  tq::GgufWriter writer;
  fill(writer);
  return tq::Tokenizer::FromGguf(tq::GgufFile::Parse(writer.Serialize(), "fuzz"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tq::testing_support;
  static const std::unique_ptr<const tq::Tokenizer> tokenizers[] = {
      Make([](tq::GgufWriter& w) { SetTinyBpe(w, "gpt-2"); }),
      Make([](tq::GgufWriter& w) { SetTinyBpe(w, "smollm"); }),
      Make([](tq::GgufWriter& w) { SetTinyBpe(w, "qwen2"); }),
      Make([](tq::GgufWriter& w) { SetTinyBpe(w, "llama-bpe"); }),
      Make([](tq::GgufWriter& w) { SetTinySentencePiece(w, false); }),
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // SentencePiece writes a space as U+2581, so it cannot tell the two apart.
  const bool has_stand_in = text.find("\u2581") != std::string_view::npos;
  for (const auto& tokenizer : tokenizers) {
    for (const bool parse_special : {false, true}) {
      const auto ids = tokenizer->Encode(text, false, parse_special);
      TQ_CHECK(has_stand_in || tokenizer->Decode(ids, true) == text);
    }
  }
  tq::Utf8Stream stream;
  std::string streamed = stream.Push(text.substr(0, size / 2));
  streamed += stream.Push(text.substr(size / 2));
  streamed += stream.Flush();
  tq::Utf8Stream whole;
  std::string at_once = whole.Push(text);
  at_once += whole.Flush();
  TQ_CHECK(streamed == at_once);
  return 0;
}
