// SPDX-License-Identifier: Apache-2.0
#include "lab/bench.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>

#include "turboquant/base/random.h"

namespace tq::lab {
namespace {

// A backend may prepare for a kind of step when it comes again: CUDA's graphs are ready for the
// third.
constexpr int kWarmUpSteps = 3;

std::vector<TokenId> RandomTokens(Random& random, int count, int vocabulary) {
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens)
    token = static_cast<TokenId>(random.Next() % static_cast<uint64_t>(vocabulary));
  return tokens;
}

}  // namespace

BenchResult RunBench(std::shared_ptr<const Engine> engine, const BenchCase& test,
                     const BenchOptions& options) {
  BenchResult result;
  result.test = test;
  result.test_time = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)));
  const int vocabulary = engine->spec().vocabulary;
  SessionOptions session_options = options.session;
  session_options.context = test.n_depth + test.n_prompt + test.n_gen;
  session_options.chunk = std::min(test.n_batch, test.n_ubatch);
  Session session(engine, session_options);
  Random random(42);
  const auto check = [&](int64_t, int64_t) {
    if (options.on_progress)
      options.on_progress(static_cast<int>(result.samples_ns.size()), options.repetitions);
  };
  // As generation does that takes the most likely token: it is chosen where the logits are.
  const auto generate = [&](int count) {
    for (int i = 0; i < count; ++i) {
      check(0, 0);
      session.AppendGreedy(RandomTokens(random, 1, vocabulary), vocabulary);
    }
  };
  // The depth is filled once; each repetition goes back to it.
  if (test.n_depth > 0) session.Append(RandomTokens(random, test.n_depth, vocabulary), check);
  const auto run = [&] {
    if (test.n_prompt > 0) session.Append(RandomTokens(random, test.n_prompt, vocabulary), check);
    generate(test.n_gen);
    engine->backend().Finish();
  };
  const auto rewind = [&] { test.n_depth > 0 ? session.Truncate(test.n_depth) : session.Clear(); };
  if (options.warm_up) {
    if (test.n_prompt > 0)
      session.Append(
          RandomTokens(random, std::min(test.n_prompt, session_options.chunk), vocabulary));
    generate(std::min(test.n_gen, kWarmUpSteps));
    rewind();
  }
  for (int i = 0; i < options.repetitions; ++i) {
    check(0, 0);
    if (i > 0) rewind();
    // What rewinding computes again goes on on a GPU: it belongs to no repetition.
    engine->backend().Finish();
    const auto start = std::chrono::steady_clock::now();
    run();
    const auto taken = std::chrono::steady_clock::now() - start;
    result.samples_ns.push_back(
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()));
  }
  const KvGeometry geometry = engine->spec().kv_geometry();
  result.kv_bytes_per_token = static_cast<double>(
      KvCache::BytesPerToken(geometry, session_options.cache, session_options.context));
  result.kv_bits_per_value =
      KvCache::BitsPerValue(geometry, session_options.cache, session_options.context);
  result.kv_bytes_total = session.cache().Memory().used_bytes;
  return result;
}

}  // namespace tq::lab
