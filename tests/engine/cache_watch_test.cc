// SPDX-License-Identifier: Apache-2.0
// The watch reports a model whose keys the cache breaks, leaves a healthy one in peace, and changes
// nothing of what is computed.
#include "turboquant/engine/cache_watch.h"

#include <gmock/gmock.h>

#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"
#include "turboquant/base/random.h"
#include "turboquant/engine/session.h"

namespace tq::test {
namespace {

using testing_support::TempFolder;

// Measured with 3-bit keys: heads' outputs are off by 57 to 89 % then, by 3 to 12 % with usual
// biases.
constexpr double kHugeBias = 120;

std::shared_ptr<const Engine> Load(double key_bias) {
  const TempFolder folder;
  TinyModel model = TinyModelOf("qwen2");
  model.layers = 3;
  model.key_bias = key_bias;
  EngineOptions options;
  options.model = WriteTinyModel(model, folder.path() / "tiny.gguf");
  options.backend.threads = 1;
  return Engine::Load(options);
}

SessionOptions Watched(const Engine& engine, const char* type_k = "turbo4",
                       const char* type_v = "turbo3") {
  SessionOptions options;
  options.cache = MakePolicy(engine, type_k, type_v);
  options.context = 2048;
  options.cache_watch.on = true;
  return options;
}

std::vector<TokenId> Tokens(int64_t count, uint64_t seed = 1) {
  Random random(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens) token = static_cast<TokenId>(random.Next() % 256);
  return tokens;
}

TEST(CacheWatchTest, AHealthyModelIsNotReported) {
  const auto engine = Load(0.5);
  SessionOptions options = Watched(*engine);
  options.cache_watch.on_broken = [](const CacheDrift&) { FAIL(); };
  Session session(engine, options);
  session.Append(Tokens(800));
  const CacheDrift drift = session.cache_watch()->drift();
  ASSERT_EQ(drift.heads.size(), 3u);
  for (const HeadDrift& head : drift.heads) {
    EXPECT_EQ(head.drift.queries, 8 * 2);  // the last tokens of the prompt, two queries per KV head
    EXPECT_GT(head.drift.RelativeError(), 0.01);
  }
  EXPECT_LT(drift.all.RelativeError(), 0.4);
  EXPECT_FALSE(drift.broken);
}

TEST(CacheWatchTest, KeysThatBreakTheCacheAreReportedOnce) {
  const auto engine = Load(kHugeBias);
  SessionOptions options = Watched(*engine, "turbo3");
  int reports = 0;
  options.cache_watch.on_broken = [&](const CacheDrift& drift) {
    ++reports;
    ASSERT_GE(drift.worst, 0);
    EXPECT_GT(drift.heads[static_cast<size_t>(drift.worst)].drift.RelativeError(), 0.5);
  };
  Session session(engine, options);
  session.Append(Tokens(600));
  EXPECT_EQ(reports, 1);
  session.Append(Tokens(200, 2));
  EXPECT_EQ(reports, 1);
  EXPECT_TRUE(session.cache_watch()->drift().broken);
}

TEST(CacheWatchTest, WhatTheWarningAdvisesHelps) {
  const auto engine = Load(kHugeBias);
  Session broken(engine, Watched(*engine, "turbo3")),
      cured(engine, Watched(*engine, "turbo8", "turbo3"));
  broken.Append(Tokens(800));
  cured.Append(Tokens(800));
  EXPECT_LT(cured.cache_watch()->drift().all.RelativeError(),
            0.5 * broken.cache_watch()->drift().all.RelativeError());
  EXPECT_FALSE(cured.cache_watch()->drift().broken);
}

TEST(CacheWatchTest, DecodingSamplesOneHeadAtATime) {
  const auto engine = Load(0.5);
  SessionOptions options = Watched(*engine);
  options.cache_watch.every = 4;
  Session session(engine, options);
  session.Append(Tokens(700));
  const int64_t before = session.cache_watch()->drift().all.queries;
  for (const TokenId token : Tokens(13)) session.Append({&token, 1});
  EXPECT_EQ(session.cache_watch()->drift().all.queries, before + 3 * 2);
}

TEST(CacheWatchTest, ChangesNothing) {
  const auto engine = Load(0.5);
  SessionOptions options = Watched(*engine);
  options.chunk = 128;
  options.cache_watch.every = 1;
  Session watched(engine, options);
  options.cache_watch.on = false;
  Session plain(engine, options);
  EXPECT_EQ(plain.cache_watch(), nullptr);
  for (const auto& tokens : {Tokens(500), Tokens(1, 2), Tokens(1, 3), Tokens(300, 4)}) {
    const auto a = watched.Append(tokens), b = plain.Append(tokens);
    EXPECT_TRUE(std::ranges::equal(a, b));
  }
}

TEST(CacheWatchTest, EveryPageHasItsCopyWhateverTheChunk) {
  const auto engine = Load(0.5);
  for (const int chunk : {1, 100, 512}) {
    SessionOptions options = Watched(*engine);
    options.chunk = chunk;
    Session session(engine, options);
    session.Append(Tokens(1100));
    const uint64_t head_bytes = session.cache().View(session.main_sequence(), 0).open.head_bytes;
    // Eight full pages; the first stays at 8 bits anyhow.
    EXPECT_EQ(session.cache_watch()->drift().copy_bytes, 3 * 7 * head_bytes) << chunk;
    session.Truncate(700);  // recomputes some, and copies them again
    EXPECT_EQ(session.cache_watch()->drift().copy_bytes, 3 * 4 * head_bytes) << chunk;
    session.Append(Tokens(500, 2));
    EXPECT_EQ(session.cache_watch()->drift().copy_bytes, 3 * 8 * head_bytes) << chunk;
    session.Clear();
    EXPECT_EQ(session.cache_watch()->drift().copy_bytes, 0u) << chunk;
  }
}

TEST(CacheWatchTest, CopiesStayWithinTheirMemory) {
  const auto engine = Load(0.5);
  SessionOptions options = Watched(*engine);
  options.cache_watch.max_copy_bytes = 600 << 10;  // of 16 pages: two heads
  Session session(engine, options);
  session.Append(Tokens(2000));
  const CacheDrift drift = session.cache_watch()->drift();
  ASSERT_EQ(drift.heads.size(), 2u);
  EXPECT_EQ(drift.heads[0].layer, 0);
  EXPECT_EQ(drift.heads[1].layer, 2);
  EXPECT_LE(drift.copy_bytes, options.cache_watch.max_copy_bytes);
}

TEST(CacheWatchTest, NothingToWatchWhereNothingIsCompressed) {
  const auto engine = Load(0.5);
  for (const char* type : {"f16", "turbo8"}) {
    Session session(engine, Watched(*engine, type, type));
    session.Append(Tokens(700));
    EXPECT_TRUE(session.cache_watch()->drift().heads.empty()) << type;
    EXPECT_EQ(session.cache_watch()->drift().worst, -1);
  }
}

TEST(CacheWatchTest, SlidingLayersKeepCopiesOfWhatTheySee) {
  const TempFolder folder;
  TinyModel model = TinyModelOf("gemma3");
  model.sliding_window = 800;
  EngineOptions load;
  load.model = WriteTinyModel(model, folder.path() / "tiny.gguf");
  load.backend.threads = 1;
  const auto engine = Engine::Load(load);
  Session session(engine, Watched(*engine));
  session.Append(Tokens(1500));
  const CacheDrift drift = session.cache_watch()->drift();
  ASSERT_EQ(drift.heads.size(), 7u);
  const uint64_t head_bytes = session.cache().View(session.main_sequence(), 0).open.head_bytes;
  EXPECT_EQ(drift.copy_bytes, (6 * 6 + 10) * head_bytes);  // pages from 700 on; all but the first
  for (const HeadDrift& head : drift.heads) EXPECT_GT(head.drift.queries, 0) << head.layer;
}

}  // namespace
}  // namespace tq::test
