// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/gguf_parse.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "turboquant/base/error.h"
#include "turboquant/gguf/block_formats.h"
#include "turboquant/gguf/byte_reader.h"

namespace tq {
namespace {

enum class ValueType : uint32_t {  // as the file has them
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

constexpr uint64_t kMaxKeyBytes = 65535;  // the format's own limit
constexpr uint64_t kMaxArray =
    uint64_t{1} << 24;  // 60 times the largest vocabulary: bounds what a damaged count costs
constexpr uint32_t kMaxDimensions = 4;
constexpr uint32_t kDefaultAlignment = 32;

void CheckMagic(ByteReader& reader, std::span<const std::byte> bytes, std::string_view name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 256));
  if (text.empty()) Throw(ErrorCode::kCorruptFile, "{}: the file is empty", name);
  if (!text.starts_with("GGUF")) {
    const bool pointer = text.starts_with("version ") && text.find("git-lfs") != text.npos;
    const bool page = text.starts_with("<!") || text.starts_with("<html");
    reader.Fail(0, "not a GGUF file: it starts with \"{}\" instead of \"GGUF\"{}",
                Printable(text.substr(0, 4)),
                pointer ? "; it is a Git LFS pointer, not the model: download the model itself"
                : page  ? "; it is a web page, not a model: download the model itself"
                        : "");
  }
  reader.Take(4, "the magic number");
}

void CheckVersion(ByteReader& reader, std::string_view name) {
  const uint32_t version = reader.Read<uint32_t>("the version");
  if (version == 2 || version == 3) return;
  if (version != 0 && (version & 0xffffu) == 0) {
    Throw(ErrorCode::kUnsupported,
          "{}: this GGUF file is big-endian; only little-endian files are read (version field at "
          "byte 4 is {:#010x})",
          name, version);
  }
  Throw(version == 0 ? ErrorCode::kCorruptFile : ErrorCode::kUnsupported,
        "{}: GGUF version {} is not supported (at byte 4); versions 2 and 3 are", name, version);
}

template <typename T, typename Wide>
std::vector<Wide> ReadNumbers(ByteReader& reader, uint64_t count, std::string_view what) {
  reader.CheckCount(count, sizeof(T), fmt::format("elements of {}", what));
  std::vector<Wide> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const T value = reader.Read<T>(what);
    if constexpr (std::is_same_v<T, uint64_t>) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        reader.Fail(reader.offset() - sizeof(T), "{} holds {}, more than 63 bits", what, value);
      }
    }
    values.push_back(static_cast<Wide>(value));
  }
  return values;
}

GgufValue ReadArray(ByteReader& reader, std::string_view name, std::string_view what) {
  const uint64_t type_offset = reader.offset();
  const uint32_t type = reader.Read<uint32_t>(what);
  const uint64_t count_offset = reader.offset();
  const uint64_t count = reader.Read<uint64_t>(what);
  reader.CheckCount(count, 1, fmt::format("elements of {}", what));
  if (count > kMaxArray)
    reader.Fail(count_offset, "{} has {} elements, more than {}", what, count, kMaxArray);
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
    case ValueType::kBool:
      return ReadNumbers<uint8_t, int64_t>(reader, count, what);
    case ValueType::kInt8:
      return ReadNumbers<int8_t, int64_t>(reader, count, what);
    case ValueType::kUint16:
      return ReadNumbers<uint16_t, int64_t>(reader, count, what);
    case ValueType::kInt16:
      return ReadNumbers<int16_t, int64_t>(reader, count, what);
    case ValueType::kUint32:
      return ReadNumbers<uint32_t, int64_t>(reader, count, what);
    case ValueType::kInt32:
      return ReadNumbers<int32_t, int64_t>(reader, count, what);
    case ValueType::kUint64:
      return ReadNumbers<uint64_t, int64_t>(reader, count, what);
    case ValueType::kInt64:
      return ReadNumbers<int64_t, int64_t>(reader, count, what);
    case ValueType::kFloat32:
      return ReadNumbers<float, double>(reader, count, what);
    case ValueType::kFloat64:
      return ReadNumbers<double, double>(reader, count, what);
    case ValueType::kString: {
      reader.CheckCount(count, sizeof(uint64_t), fmt::format("elements of {}", what));
      std::vector<std::string> strings;
      strings.reserve(count);
      for (uint64_t i = 0; i < count; ++i) strings.emplace_back(reader.ReadString(what));
      return strings;
    }
    case ValueType::kArray:
      Throw(ErrorCode::kUnsupported,
            "{}: {} is an array of arrays, which is not supported (at byte {})", name, what,
            type_offset);
  }
  reader.Fail(type_offset, "{} is an array of unknown type {}", what, type);
}

