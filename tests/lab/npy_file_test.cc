// SPDX-License-Identifier: Apache-2.0
#include "lab/npy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temp_folder.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class NpyFileTest : public testing::Test {
 protected:
  std::filesystem::path Path() const { return folder_.path() / "x.npy"; }
  void WriteBytes(const std::string& bytes) const {
    std::ofstream(Path(), std::ios::binary) << bytes;
  }
  // A file as NumPy writes it, of version 1 or 2.
  static std::string File(const std::string& dict, const std::string& values, char version = 1) {
    std::string header = dict + "\n";
    std::string bytes = "\x93NUMPY";
    bytes += version;
    bytes += '\0';
    for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
      bytes += static_cast<char>(header.size() >> (8 * i) & 255);
    return bytes + header + values;
  }
  std::string RefusalOf(const std::string& bytes, ErrorCode code) const {
    WriteBytes(bytes);
    try {
      ReadNpy(Path());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    return "accepted";
  }

  testing_support::TempFolder folder_;
};

TEST_F(NpyFileTest, WhatIsWrittenComesBack) {
  const std::vector<float> values = {0.0f, -1.5f, 3.25f, 65504.0f, 0x1p-24f, 7.0f};
  for (const NpyType type : {NpyType::kF16, NpyType::kF32}) {
    std::filesystem::remove(Path());
    NpyWriter writer(Path(), type, {3, 2});
    writer.Write(std::span(values).first(2));
    EXPECT_FALSE(std::filesystem::exists(Path()));
    writer.Write(std::span(values).subspan(2));
    writer.Finish();
    const NpyArray array = ReadNpy(Path());
    EXPECT_EQ(array.type, type);
    EXPECT_THAT(array.shape, ElementsAre(3, 2));
    EXPECT_EQ(array.values, values);
    EXPECT_EQ(std::filesystem::file_size(Path()), 128 + 6u * (type == NpyType::kF16 ? 2 : 4));
  }
}

// numpy.save(f, numpy.array([[1, 2], [-3, .5]], dtype)) of NumPy 1.24, and what it may write else.
TEST_F(NpyFileTest, WhatNumPyWrites) {
  const std::string halves("\x00\x3c\x00\x40\x00\xc2\x00\x38", 8);
  WriteBytes(File("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }", halves));
  EXPECT_THAT(ReadNpy(Path()).values, ElementsAre(1, 2, -3, 0.5));
  WriteBytes(File("{'shape': (4,), 'fortran_order': False, 'descr': '<f2'}", halves, 2));
  EXPECT_THAT(ReadNpy(Path()).shape, ElementsAre(4));
  WriteBytes(File("{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
                  std::string("\x00\x00\x80\x3f", 4)));
  EXPECT_THAT(ReadNpy(Path()).values, ElementsAre(1));
  WriteBytes(File("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 64), }", ""));
  EXPECT_TRUE(ReadNpy(Path()).values.empty());
}

TEST_F(NpyFileTest, WhatCannotBeReadIsSaid) {
  const auto dict = [](const char* type, const char* order, const char* shape) {
    return fmt::format("{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}", type, order, shape);
  };
  const auto damaged = [&](const std::string& bytes) {
    return RefusalOf(bytes, ErrorCode::kCorruptFile);
  };
  EXPECT_THAT(damaged("GGUF and much more than a head"), HasSubstr("no .npy file"));
  EXPECT_THAT(damaged("\x93NUMPY"), HasSubstr("no .npy file"));
  const std::string good = File(dict("'<f4'", "False", "(2,)"), "12345678");
  for (size_t n = 10; n + 8 < good.size(); n += 7)
    EXPECT_THAT(damaged(good.substr(0, n)), HasSubstr("ends within its header"));
  EXPECT_THAT(damaged(good.substr(0, good.size() - 1)),
              HasSubstr("7 bytes of values where [2] take 8"));
  EXPECT_THAT(damaged(good + "x"), HasSubstr("9 bytes of values"));
  EXPECT_THAT(damaged(File(dict("'<f4'", "False", "(-2,)"), "")), HasSubstr("no number"));
  EXPECT_THAT(damaged(File(dict("'<f4'", "False", "(4294967296, 4294967296, 4294967296)"), "")),
              HasSubstr("more values"));
  EXPECT_THAT(damaged(File(dict("'<f4'", "Maybe", "(2,)"), "")),
              HasSubstr("neither True nor False"));
  EXPECT_THAT(damaged(File("{'descr': '<f4', 'shape': (2,), }", "12345678")), HasSubstr("missing"));
  EXPECT_THAT(damaged(File("{'shape': (2,), 'shape': (2,), }", "")), HasSubstr("twice"));
  EXPECT_THAT(damaged(File("nothing", "")), HasSubstr("byte 0"));
  EXPECT_THAT(damaged(File(dict("'<f4'", "False", "(2,)") + " more", "12345678")),
              HasSubstr("something follows"));
  const auto unsupported = [&](const std::string& bytes) {
    return RefusalOf(bytes, ErrorCode::kUnsupported);
  };
  EXPECT_THAT(unsupported(File(dict("'>f4'", "False", "(2,)"), "12345678")),
              testing::AllOf(HasSubstr("type >f4"), HasSubstr("numpy.save")));
  EXPECT_THAT(unsupported(File(dict("[('a', '<f4')]", "False", "(2,)"), "")), HasSubstr("records"));
  EXPECT_THAT(unsupported(File(dict("'<f4'", "True", "(2, 2)"), "")), HasSubstr("Fortran"));
  EXPECT_THAT(unsupported(std::string("\x93NUMPY\x09\x00\x01\x00", 10)), HasSubstr("version 9"));
  std::filesystem::remove(Path());
  EXPECT_THROW(ReadNpy(Path()), Error);
}

}  // namespace
}  // namespace tq::lab
