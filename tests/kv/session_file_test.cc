// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/session_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/kv_driver.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

namespace fs = std::filesystem;
using enum Codec;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kModel = 0x1234;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void WriteAll(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}
std::vector<std::byte> Bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class SessionFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tq_session_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    file_ = folder_ / "a.session";
  }
  void TearDown() override { fs::remove_all(folder_); }

  static KvGeometry Geometry() { return TestGeometry({0, 200, 0}); }
  static CachePolicy Policy() {
    return TestPolicy({kTurbo4, kTurbo3, kTurbo8}, {kTurbo3, kTurbo2, kF16});
  }
  static std::unique_ptr<KvCache> Cache() { return MakeTestCache(Geometry(), Policy()); }

  // A cache of `length` tokens, saved.
  void SaveOne(int64_t length, uint64_t seed = 1) {
    auto cache = Cache();
    KvDriver driver(*cache);
    const SequenceId id = driver.New();
    driver.Append(id, TestTokens(length, seed), false);
    SessionFile::Save(file_, *cache, id, {kModel, 0, driver.tokens()[id], Bytes("sampler")});
  }
  // What loading the file as it is says; the cache must not notice.
  std::string LoadError(ErrorCode code, uint64_t model = kModel) {
    auto cache = Cache();
    KvDriver driver(*cache);
    driver.Append(driver.New(), TestTokens(300, 9));
    const KvMemory before = cache->Memory();
    std::string message = "it was accepted";
    try {
      SessionFile::Load(file_, *cache, model);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      message = error.what();
    }
    EXPECT_EQ(cache->Memory().used_bytes, before.used_bytes);
    EXPECT_EQ(cache->Memory().committed_bytes, before.committed_bytes);
    EXPECT_THROW(cache->Length(1), Error);
    driver.CheckNextQuery(0);
    if (message != "it was accepted") {
      EXPECT_THAT(message, HasSubstr(file_.string()));
    }
    return message;
  }

  fs::path folder_, file_;
};

TEST_F(SessionFileTest, RestoredSequencesGoOnAsIfNothingHadHappened) {
  for (const int64_t length : {0, 1, 127, 128, 129, 384, 385, 450, 900, 1000}) {
    SCOPED_TRACE(length);
    const TokenList tokens = TestTokens(length + 300, 5),
                    first(tokens.begin(), tokens.begin() + length);
    {
      auto cache = Cache();
      KvDriver driver(*cache);
      const SequenceId id = driver.New();
      if (length > 0) driver.Append(id, first);
      SessionFile::Save(file_, *cache, id, {kModel, 0, first, Bytes("sampler state")});
    }
    auto cache = Cache();
    KvDriver driver(*cache);
    driver.New();
    driver.Append(0, TestTokens(200, 6));
    const SessionFile::Loaded loaded = SessionFile::Load(file_, *cache, kModel);
    EXPECT_EQ(loaded.tokens, first);
    EXPECT_EQ(loaded.extra, Bytes("sampler state"));
    EXPECT_EQ(cache->Length(loaded.sequence), length);
    driver.tokens()[loaded.sequence] = first;
    driver.CheckNextQuery(loaded.sequence);
    for (size_t i = static_cast<size_t>(length); i < tokens.size(); i += 50) {
      driver.Append(loaded.sequence, {tokens.begin() + static_cast<int64_t>(i),
                                      tokens.begin() + static_cast<int64_t>(i + 50)});
    }
    // Exact rollback works across a restore.
    const int64_t back = cache->Length(loaded.sequence) - 64;
    EXPECT_EQ(cache->Truncate(loaded.sequence, back), back);
    driver.tokens()[loaded.sequence].resize(static_cast<size_t>(back));
    driver.CheckNextQuery(loaded.sequence);
    driver.Append(loaded.sequence, TestTokens(200, 8));
    driver.CheckNextQuery(0);
  }
}

TEST_F(SessionFileTest, SavingAgainGivesTheSameBytes) {
  SaveOne(777);
  const std::string bytes = ReadAll(file_);
  auto cache = Cache();
  const SessionFile::Loaded loaded = SessionFile::Load(file_, *cache, kModel);
  SessionFile::Save(file_, *cache, loaded.sequence, {kModel, 0, loaded.tokens, loaded.extra});
  EXPECT_EQ(ReadAll(file_), bytes);
}

