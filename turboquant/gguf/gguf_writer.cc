// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/gguf_writer.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <type_traits>

#include "turboquant/base/error.h"
#include "turboquant/gguf/quantize.h"

namespace tq {
namespace {

constexpr uint32_t kArrayType = 9;

class Sink {
 public:
  void Append(const void* bytes, size_t size) {
    const size_t at = out.size();
    out.resize(at + size);
    if (size > 0) std::memcpy(out.data() + at, bytes, size);
  }
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    Append(&value, sizeof(T));
  }
  void PutString(std::string_view text) {
    Put(uint64_t{text.size()});
    Append(text.data(), text.size());
  }
  void Align(uint64_t alignment) {
    out.resize((out.size() + alignment - 1) / alignment * alignment);
  }

  std::vector<std::byte> out;
};

// The file's id of a scalar type.
template <typename T>
constexpr uint32_t TypeId() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, std::string>) return 8;
  if constexpr (std::is_same_v<T, uint64_t>) return 10;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

struct PutValue {
  Sink& sink;

  void Scalar(const std::string& text) const { sink.PutString(text); }
  template <typename T>
  void Scalar(T value) const {
    sink.Put(value);
  }

  template <typename T>
  void operator()(const T& value) const {
    sink.Put(TypeId<T>());
    Scalar(value);
  }
  template <typename T>
  void operator()(const std::vector<T>& values) const {
    sink.Put(kArrayType);
    sink.Put(TypeId<T>());
    sink.Put(uint64_t{values.size()});
    for (const T& value : values) Scalar(value);
  }
};

uint64_t Values(const std::vector<uint64_t>& shape) {
  uint64_t values = 1;
  for (const uint64_t size : shape) values *= size;
  return values;
}

void WriteFile(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    Throw(ErrorCode::kIo, "cannot write {} ({} bytes): {}", path.string(), bytes.size(),
          std::strerror(errno));
  }
}

}  // namespace

void GgufWriter::AddTensor(std::string_view name, BlockFormat format, std::vector<uint64_t> shape,
                           std::vector<std::byte> data) {
  const BlockFormatInfo& info = InfoOf(format);
  TQ_CHECK(data.size() == Values(shape) / info.values_per_block * info.bytes_per_block);
  tensors_.push_back({std::string(name), format, std::move(shape), std::move(data)});
}

void GgufWriter::AddTensor(std::string_view name, BlockFormat format, std::vector<uint64_t> shape,
                           const std::vector<float>& values) {
  const BlockFormatInfo& info = InfoOf(format);
  TQ_CHECK(values.size() == Values(shape) &&
           (shape.empty() || shape[0] % info.values_per_block == 0));
  std::vector<std::byte> data(values.size() / info.values_per_block * info.bytes_per_block);
  QuantizeRow(format, values.data(), static_cast<int64_t>(values.size()), data.data());
  AddTensor(name, format, std::move(shape), std::move(data));
}

std::vector<std::byte> GgufWriter::SerializePart(const Metadata& metadata, size_t first_tensor,
                                                 size_t last_tensor) const {
  const bool own_alignment = alignment_ != 32;
  Sink sink;
  sink.Append("GGUF", 4);
  sink.Put(version_);
  sink.Put(uint64_t{last_tensor - first_tensor});
  sink.Put(uint64_t{metadata.size() + (own_alignment ? 1 : 0)});
  if (own_alignment) {
    sink.PutString("general.alignment");
    PutValue{sink}(alignment_);
  }
  for (const auto& [key, value] : metadata) {
    sink.PutString(key);
    std::visit(PutValue{sink}, value);
  }
  uint64_t offset = 0;
  for (size_t i = first_tensor; i < last_tensor; ++i) {
    const Tensor& tensor = tensors_[i];
    sink.PutString(tensor.name);
    sink.Put(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) sink.Put(size);
    sink.Put(static_cast<uint32_t>(tensor.format));
    sink.Put(offset);
    offset += (tensor.data.size() + alignment_ - 1) / alignment_ * alignment_;
  }
  for (size_t i = first_tensor; i < last_tensor; ++i) {
    sink.Align(alignment_);
    sink.Append(tensors_[i].data.data(), tensors_[i].data.size());
  }
  sink.Align(alignment_);
  return std::move(sink.out);
}

std::vector<std::byte> GgufWriter::Serialize() const {
  return SerializePart(metadata_, 0, tensors_.size());
}

void GgufWriter::Write(const std::filesystem::path& path) const { WriteFile(path, Serialize()); }

std::filesystem::path GgufWriter::WriteSplit(const std::filesystem::path& prefix, int parts) const {
  std::filesystem::path first;
  for (int part = 0; part < parts; ++part) {
    Metadata metadata = part == 0 ? metadata_ : Metadata{};
    metadata.emplace_back("split.no", static_cast<uint16_t>(part));
    metadata.emplace_back("split.count", static_cast<uint16_t>(parts));
    metadata.emplace_back("split.tensors.count", static_cast<int32_t>(tensors_.size()));
    const size_t begin = tensors_.size() * static_cast<size_t>(part) / static_cast<size_t>(parts);
    const size_t end = tensors_.size() * static_cast<size_t>(part + 1) / static_cast<size_t>(parts);
    const std::filesystem::path path =
        fmt::format("{}-{:05}-of-{:05}.gguf", prefix.string(), part + 1, parts);
    WriteFile(path, SerializePart(metadata, begin, end));
    if (part == 0) first = path;
  }
  return first;
}

}  // namespace tq
