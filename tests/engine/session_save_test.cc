// SPDX-License-Identifier: Apache-2.0
// Sessions in files: going on where they stopped, to the bit; whatever is wrong with a file or a
// disk is said, and costs neither the session nor the previous file.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "tests/engine/tiny_engine.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/engine/sampler.h"
#include "turboquant/kv/session_file.h"

namespace tq::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void WriteAll(const fs::path& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

class SessionSaveTest : public testing::Test {
 protected:
  Session Make(std::string_view type_k = "turbo4", std::string_view type_v = "turbo3") const {
    return Session(engine_, ExactOptions(*engine_, type_k, type_v));
  }
  void SaveOne(int64_t length) const {
    Session session = Make();
    Append(session, RandomTokens(*engine_, length, 1));
    session.Save(file_);
  }
  // What restoring the file into `session` says; the session must not notice.
  std::string RestoreError(Session& session, ErrorCode code) const {
    const std::vector<TokenId> tokens = session.tokens();
    const KvMemory before = session.cache().Memory();
    std::string message = "it was accepted";
    try {
      session.Restore(file_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(file_.string()));
      message = error.what();
    }
    EXPECT_EQ(session.tokens(), tokens);
    EXPECT_EQ(session.cache().Length(session.main_sequence()), session.length());
    EXPECT_EQ(session.cache().Memory().used_bytes, before.used_bytes);
    return message;
  }
  std::string RestoreError(ErrorCode code) const {
    Session session = Make();
    Append(session, RandomTokens(*engine_, 10, 2));
    return RestoreError(session, code);
  }

  TemporaryFolder folder_;
  fs::path file_ = folder_ / "a.session";
  std::shared_ptr<const Engine> engine_ = LoadTinyEngine();
};

TEST_F(SessionSaveTest, RestoredSessionsGoOnToTheBit) {
  for (const char* architecture : {"llama", "gemma3"}) {
    const auto engine = LoadTinyEngine({.architecture = architecture});
    for (const char* type : {"turbo4", "turbo2", "f16"}) {
      for (const int64_t length : {1, 128, 300, 511}) {
        SCOPED_TRACE(testing::Message() << architecture << " " << type << " " << length);
        const SessionOptions options = ExactOptions(*engine, type, "turbo3");
        Session straight(engine, options);
        Logits logits = Append(straight, RandomTokens(*engine, length, 3));
        logits = Decode(straight, logits, 20).back();
        straight.Save(file_);
        const std::vector<TokenId> tokens = straight.tokens();
        const std::vector<Logits> expected = Decode(straight, logits, 40);

        Session restored(engine, options);
        Append(restored, RandomTokens(*engine, 50, 4));  // replaced
        EXPECT_TRUE(restored.Restore(file_).empty());
        EXPECT_EQ(restored.tokens(), tokens);
        EXPECT_TRUE(Decode(restored, logits, 40) == expected);

        // The logits of the last token come again by going back over it.
        restored.Restore(file_);
        restored.Truncate(restored.length() - 1);
        EXPECT_TRUE(Append(restored, {&tokens.back(), 1}) == logits);
      }
    }
  }
}

TEST_F(SessionSaveTest, SamplingGoesOnWithTheSamplersState) {
  SamplerSpec spec;
  spec.temperature = 1.5f;
  spec.repeat_penalty = 1.3f;
  spec.seed = 42;
  Session session = Make();
  Sampler sampler(spec);
  Logits logits = Append(session, RandomTokens(*engine_, 200, 5));
  const auto sample = [](Session& s, Sampler& by, Logits& from, int count) {
    for (int i = 0; i < count; ++i) {
      const TokenId token = by.Sample(from);
      by.Accept(token);
      from = Append(s, {&token, 1});
    }
  };
  sample(session, sampler, logits, 30);
  session.Save(file_, sampler.SaveState());
  Logits restored_logits = logits;
  sample(session, sampler, logits, 100);

  Session restored = Make();
  spec.seed = 7;  // what counts is the state
  Sampler restored_sampler(spec);
  restored_sampler.RestoreState(restored.Restore(file_));
  sample(restored, restored_sampler, restored_logits, 100);
  EXPECT_EQ(restored.tokens(), session.tokens());
}

TEST_F(SessionSaveTest, RollbackReachesBackOverARestore) {
  Session session = Make();
  const Logits logits = Append(session, RandomTokens(*engine_, 380, 6));
  const std::vector<Logits> expected = Decode(session, logits, 50);
  session.Save(file_);
  Session restored = Make();
  restored.Restore(file_);
  restored.Truncate(380);
  EXPECT_EQ(restored.length(), 380);
  EXPECT_TRUE(Decode(restored, logits, 50) == expected);
}

TEST_F(SessionSaveTest, AnEmptySessionCanBeSaved) {
  Make().Save(file_);
  Session session = Make();
  Append(session, RandomTokens(*engine_, 10, 1));
  session.Restore(file_);
  EXPECT_EQ(session.length(), 0);
}

TEST_F(SessionSaveTest, WhatDiffersIsNamed) {
  EXPECT_THAT(RestoreError(ErrorCode::kNotFound), HasSubstr("No such file"));
  SaveOne(300);
  const std::string good = ReadAll(file_);

  const auto other = LoadTinyEngine({.name = "another"});
  Session of_another_model(other, ExactOptions(*other, "turbo4", "turbo3"));
  EXPECT_THAT(RestoreError(of_another_model, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("model"), HasSubstr("in use here")));

  Session of_other_types = Make("turbo3:0,turbo4:1");
  EXPECT_THAT(RestoreError(of_other_types, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("key cache type turbo4"), HasSubstr("turbo3:0,turbo4:1")));
  Session of_other_values = Make("turbo4", "q8_0");
  EXPECT_THAT(RestoreError(of_other_values, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("value cache type turbo3"), HasSubstr("q8_0")));

  SessionOptions options = ExactOptions(*engine_, "turbo4", "turbo3");
  options.cache.window = 256;
  Session of_other_window(engine_, options);
  EXPECT_THAT(RestoreError(of_other_window, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("cache window 128"), HasSubstr("256")));

  options = ExactOptions(*engine_, "turbo4", "turbo3", 299);
  Session too_short(engine_, options);
  Append(too_short, RandomTokens(*engine_, 200, 2));
  EXPECT_THAT(RestoreError(too_short, ErrorCode::kInvalidArgument),
              AllOf(HasSubstr("300 tokens"), HasSubstr("context is 299")));

  std::string bytes = good;
  bytes[offsetof(SessionPreamble, version)] = 9;
  WriteAll(file_, bytes);
  EXPECT_THAT(RestoreError(ErrorCode::kUnsupported),
              AllOf(HasSubstr("version 9"), HasSubstr("version 3")));
  WriteAll(file_, "{\"a session\": \"of another program, long enough to hold a whole header\"}");
  EXPECT_THAT(RestoreError(ErrorCode::kCorruptFile), HasSubstr("no TurboQuant session file"));
}

TEST_F(SessionSaveTest, DamageIsNoticedAndCostsNothing) {
  SaveOne(450);
  const std::string good = ReadAll(file_);
  Session session = Make();
  const Logits logits = Append(session, RandomTokens(*engine_, 350, 7));
  Random random(8);
  const auto message_of = [&](std::string_view bytes) {
    WriteAll(file_, bytes);
    try {
      session.Restore(file_);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  for (int i = 0; i < 400; ++i) {
    // All over the file; the head, which is small, more often.
    const size_t place =
        i < 200 ? static_cast<size_t>(i) * good.size() / 200 : random.Next() % 4096;
    std::string bytes = good;
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << (random.Next() % 8)));
    ASSERT_THAT(message_of(bytes), HasSubstr(file_.string())) << "byte " << place;
  }
  for (int i = 0; i < 50; ++i) {
    const size_t size = random.Next() % (i < 25 ? 4096 : good.size());
    ASSERT_THAT(message_of(good.substr(0, size)),
                testing::AnyOf(HasSubstr("truncated"), HasSubstr("too few")));
  }
  std::string bytes = good;
  bytes[good.size() - 100] ^= 1;
  EXPECT_THAT(message_of(bytes),
              AllOf(HasSubstr("damaged"), HasSubstr("page"), HasSubstr("checksum")));

  // Still the session that it was.
  Session straight = Make();
  const std::vector<Logits> expected =
      Decode(straight, Append(straight, RandomTokens(*engine_, 350, 7)), 50);
  EXPECT_TRUE(Decode(session, logits, 50) == expected);
}

TEST_F(SessionSaveTest, AFullDiskKeepsThePreviousFile) {
  SaveOne(200);
  const std::string before = ReadAll(file_);
  Session session = Make();
  const Logits logits = Append(session, RandomTokens(*engine_, 1500, 9));
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = before.size() + 1000;
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::string message = "it was saved";
  try {
    session.Save(file_);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, AllOf(HasSubstr(file_.string()), HasSubstr("File too large")));
  EXPECT_EQ(ReadAll(file_), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(file_.parent_path()), {}), 1);
  session.Save(file_);  // there is room again
  Session restored = Make();
  restored.Restore(file_);
  EXPECT_TRUE(Decode(restored, logits, 10) == Decode(session, logits, 10));
}

// A writer killed at any moment leaves a file that some Save had finished.
TEST_F(SessionSaveTest, KillingTheWriterLosesNothing) {
  SaveOne(40);
  Random random(10);
  for (int round = 0; round < 20; ++round) {
    int saved[2];
    ASSERT_EQ(pipe(saved), 0);
    const pid_t child = fork();  // the engine has one thread: the child may use it
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        Session session = Make();
        for (uint64_t n = 0;; ++n) {
          if (session.length() >= 800) session.Clear();
          Append(session, RandomTokens(*engine_, 40, n));
          session.Save(file_);
          if (n == 0 && write(saved[1], "", 1) != 1) _exit(4);
        }
      } catch (...) {
        _exit(3);
      }
    }
    close(saved[1]);
    char byte;
    ASSERT_EQ(read(saved[0], &byte, 1), 1);  // it has saved once
    usleep(static_cast<useconds_t>(random.Next() % 30000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    close(saved[0]);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    Session session = Make();
    session.Restore(file_);  // throws if it is lost
    ASSERT_GT(session.length(), 0);
    EXPECT_EQ(session.length() % 40, 0);
    Append(session, RandomTokens(*engine_, 5, 1));
  }
}

}  // namespace
}  // namespace tq::test