TEST_F(SessionFileTest, SaveAfterForkAndDeepTruncation) {
  auto cache = Cache();
  KvDriver driver(*cache);
  const SequenceId a = driver.New();
  driver.Append(a, TestTokens(700, 1));
  const SequenceId b = driver.Fork(a);
  EXPECT_EQ(cache->Truncate(b, 650), 650);  // its last page is full in a
  driver.tokens()[b].resize(650);
  driver.Append(a, TestTokens(200, 2));
  SessionFile::Save(file_, *cache, b, {kModel, 0, driver.tokens()[b], {}});
  auto other = Cache();
  KvDriver restored(*other);
  const SequenceId c = SessionFile::Load(file_, *other, kModel).sequence;
  restored.tokens()[c] = driver.tokens()[b];
  restored.CheckNextQuery(c);
  restored.Append(c, TestTokens(100, 3));
}

// A truncation behind what has aged is not exact; what is shortened afterwards, above the length
// that was asked for, is. A restored sequence knows that too.
TEST_F(SessionFileTest, WhatATruncationLostIsRestored) {
  CachePolicy policy = Policy();
  policy.ages = {{512, kTurbo3, kTurbo2}};
  auto cache = MakeTestCache(Geometry(), policy);
  KvDriver driver(*cache);
  const SequenceId id = driver.New();
  driver.Append(id, TestTokens(2500, 1));
  const int64_t kept = cache->Truncate(id, 1000);
  ASSERT_LT(kept, 1000);
  driver.tokens()[id].resize(static_cast<size_t>(kept));
  driver.Append(id, TestTokens(1050 - kept, 2));
  SessionFile::Save(file_, *cache, id, {kModel, 0, driver.tokens()[id], {}});
  EXPECT_EQ(cache->Truncate(id, 1010), 1010);
  auto other = MakeTestCache(Geometry(), policy);
  KvDriver restored(*other);
  const SequenceId again = SessionFile::Load(file_, *other, kModel).sequence;
  EXPECT_EQ(other->Truncate(again, 1010), 1010);
}

TEST_F(SessionFileTest, AgedPagesAreRestored) {
  CachePolicy policy = Policy();
  policy.ages = {{300, kTurbo3, kTurbo2}, {500, kTurbo2, kTurbo2}};
  for (const int64_t length : {385, 640, 1000}) {
    SCOPED_TRACE(length);
    uint64_t bytes = 0;
    const TokenList tokens = TestTokens(length, 5);
    {
      auto cache = MakeTestCache(Geometry(), policy);
      KvDriver driver(*cache);
      const SequenceId id = driver.New();
      driver.Append(id, tokens);
      SessionFile::Save(file_, *cache, id, {kModel, 0, tokens, {}});
      bytes = cache->Memory().used_bytes;
    }
    EXPECT_EQ(SessionFile::ReadHeader(file_).policy, policy);
    auto cache = MakeTestCache(Geometry(), policy);
    KvDriver driver(*cache);
    const SequenceId id = SessionFile::Load(file_, *cache, kModel).sequence;
    EXPECT_LE(cache->Memory().used_bytes, bytes);  // without forms half sealed
    driver.tokens()[id] = tokens;
    driver.CheckNextQuery(id);
    EXPECT_EQ(cache->Truncate(id, length - 64), length - 64);
    driver.tokens()[id].resize(static_cast<size_t>(length - 64));
    driver.CheckNextQuery(id);
    driver.Append(id, TestTokens(300, 6));
    EXPECT_THAT(LoadError(ErrorCode::kInvalidArgument),
                AllOf(HasSubstr("cache ages 300:turbo3/turbo2,500:turbo2"), HasSubstr("none")));
  }
}

TEST_F(SessionFileTest, HeaderCanBeReadAlone) {
  SaveOne(300);
  const SessionHeader header = SessionFile::ReadHeader(file_);
  EXPECT_EQ(header.model_id, kModel);
  EXPECT_EQ(header.geometry, Geometry());
  EXPECT_EQ(header.policy, Policy());
  EXPECT_EQ(header.tokens, TestTokens(300, 1));
  EXPECT_EQ(header.codebooks.size(), 3u);
  EXPECT_NE(header.transform_id, 0u);
}

