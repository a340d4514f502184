// SPDX-License-Identifier: Apache-2.0
// Model files of any bytes: parsed or refused with tq::Error, never more. What parses is used as a
// model: tensors decoded, tokenizer and template read, weights loaded, three tokens run.
#include <algorithm>
#include <functional>

#include "turboquant/base/error.h"
#include "turboquant/gguf/dequantize.h"
#include "turboquant/gguf/gguf_file.h"
#include "turboquant/model/decoder.h"
#include "turboquant/text/chat_template.h"
#include "turboquant/text/tokenizer.h"

namespace tq {
namespace {

void UnlessRefused(const std::function<void()>& use) {
  try {
    use();
  } catch (const Error&) {
  }
}

// The first and the last block.
void DecodeEnds(const GgufTensor& tensor) {
  const BlockFormatInfo& info = InfoOf(tensor.format);
  float values[256];
  TQ_CHECK(tensor.data.size() >= info.bytes_per_block);
  for (const auto& block :
       {tensor.data.first(info.bytes_per_block), tensor.data.last(info.bytes_per_block)}) {
    DequantizeRow(tensor.format, block.data(), info.values_per_block, values);
  }
}

class NoLogits : public LogitsSink {
 public:
  void Rows(int, int, MatrixView<const float>) override {}
};

void RunModel(const GgufFile& file) {
  static const std::unique_ptr<Backend> backend = MakeBackend({.device = "cpu", .threads = 1});
  const ModelSpec spec = ReadModelSpec(file);
  const Weights weights = LoadWeights(file, spec, *backend);
  CachePolicy policy;
  policy.k.assign(static_cast<size_t>(spec.num_layers), Codec::kF16);
  policy.v = policy.k;
  KvCache cache(spec.kv_geometry(), policy, backend->MakeArenaMemory(uint64_t{1} << 30), 0);
  const int32_t last = spec.vocabulary - 1;
  const int32_t tokens[] = {0, last, last / 2};
  NoLogits sink;
  StepPlan plan;
  plan.spans = {{.sequence = cache.NewSequence(), .tokens = tokens}};
  plan.sink = &sink;
  Decoder(spec, weights, *backend).Forward(plan, cache);
}

void Use(const GgufFile& file) {
  for (const GgufTensor& tensor : file.tensors()) {
    TQ_CHECK(file.FindTensor(tensor.name) == &tensor);
    DecodeEnds(tensor);
  }
  file.Identity();
  UnlessRefused([&] { Tokenizer::FromGguf(file)->Encode("hello, world", true, true); });
  UnlessRefused([&] { ChatTemplate::FromGguf(file); });
  UnlessRefused([&] { RunModel(file); });
}

}  // namespace
}  // namespace tq

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tq::UnlessRefused(
      [&] { tq::Use(tq::GgufFile::Parse(std::as_bytes(std::span(data, size)), "fuzz")); });
  return 0;
}