GgufValue ReadValue(ByteReader& reader, std::string_view name, std::string_view what) {
  const uint64_t type_offset = reader.offset();
  const uint32_t type = reader.Read<uint32_t>(what);
  switch (static_cast<ValueType>(type)) {
    case ValueType::kUint8:
      return uint64_t{reader.Read<uint8_t>(what)};
    case ValueType::kInt8:
      return int64_t{reader.Read<int8_t>(what)};
    case ValueType::kUint16:
      return uint64_t{reader.Read<uint16_t>(what)};
    case ValueType::kInt16:
      return int64_t{reader.Read<int16_t>(what)};
    case ValueType::kUint32:
      return uint64_t{reader.Read<uint32_t>(what)};
    case ValueType::kInt32:
      return int64_t{reader.Read<int32_t>(what)};
    case ValueType::kUint64:
      return reader.Read<uint64_t>(what);
    case ValueType::kInt64:
      return reader.Read<int64_t>(what);
    case ValueType::kFloat32:
      return double{reader.Read<float>(what)};
    case ValueType::kFloat64:
      return reader.Read<double>(what);
    case ValueType::kString:
      return std::string(reader.ReadString(what));
    case ValueType::kArray:
      return ReadArray(reader, name, what);
    case ValueType::kBool: {
      const uint8_t value = reader.Read<uint8_t>(what);
      if (value > 1) reader.Fail(reader.offset() - 1, "{} is a bool of value {}", what, value);
      return value == 1;
    }
  }
  reader.Fail(type_offset, "{} has unknown value type {}", what, type);
}

void ReadMetadata(ByteReader& reader, std::string_view name, uint64_t count, ParsedGguf& parsed) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t at = reader.offset();
    const std::string key(reader.ReadString("a metadata key"));
    if (key.empty() || key.size() > kMaxKeyBytes) {
      reader.Fail(at, "metadata key of {} bytes; 1 to {} are allowed", key.size(), kMaxKeyBytes);
    }
    GgufValue value = ReadValue(reader, name, fmt::format("metadata '{}'", Printable(key)));
    if (!parsed.metadata.emplace(key, std::move(value)).second) {
      reader.Fail(at, "metadata '{}' is there twice", Printable(key));
    }
  }
}

uint64_t ReadAlignment(const ByteReader& reader, const ParsedGguf& parsed) {
  const auto found = parsed.metadata.find("general.alignment");
  if (found == parsed.metadata.end()) return kDefaultAlignment;
  const uint64_t* value = std::get_if<uint64_t>(&found->second);
  if (value == nullptr || *value < 8 || *value > (uint64_t{1} << 31) ||
      (*value & (*value - 1)) != 0) {
    reader.Fail(reader.offset(), "general.alignment{} is not a power of two from 8 on",
                value == nullptr ? "" : fmt::format(" {}", *value));
  }
  return *value;
}

// One entry of the tensor index; `file_offset` is relative to the data section until PlaceData.
GgufTensor ReadTensorInfo(ByteReader& reader, std::string_view name, uint64_t* bytes) {
  const uint64_t at = reader.offset();
  GgufTensor tensor;
  tensor.name = reader.ReadString("a tensor's name");
  if (tensor.name.empty()) reader.Fail(at, "a tensor without a name");
  const std::string what = fmt::format("tensor '{}'", Printable(tensor.name));
  const uint64_t dimensions_offset = reader.offset();
  const uint32_t dimensions = reader.Read<uint32_t>(what);
  if (dimensions > kMaxDimensions) {
    reader.Fail(dimensions_offset, "{} has {} dimensions; at most {} are allowed", what, dimensions,
                kMaxDimensions);
  }
  uint64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const uint64_t size = reader.Read<uint64_t>(what);
    if (size == 0) reader.Fail(reader.offset() - 8, "{} has a dimension of size 0", what);
    if (__builtin_mul_overflow(values, size, &values) || values > (uint64_t{1} << 62)) {
      reader.Fail(reader.offset() - 8, "{} has more than 2^62 values", what);
    }
    tensor.shape.push_back(size);
  }
  const uint64_t type_offset = reader.offset();
  const uint32_t type = reader.Read<uint32_t>(what);
  const BlockFormatInfo* info = LookUpBlockFormat(type);
  if (info == nullptr) {
    Throw(ErrorCode::kUnsupported,
          "{}: {} has type {} (at byte {}), which is not supported; supported are {}: use a model "
          "quantised to one of "
          "these",
          name, what, TensorTypeName(type), type_offset, BlockFormatNames());
  }
  tensor.format = info->format;
  if (tensor.cols() % info->values_per_block != 0) {
    reader.Fail(type_offset, "{} of type {} has rows of {} values, not a multiple of {}", what,
                info->name, tensor.cols(), info->values_per_block);
  }
  if (__builtin_mul_overflow(values / info->values_per_block, uint64_t{info->bytes_per_block},
                             bytes)) {
    reader.Fail(type_offset, "{} has more than 2^64 bytes", what);
  }
  tensor.file_offset = reader.Read<uint64_t>(what);
  return tensor;
}