TEST_F(SessionFileTest, OtherThingsAreRefusedByName) {
  EXPECT_THAT(LoadError(ErrorCode::kNotFound), HasSubstr("No such file"));
  WriteAll(file_, "");
  EXPECT_THAT(LoadError(ErrorCode::kCorruptFile), HasSubstr("no TurboQuant session file"));
  WriteAll(file_, std::string(4096, 'x'));
  EXPECT_THAT(LoadError(ErrorCode::kCorruptFile), HasSubstr("no TurboQuant session file"));
  fs::remove(file_);
  fs::create_directory(file_);
  EXPECT_THAT(LoadError(ErrorCode::kIo), HasSubstr("not a regular file"));
  fs::remove(file_);
  SaveOne(300);
  EXPECT_THAT(LoadError(ErrorCode::kInvalidArgument, 0x77),
              AllOf(HasSubstr("model"), HasSubstr("1234"), HasSubstr("77")));
  std::string bytes = ReadAll(file_);
  bytes[8] = 1;
  WriteAll(file_, bytes);
  EXPECT_THAT(LoadError(ErrorCode::kUnsupported),
              AllOf(HasSubstr("version 3"), HasSubstr("version 1")));

  SaveOne(300);
  const auto message = [&](const KvGeometry& geometry, const CachePolicy& policy,
                           uint64_t calibration = 0) -> std::string {
    auto cache = MakeTestCache(geometry, policy);
    try {
      SessionFile::Load(file_, *cache, kModel, calibration);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(cache->Memory().committed_bytes, 0u);
      return error.what();
    }
    return "it was accepted";
  };
  CachePolicy policy = Policy();
  policy.k[0] = kTurbo3;
  EXPECT_THAT(message(Geometry(), policy),
              AllOf(HasSubstr("turbo4:0,turbo3:1,turbo8:2"), HasSubstr("turbo3:0-1,turbo8:2")));
  policy = Policy();
  policy.v[2] = kTurbo2;
  EXPECT_THAT(message(Geometry(), policy), HasSubstr("value cache type"));
  policy = Policy();
  policy.window = 256;
  EXPECT_THAT(message(Geometry(), policy), AllOf(HasSubstr("window 128"), HasSubstr("256")));
  policy = Policy();
  policy.centring = false;
  EXPECT_THAT(message(Geometry(), policy), HasSubstr("centring on"));
  EXPECT_THAT(message(TestGeometry({0, 200, 0}, 2), Policy()), HasSubstr("KV heads"));
  EXPECT_THAT(message(TestGeometry({0, 100, 0}), Policy()), HasSubstr("sliding windows"));
  EXPECT_THAT(message(Geometry(), Policy(), 5), HasSubstr("calibration"));
}

TEST_F(SessionFileTest, EveryDamageIsNoticed) {
  SaveOne(450);
  const std::string good = ReadAll(file_);
  Random random(3);
  std::vector<size_t> places;
  for (size_t i = 0; i < 64; ++i) places.push_back(i);
  for (int i = 0; i < 150; ++i) places.push_back(random.Next() % good.size());
  places.push_back(good.size() - 1);
  uint64_t header_bytes;  // and between header and pages
  std::memcpy(&header_bytes, good.data() + 24, 8);
  for (size_t i = 64 + header_bytes - 9; i < SessionPagesOffset(header_bytes); ++i)
    places.push_back(i);
  for (const size_t place : places) {
    std::string bytes = good;
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << (random.Next() % 8)));
    WriteAll(file_, bytes);
    auto cache = Cache();
    EXPECT_THROW(SessionFile::Load(file_, *cache, kModel), Error) << "byte " << place;
    EXPECT_EQ(cache->Memory().committed_bytes, 0u);
  }
  for (int i = 0; i < 60; ++i) {
    const size_t size = i < 20 ? static_cast<size_t>(i) * 8 : random.Next() % good.size();
    WriteAll(file_, good.substr(0, size));
    const std::string message = LoadError(ErrorCode::kCorruptFile);
    EXPECT_THAT(message, testing::AnyOf(HasSubstr("truncated"), HasSubstr("too few"))) << size;
  }
  WriteAll(file_, good + "x");
  EXPECT_THAT(LoadError(ErrorCode::kCorruptFile), HasSubstr("too long"));
  std::string bytes = good;
  bytes[good.size() - 5] ^= 1;
  WriteAll(file_, bytes);
  EXPECT_THAT(LoadError(ErrorCode::kCorruptFile), AllOf(HasSubstr("page"), HasSubstr("checksum")));
}

TEST_F(SessionFileTest, DoesNotFitTheBudget) {
  SaveOne(2000);
  auto cache = MakeTestCache(Geometry(), Policy(), 2 * PageArena::kSlabBytes);
  try {
    SessionFile::Load(file_, *cache, kModel);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(), HasSubstr("budget"));
  }
  EXPECT_EQ(cache->Memory().committed_bytes, 0u);
}

TEST_F(SessionFileTest, TokensMustBeThoseOfTheCache) {
  auto cache = Cache();
  const SequenceId id = cache->NewSequence();
  EXPECT_THROW(SessionFile::Save(file_, *cache, id, {kModel, 0, {1}, {}}), Error);
  EXPECT_FALSE(fs::exists(file_));
}

