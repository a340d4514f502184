// SPDX-License-Identifier: Apache-2.0
#include "lab/npy_file.h"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "turboquant/base/error.h"
#include "turboquant/base/half.h"
#include "turboquant/base/mapped_file.h"

namespace tq::lab {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kAlignment = 64;  // of the first value, as NumPy writes it
constexpr int64_t kMostValues = int64_t{1} << 40;

int64_t BytesOf(NpyType type) { return type == NpyType::kF16 ? 2 : 4; }

// Walks over the header, the text of a Python dict of three entries.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  void Parse(NpyArray& array) {
    bool type = false, order = false, shape = false;
    Expect('{');
    while (!Take('}')) {
      const std::string_view key = String();
      Expect(':');
      if (key == "descr" && !type) {
        array.type = Type();
        type = true;
      } else if (key == "fortran_order" && !order) {
        Order();
        order = true;
      } else if (key == "shape" && !shape) {
        array.shape = Shape();
        shape = true;
      } else {
        Fail("an entry that is foreign or there twice");
      }
      if (!Take(',')) {
        Expect('}');
        break;
      }
    }
    if (!type || !order || !shape) Fail("type, order or shape are missing");
    SkipSpace();
    if (at_ != text_.size()) Fail("something follows it");
  }

 private:
  [[noreturn]] void Fail(const char* what) const {
    Throw(ErrorCode::kCorruptFile, "{}: its header is damaged: {} (byte {} of it)", path_, what,
          at_);
  }
  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void Expect(char c) {
    if (!Take(c)) Fail("it is no list of type, order and shape");
  }
  std::string_view String() {
    SkipSpace();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') Fail("a name in quotes is missing");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) Fail("a quote is not closed");
    const std::string_view string = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return string;
  }
  NpyType Type() {
    SkipSpace();
    if (at_ < text_.size() && text_[at_] == '[') Unsupported("records");
    const std::string_view name = String();
    if (name == "<f2") return NpyType::kF16;
    if (name == "<f4") return NpyType::kF32;
    if (name.size() > 8) Fail("a type that cannot be meant");
    Unsupported(fmt::format("values of type {}", Printable(name)));
  }
  void Order() {
    SkipSpace();
    if (text_.substr(at_, 4) == "True") Unsupported("an array in Fortran's order");
    if (text_.substr(at_, 5) != "False") Fail("an order that is neither True nor False");
    at_ += 5;
  }
  std::vector<int64_t> Shape() {
    std::vector<int64_t> shape;
    int64_t values = 1;
    Expect('(');
    while (!Take(')')) {
      SkipSpace();
      int64_t size = -1;
      const auto [end, error] =
          std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0 || shape.size() == 32) Fail("a size is no number");
      at_ = static_cast<size_t>(end - text_.data());
      if (size > 0 && values > kMostValues / size) Fail("more values than any file has");
      values *= size;
      shape.push_back(size);
      if (!Take(',')) {
        Expect(')');
        break;
      }
    }
    return shape;
  }
  [[noreturn]] void Unsupported(const std::string& what) const {
    Throw(ErrorCode::kUnsupported,
          "{} holds {}; arrays of f16 and f32 in C order are read: "
          "numpy.save(FILE, numpy.ascontiguousarray(x, numpy.float32))",
          path_, what);
  }
  static std::string Printable(std::string_view name) {
    std::string text(name);
    for (char& c : text)
      if (c < ' ' || c > '~') c = '?';
    return text;
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

int64_t Product(std::span<const int64_t> shape) {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::string HeaderOf(NpyType type, std::span<const int64_t> shape) {
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': (",
                                 type == NpyType::kF16 ? "<f2" : "<f4");
  for (const int64_t size : shape) dict += fmt::format("{}, ", size);
  dict += "), }";
  constexpr size_t kPrefix = 10;  // magic, version, length
  dict.append(kAlignment - 1 - (kPrefix + dict.size()) % kAlignment, ' ');
  dict += '\n';
  const auto length = static_cast<uint16_t>(dict.size());
  return std::string(kMagic) + '\x01' + '\x00' + static_cast<char>(length & 255) +
         static_cast<char>(length >> 8) + dict;
}

}  // namespace

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

NpyArray ReadNpy(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string name = path.string();
  const std::span<const std::byte> bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < kMagic.size() + 4)
    Throw(ErrorCode::kCorruptFile, "{} is no .npy file of NumPy's", name);
  const auto byte = [&](size_t i) { return static_cast<size_t>(std::to_integer<int>(bytes[i])); };
  const size_t version = byte(6), length_bytes = version == 1 ? 2 : 4;
  if (version < 1 || version > 3)
    Throw(ErrorCode::kUnsupported, "{}: version {} of the .npy format; 1 to 3 are read", name,
          version);
  size_t at = kMagic.size() + 2 + length_bytes, length = 0;
  if (at > text.size()) Throw(ErrorCode::kCorruptFile, "{} ends within its header", name);
  for (size_t i = 0; i < length_bytes; ++i) length |= byte(kMagic.size() + 2 + i) << (8 * i);
  if (length > text.size() - at) Throw(ErrorCode::kCorruptFile, "{} ends within its header", name);
  NpyArray array;
  HeaderParser(text.substr(at, length), name).Parse(array);
  at += length;
  const auto count = static_cast<size_t>(Product(array.shape));
  const size_t wanted = count * static_cast<size_t>(BytesOf(array.type));
  if (text.size() - at != wanted) {
    Throw(ErrorCode::kCorruptFile, "{} has {} bytes of values where {} take {}: it is damaged",
          name, text.size() - at, ShapeText(array.shape), wanted);
  }
  array.values.resize(count);
  if (array.type == NpyType::kF32) {
    if (wanted > 0) std::memcpy(array.values.data(), bytes.data() + at, wanted);
  } else {
    for (size_t i = 0; i < count; ++i) {
      Half half;
      std::memcpy(&half, bytes.data() + at + i * sizeof half, sizeof half);
      array.values[i] = HalfToFloat(half);
    }
  }
  return array;
}

NpyWriter::NpyWriter(const std::filesystem::path& path, NpyType type, std::vector<int64_t> shape)
    : file_(path), type_(type), values_left_(Product(shape)) {
  const std::string header = HeaderOf(type, shape);
  WriteBytes(std::as_bytes(std::span(header)));
}

void NpyWriter::WriteBytes(std::span<const std::byte> bytes) {
  file_.WriteAt(written_, bytes);
  written_ += bytes.size();
}

void NpyWriter::Write(std::span<const float> values) {
  values_left_ -= std::ssize(values);
  TQ_CHECK(values_left_ >= 0);
  if (type_ == NpyType::kF32) return WriteBytes(std::as_bytes(values));
  std::vector<Half> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) halves[i] = FloatToHalf(values[i]);
  WriteBytes(std::as_bytes(std::span(halves)));
}

void NpyWriter::Finish() {
  TQ_CHECK(values_left_ == 0);
  file_.Commit();
}

}  // namespace tq::lab
