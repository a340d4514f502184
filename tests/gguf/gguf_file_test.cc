// SPDX-License-Identifier: Apache-2.0
// Model files written and read back; every kind of damage is refused with what is wrong and where.
#include "turboquant/gguf/gguf_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/gguf/gguf_writer.h"

namespace tq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing_support::TempFolder;
using Bytes = std::vector<std::byte>;

std::string Refusal(const Bytes& bytes, ErrorCode code = ErrorCode::kCorruptFile) {
  try {
    GgufFile::Parse(bytes, "m.gguf");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

// A small file with every kind of value and two tensors.
GgufWriter SmallModel(uint32_t alignment = 32, uint32_t version = 3) {
  GgufWriter writer(alignment, version);
  writer.SetString("general.architecture", "llama");
  writer.Set("u8", uint8_t{200});
  writer.Set("i8", int8_t{-5});
  writer.Set("u16", uint16_t{60000});
  writer.Set("i16", int16_t{-30000});
  writer.Set("u32", 4000000000u);
  writer.Set("i32", -2000000000);
  writer.Set("u64", uint64_t{1} << 63);
  writer.Set("i64", -(int64_t{1} << 62));
  writer.Set("f32", 0.5f);
  writer.Set("f64", 0.1);
  writer.Set("yes", true);
  writer.Set("no", false);
  writer.Set("strings", std::vector<std::string>{"a", "", "\u4e16"});
  writer.Set("ints", std::vector<int32_t>{1, -2, 3});
  writer.Set("floats", std::vector<float>{1.5f, -2.5f});
  writer.AddTensor("t.f32", BlockFormat::kF32, {4, 2}, std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7});
  writer.AddTensor("t.q8", BlockFormat::kQ8_0, {32}, std::vector<float>(32, 1.0f));
  return writer;
}

class GgufRoundTrip : public testing::TestWithParam<std::pair<uint32_t, uint32_t>> {};

TEST_P(GgufRoundTrip, EveryTypeComesBack) {
  const auto [alignment, version] = GetParam();
  const Bytes bytes = SmallModel(alignment, version).Serialize();
  const GgufFile file = GgufFile::Parse(bytes, "m.gguf");
  EXPECT_EQ(file.GetString("general.architecture"), "llama");
  EXPECT_EQ(file.GetUint("u8"), 200u);
  EXPECT_EQ(file.GetFloat("i8"), -5);
  EXPECT_EQ(file.GetUint("u16"), 60000u);
  EXPECT_EQ(file.GetFloat("i16"), -30000);
  EXPECT_EQ(file.GetUint("u32"), 4000000000u);
  EXPECT_EQ(file.GetFloat("i32"), -2e9);
  EXPECT_EQ(file.GetUint("u64"), uint64_t{1} << 63);
  EXPECT_EQ(std::get<int64_t>(file.metadata().at("i64")), -(int64_t{1} << 62));
  EXPECT_EQ(file.GetFloat("f32"), 0.5);
  EXPECT_EQ(file.GetFloat("f64"), 0.1);
  EXPECT_TRUE(file.GetBool("yes", false));
  EXPECT_FALSE(file.GetBool("no", true));
  EXPECT_THAT(file.GetStrings("strings"), ElementsAre("a", "", "\u4e16"));
  EXPECT_THAT(file.GetInts("ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(file.GetFloats("floats"), ElementsAre(1.5, -2.5));
  EXPECT_THAT(file.GetFloats("ints"), ElementsAre(1, -2, 3));

  const GgufTensor& tensor = file.Tensor("t.f32");
  EXPECT_THAT(tensor.shape, ElementsAre(4, 2));
  EXPECT_EQ(tensor.cols(), 4u);
  EXPECT_EQ(tensor.rows(), 2u);
  EXPECT_EQ(tensor.file_offset % alignment, 0u);
  float last;
  std::memcpy(&last, tensor.data.data() + 28, 4);
  EXPECT_EQ(last, 7);
  EXPECT_EQ(file.Tensor("t.q8").data.size(), 34u);
  EXPECT_EQ(file.FindTensor("t.none"), nullptr);
  EXPECT_EQ(file.total_bytes(), bytes.size());
}

INSTANTIATE_TEST_SUITE_P(AlignmentAndVersion, GgufRoundTrip,
                         testing::Values(std::pair{32u, 3u}, std::pair{32u, 2u}, std::pair{8u, 3u},
                                         std::pair{4096u, 3u}));

TEST(GgufFile, LookUpsSayWhatIsMissingOrOfTheWrongType) {
  const Bytes bytes = SmallModel().Serialize();
  const GgufFile file = GgufFile::Parse(bytes, "m.gguf");
  const auto message = [&](auto&& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([&] { file.GetUint("none"); }), "m.gguf: metadata 'none' is missing");
  EXPECT_THAT(message([&] { file.GetUint("i8"); }),
              HasSubstr("'i8' is -5; it must not be negative"));
  EXPECT_THAT(message([&] { file.GetUint("f32"); }), HasSubstr("it must be an integer"));
  EXPECT_THAT(message([&] { file.GetString("u8"); }), HasSubstr("it must be a string"));
  EXPECT_THAT(message([&] { file.GetBool("u8", true); }), HasSubstr("it must be a bool"));
  EXPECT_THAT(message([&] { file.GetStrings("ints"); }), HasSubstr("an array of strings"));
  EXPECT_THAT(message([&] { file.GetInts("floats"); }), HasSubstr("an array of integers"));
  EXPECT_THAT(message([&] { file.Tensor("blk.0.x"); }), HasSubstr("tensor 'blk.0.x' is missing"));
  EXPECT_EQ(file.GetUint("none", 3), 3u);
}

TEST(GgufFile, IdentityIsOfTheHeaderNotOfTheWeights) {
  Bytes bytes = SmallModel().Serialize();
  const uint64_t identity = GgufFile::Parse(bytes, "m").Identity();
  bytes.back() ^= std::byte{1};
  EXPECT_EQ(GgufFile::Parse(bytes, "other name").Identity(), identity);
  GgufWriter changed = SmallModel();
  changed.Set("more", true);
  const Bytes other = changed.Serialize();
  EXPECT_NE(GgufFile::Parse(other, "m").Identity(), identity);
}

// --- damage ---

TEST(GgufDamage, WhatIsNoModelFileIsCalledByItsName) {
  const auto text = [](std::string_view s) {
    Bytes bytes(s.size());
    std::memcpy(bytes.data(), s.data(), s.size());
    return bytes;
  };
  EXPECT_EQ(Refusal({}), "m.gguf: the file is empty");
  EXPECT_THAT(Refusal(text("PK\x03\x04....")), HasSubstr("it starts with \"PK\\x03\\x04\""));
  EXPECT_THAT(Refusal(text("version https://git-lfs.github.com/spec/v1\n")), HasSubstr("Git LFS"));
  EXPECT_THAT(Refusal(text("<!DOCTYPE html>")), HasSubstr("a web page"));
  EXPECT_THAT(Refusal(text({"GGUF\1\0\0", 7})), HasSubstr("needs 4 bytes, but only 3 are left"));
}

TEST(GgufDamage, VersionsAndByteOrder) {
  for (const uint32_t version : {1u, 4u, 77u}) {
    EXPECT_THAT(Refusal(SmallModel(32, version).Serialize(), ErrorCode::kUnsupported),
                HasSubstr(fmt::format("GGUF version {} is not supported", version)));
  }
  EXPECT_THAT(Refusal(SmallModel(32, 0x03000000).Serialize(), ErrorCode::kUnsupported),
              HasSubstr("big-endian"));
}

TEST(GgufDamage, EveryTruncationIsRefused) {
  const Bytes bytes = SmallModel().Serialize();
  const GgufTensor last = GgufFile::Parse(bytes, "m.gguf").Tensor("t.q8");  // then only padding
  for (size_t size = 0; size < last.file_offset + last.data.size(); ++size) {
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<int64_t>(size));
    EXPECT_THAT(Refusal(cut), Not(HasSubstr("accepted"))) << "cut to " << size;
  }
}

TEST(GgufDamage, AnyByteChangedIsReadOrRefused) {
  // Never more than an Error, whatever the value: run under the sanitizers.
  const Bytes bytes = SmallModel().Serialize();
  Random random(11);
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint64_t value :
         {uint64_t{0}, uint64_t{0xff}, uint64_t{0x80}, random.Next() & 0xff}) {
      Bytes damaged = bytes;
      damaged[at] = static_cast<std::byte>(value);
      try {
        GgufFile::Parse(damaged, "m.gguf");
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

// Places a value of T over the bytes at `at`.
template <typename T>
Bytes With(Bytes bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  return bytes;
}

// Where `text` stands in the file.
size_t Find(const Bytes& bytes, std::string_view text) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t at = all.find(text);
  EXPECT_NE(at, all.npos) << text;
  return at;
}

TEST(GgufDamage, CountsAreCheckedBeforeAnythingIsAllocated) {
  const Bytes bytes = SmallModel().Serialize();
  for (const uint64_t count : {uint64_t{1} << 62, uint64_t{1} << 40, uint64_t{100000}}) {
    EXPECT_THAT(Refusal(With(bytes, 8, count)), HasSubstr("tensors"));
    EXPECT_THAT(Refusal(With(bytes, 16, count)), HasSubstr("metadata entries"));
    const size_t strings = Find(bytes, "strings") + 7 + 4 + 4;  // key, type, element type
    EXPECT_THAT(Refusal(With(bytes, strings, count)), HasSubstr("'strings'"));
    const size_t key_length = Find(bytes, "general.architecture") - 8;
    EXPECT_THAT(Refusal(With(bytes, key_length, count)), HasSubstr("a metadata key"));
  }
}

TEST(GgufDamage, MetadataValues) {
  const Bytes bytes = SmallModel().Serialize();
  EXPECT_THAT(Refusal(With(bytes, Find(bytes, "u8") + 2, 13u)),
              HasSubstr("metadata 'u8' has unknown value type 13"));
  EXPECT_THAT(Refusal(With(bytes, Find(bytes, "yes") + 3 + 4, uint8_t{2})),
              HasSubstr("'yes' is a bool of value 2"));
  EXPECT_THAT(Refusal(With(bytes, Find(bytes, "ints") + 4 + 4, 99u)),
              HasSubstr("'ints' is an array of unknown type 99"));
  EXPECT_THAT(Refusal(With(bytes, Find(bytes, "ints") + 4 + 4, 9u), ErrorCode::kUnsupported),
              HasSubstr("'ints' is an array of arrays"));
  GgufWriter twice = SmallModel();
  twice.Set("u8", uint8_t{1});
  EXPECT_THAT(Refusal(twice.Serialize()), HasSubstr("metadata 'u8' is there twice"));
  GgufWriter alignment;
  alignment.Set("general.alignment", 24u);
  EXPECT_THAT(Refusal(alignment.Serialize()), HasSubstr("24 is not a power of two"));
}

TEST(GgufDamage, TensorIndex) {
  const Bytes bytes = SmallModel().Serialize();
  // Name, then: number of dimensions (4), sizes (8 each), type (4), offset (8).
  const size_t info = Find(bytes, "t.f32") + 5;
  const auto refuse = [&](size_t at, auto value, const char* message,
                          ErrorCode code = ErrorCode::kCorruptFile) {
    EXPECT_THAT(Refusal(With(bytes, info + at, value), code), HasSubstr(message));
  };
  refuse(0, 5u, "'t.f32' has 5 dimensions; at most 4");
  refuse(4, uint64_t{0}, "a dimension of size 0");
  refuse(4, uint64_t{1} << 63, "more than 2^62 values");
  refuse(12, uint64_t{1} << 61, "more than 2^62 values");
  refuse(20, 16u, "type IQ2_XXS", ErrorCode::kUnsupported);
  refuse(20, 39u, "MXFP4", ErrorCode::kUnsupported);
  refuse(20, 12u, "rows of 4 values, not a multiple of 256");
  refuse(24, uint64_t{1}, "not a multiple of the alignment 32");
  refuse(24, uint64_t{1} << 40, "the file ends at byte");
  refuse(24, ~uint64_t{0} - 31, "the file ends at byte");
  refuse(24, uint64_t{32}, "overlap");
  refuse(4, uint64_t{1} << 20, "the file ends at byte");
  GgufWriter twice = SmallModel();
  twice.AddTensor("t.f32", BlockFormat::kF32, {1}, std::vector<float>{0});
  EXPECT_THAT(Refusal(twice.Serialize()), HasSubstr("tensor 't.f32' is there twice"));
}

// --- files ---

TEST(GgufOpen, FilesThatAreNotThere) {
  const TempFolder folder;
  const auto refusal = [](const std::filesystem::path& path) -> std::string {
    try {
      GgufFile::Open(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal(folder.path() / "none.gguf"), HasSubstr("none.gguf"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr(folder.path().string()));  // a folder is no file
  std::ofstream(folder.path() / "empty.gguf");
  EXPECT_THAT(refusal(folder.path() / "empty.gguf"), HasSubstr("empty"));
}

class SplitModel : public testing::Test {
 protected:
  SplitModel() { first_ = SmallModel().WriteSplit(folder_.path() / "model", 2); }
  std::string Refused(const std::filesystem::path& path) {
    try {
      GgufFile::Open(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  TempFolder folder_;
  std::filesystem::path first_;
};

TEST_F(SplitModel, IsOneModel) {
  EXPECT_EQ(first_.filename(), "model-00001-of-00002.gguf");
  const GgufFile file = GgufFile::Open(first_);
  EXPECT_EQ(file.tensors().size(), 2u);
  EXPECT_NE(file.tensors()[0].file, file.tensors()[1].file);
  EXPECT_EQ(file.GetUint("u8"), 200u);
  file.Tensor("t.q8").Release(0, file.Tensor("t.q8").data.size());
  EXPECT_EQ(file.Tensor("t.q8").data[2], std::byte{127});  // released pages are read again
}

TEST_F(SplitModel, WrongPartsAreNamed) {
  const auto second = folder_.path() / "model-00002-of-00002.gguf";
  EXPECT_THAT(Refused(second), HasSubstr("open the first one"));
  std::filesystem::copy_file(first_, folder_.path() / "renamed.gguf");
  EXPECT_THAT(Refused(folder_.path() / "renamed.gguf"),
              HasSubstr("its name must end in \"-00001-of-00002.gguf\""));
  std::filesystem::copy_file(first_, second, std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(Refused(first_), HasSubstr("says that it is part 1 of 2"));
  std::filesystem::remove(second);
  EXPECT_THAT(Refused(first_),
              HasSubstr("model-00002-of-00002.gguf is missing: it is part 2 of 2"));
}

}  // namespace
}  // namespace tq