// Saves a larger session over `file`, which must fail for want of room, say so and leave nothing
// behind.
void ExpectSaveFails(const fs::path& file, const char* reason) {
  const std::string before = ReadAll(file);
  auto cache = MakeTestCache(TestGeometry({0, 200, 0}),
                             TestPolicy({kTurbo4, kTurbo3, kTurbo8}, {kTurbo3, kTurbo2, kF16}));
  KvDriver driver(*cache);
  const SequenceId id = driver.New();
  driver.Append(id, TestTokens(3000, 2), false);
  try {
    SessionFile::Save(file, *cache, id, {kModel, 0, driver.tokens()[id], {}});
    ADD_FAILURE() << "it was saved";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), AllOf(HasSubstr(file.string()), HasSubstr(reason)));
  }
  EXPECT_EQ(ReadAll(file), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(file.parent_path()), {}), 1);
}

TEST_F(SessionFileTest, AFileSizeLimitKeepsThePreviousFile) {
  SaveOne(200);
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 300000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  ExpectSaveFails(file_, "File too large");
  setrlimit(RLIMIT_FSIZE, &before);
}

TEST_F(SessionFileTest, AFullDiskKeepsThePreviousFile) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=640k") != 0)
    GTEST_SKIP() << "mounting needs root";
  file_ = disk / "a.session";
  SaveOne(200);
  ExpectSaveFails(file_, "No space left");
  EXPECT_EQ(umount(disk.c_str()), 0);
}

TEST_F(SessionFileTest, ALinkStaysOneAndTheModeStays) {
  SaveOne(200);
  fs::permissions(file_, fs::perms::owner_read | fs::perms::owner_write);
  const fs::path real = file_;
  file_ = folder_ / "link.session";
  fs::create_symlink(real.filename(), file_);
  const std::string before = ReadAll(real);
  SaveOne(300);
  EXPECT_TRUE(fs::is_symlink(file_));
  EXPECT_NE(ReadAll(real), before);
  EXPECT_EQ(fs::status(real).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(SessionFileTest, MissingFolderIsSaid) {
  auto cache = Cache();
  const SequenceId id = cache->NewSequence();
  try {
    SessionFile::Save(folder_ / "none" / "a.session", *cache, id, {kModel, 0, {}, {}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("No such file or directory"));
  }
}

TEST_F(SessionFileTest, TwoWritersDoNotMix) {
  SaveOne(200);
  const std::string before = ReadAll(file_);
  const fs::path temporary = file_.string() + ".tmp";
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  auto cache = Cache();
  const SequenceId id = cache->NewSequence();
  try {
    SessionFile::Save(file_, *cache, id, {kModel, 0, {}, {}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("another process"));
  }
  EXPECT_EQ(ReadAll(file_), before);
  EXPECT_TRUE(fs::exists(temporary));
  close(fd);
  SessionFile::Save(file_, *cache, id,
                    {kModel, 0, {}, {}});  // what a dead writer left is no obstacle
  EXPECT_FALSE(fs::exists(temporary));
}

TEST_F(SessionFileTest, KillingASaveNeverLosesTheFile) {
  SaveOne(150, 0);
  Random random(17);
  for (int round = 0; round < 40; ++round) {
    int saved[2];
    ASSERT_EQ(pipe2(saved, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto cache = Cache();
      KvDriver driver(*cache);
      const SequenceId id = driver.New();
      for (uint64_t n = 0;; ++n) {
        driver.Append(id, TestTokens(40, n), false);
        if (cache->Length(id) > 1200) cache->Truncate(id, 0), driver.tokens()[id].clear();
        try {
          SessionFile::Save(file_, *cache, id, {kModel, 0, driver.tokens()[id], {}});
        } catch (...) {
          _exit(3);
        }
        if (n == 0 && write(saved[1], "", 1) != 1) _exit(4);
      }
    }
    close(saved[1]);  // so that a child that fails ends the wait
    // From the first save on (however slow the machine is) it saves all the time: somewhere in that
    // it dies.
    char byte;
    ASSERT_EQ(read(saved[0], &byte, 1), 1);
    usleep(static_cast<useconds_t>(random.Next() % 15000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    close(saved[0]);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    auto cache = Cache();
    const SessionFile::Loaded loaded = SessionFile::Load(file_, *cache, kModel);  // throws if lost
    EXPECT_TRUE(loaded.tokens.empty() || loaded.tokens.size() % 40 == 0);
  }
}

}  // namespace
}  // namespace tq
