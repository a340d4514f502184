// SPDX-License-Identifier: Apache-2.0
// Random models of a few hundred kilobytes with a tokenizer, written to a file and loaded: sessions
// are tested on them in milliseconds.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "turboquant/engine/session.h"

namespace tq::test {

struct TinyModel {
  std::string architecture = "llama";  // "gemma3": five layers of sliding window 700, one global
  std::string name = "tiny";           // part of the model's identity
  uint64_t seed = 1;
};

// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

std::shared_ptr<const Engine> LoadTinyEngine(const TinyModel& model = {}, int threads = 1);

// Types for all layers, exact prefill and f32 products.
SessionOptions ExactOptions(const Engine& engine, std::string_view type_k, std::string_view type_v,
                            int64_t context = 2048);

std::vector<TokenId> RandomTokens(const Engine& engine, int64_t count, uint64_t seed);

using Logits = std::vector<float>;
inline Logits Append(Session& session, std::span<const TokenId> tokens) {
  const std::span<const float> logits = session.Append(tokens);
  return {logits.begin(), logits.end()};
}
TokenId Greedy(std::span<const float> logits);
// Greedy decoding of `count` tokens on from `logits`: the logits after each.
std::vector<Logits> Decode(Session& session, Logits logits, int count);

// |a - b| / |b| over all values.
double RelativeError(std::span<const float> a, std::span<const float> b);

}  // namespace tq::test
