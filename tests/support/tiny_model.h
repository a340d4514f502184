// SPDX-License-Identifier: Apache-2.0
// Small random models that every layer of TurboQuant loads: for tests that need a model but no
// download. The same options give the same bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "turboquant/gguf/gguf_file.h"
#include "turboquant/gguf/gguf_writer.h"

namespace tq::test {

enum class TinyRope { kPlain, kLinear, kYarn, kLlama3 };

struct TinyModel {
  std::string architecture = "llama";  // "llama", "qwen2" (biases), "qwen3", "gemma3"
  uint64_t seed = 1;
  int layers = 2;          // L; gemma3: every sixth is global
  int embedding = 64;      // E
  int feed_forward = 96;   // F
  int q_heads = 4;         // H
  int kv_heads = 2;        // G
  int head_dim = 64;       // D, need not be E / H
  int rotary_dim = 0;      // leading dims that RoPE turns; 0 = D
  int context = 4096;      // what the file says it was trained for
  int sliding_window = 0;  // gemma3 only, where it must be set
  bool tied_output = true;
  double key_bias = 0.5;                       // size of the biases of keys (qwen2)
  BlockFormat matrices = BlockFormat::kF32;    // every format works; rows must be whole blocks
  BlockFormat embeddings = BlockFormat::kF32;  // and output.weight
  TinyRope rope = TinyRope::kPlain;
  bool chat_template = true;  // ChatML

  // For tests of refusals.
  std::map<std::string, GgufOutValue> metadata;         // keys that are replaced or added
  std::set<std::string> omit;                           // keys and tensors that are left out
  std::map<std::string, std::vector<uint64_t>> shapes;  // of tensors, instead of the right ones
};

// A model of `architecture` with everything that is special about it: gemma3 gets 7 layers, a
// window of 32 and heads of 96.
TinyModel TinyModelOf(const std::string& architecture);

GgufWriter MakeTinyModel(const TinyModel& model);
std::filesystem::path WriteTinyModel(const TinyModel& model, const std::filesystem::path& path);

// The model in memory.
class TinyModelFile {
 public:
  explicit TinyModelFile(const TinyModel& model)
      : bytes_(MakeTinyModel(model).Serialize()), file_(GgufFile::Parse(bytes_, "tiny.gguf")) {}
  const GgufFile& operator*() const { return file_; }
  const GgufFile* operator->() const { return &file_; }

 private:
  std::vector<std::byte> bytes_;
  GgufFile file_;
};

}  // namespace tq::test