// Checks that the data of every tensor lies in the file, aligned, and sets data and file_offset.
void PlaceData(const ByteReader& reader, std::span<const std::byte> bytes, uint64_t alignment,
               const std::vector<uint64_t>& sizes, std::vector<GgufTensor>& tensors) {
  const uint64_t data_begin = (reader.offset() + alignment - 1) / alignment * alignment;
  for (size_t i = 0; i < tensors.size(); ++i) {
    GgufTensor& tensor = tensors[i];
    const std::string what = fmt::format("tensor '{}'", Printable(tensor.name));
    if (tensor.file_offset % alignment != 0) {
      reader.Fail(reader.offset(),
                  "{} is at offset {} of the data, not a multiple of the alignment {}", what,
                  tensor.file_offset, alignment);
    }
    uint64_t begin = 0, end = 0;
    if (__builtin_add_overflow(data_begin, tensor.file_offset, &begin) ||
        __builtin_add_overflow(begin, sizes[i], &end) || end > bytes.size()) {
      reader.Fail(bytes.size(),
                  "the data of {} is {} bytes at offset {} of the data section (byte {}), but the "
                  "file ends at byte {}: "
                  "it is damaged or incomplete",
                  what, sizes[i], tensor.file_offset, data_begin, bytes.size());
    }
    tensor.file_offset = begin;
    tensor.data = bytes.subspan(begin, sizes[i]);
  }
}

void CheckOverlap(const ByteReader& reader, const std::vector<GgufTensor>& tensors) {
  std::vector<const GgufTensor*> order;
  order.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
    return a->file_offset < b->file_offset;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->file_offset + order[i - 1]->data.size() > order[i]->file_offset) {
      reader.Fail(order[i]->file_offset, "the data of tensors '{}' and '{}' overlap",
                  Printable(order[i - 1]->name), Printable(order[i]->name));
    }
  }
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kLongest = 80;
  std::string out;
  for (const char c : text.substr(0, kLongest)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > kLongest) out += "...";
  return out;
}

ParsedGguf ParseGguf(std::span<const std::byte> bytes, std::string_view name) {
  ByteReader reader(bytes, name);
  CheckMagic(reader, bytes, name);
  CheckVersion(reader, name);
  const uint64_t num_tensors = reader.Read<uint64_t>("the number of tensors");
  const uint64_t num_metadata = reader.Read<uint64_t>("the number of metadata entries");
  reader.CheckCount(num_tensors, 8 + 1 + 4 + 4 + 8, "tensors");  // name, dimensions, type, offset
  reader.CheckCount(num_metadata, 8 + 1 + 4 + 1, "metadata entries");  // key, type, value

  ParsedGguf parsed;
  ReadMetadata(reader, name, num_metadata, parsed);
  const uint64_t alignment = ReadAlignment(reader, parsed);
  reader.CheckCount(num_tensors, 8 + 1 + 4 + 4 + 8, "tensors");
  parsed.tensors.reserve(num_tensors);
  std::vector<uint64_t> sizes(num_tensors);
  for (uint64_t i = 0; i < num_tensors; ++i) {
    parsed.tensors.push_back(ReadTensorInfo(reader, name, &sizes[i]));
  }
  parsed.index_end = reader.offset();
  PlaceData(reader, bytes, alignment, sizes, parsed.tensors);
  CheckOverlap(reader, parsed.tensors);
  return parsed;
}

}  // namespace tq
