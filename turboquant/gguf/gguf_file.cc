// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/gguf_file.h"

#include <fmt/format.h>

#include <utility>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/gguf/gguf_parse.h"

namespace tq {
namespace {

constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitNumber = "split.no";  // from 0 on; file names count from 1 on
constexpr std::string_view kSplitTensors = "split.tensors.count";
constexpr uint64_t kMaxParts = 99999;  // five digits in the names

std::string_view TypeName(const GgufValue& value) {
  constexpr std::string_view kNames[] = {
      "a bool",   "an integer",           "an integer",         "a float",
      "a string", "an array of integers", "an array of floats", "an array of strings"};
  return kNames[value.index()];
}

std::string PartSuffix(uint64_t number, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

}  // namespace

uint64_t GgufTensor::num_values() const {
  uint64_t values = 1;
  for (const uint64_t size : shape) values *= size;  // checked when the file was parsed
  return values;
}

GgufFile GgufFile::Open(const std::filesystem::path& path) {
  GgufFile file;
  file.name_ = path.string();
  file.files_.push_back(std::make_shared<MappedFile>(path));
  file.AddFile(file.files_.back()->bytes(), file.name_, 0);
  const uint64_t count = file.GetUint(kSplitCount, 1);
  if (count > 1) file.OpenOtherParts(path, count);
  return file;
}

GgufFile GgufFile::Parse(std::span<const std::byte> bytes, std::string_view name) {
  GgufFile file;
  file.name_ = name;
  file.AddFile(bytes, name, 0);
  const uint64_t count = file.GetUint(kSplitCount, 1);
  if (count > 1)
    Throw(ErrorCode::kUnsupported, "{}: one part of a model split into {} files", name, count);
  return file;
}

void GgufFile::OpenOtherParts(const std::filesystem::path& first, uint64_t count) {
  const uint64_t number = GetUint(kSplitNumber);
  if (count > kMaxParts || number >= count) {
    Throw(ErrorCode::kCorruptFile, "{}: says that it is part {} of {}", name_, number + 1, count);
  }
  const std::string own_name = first.filename().string();
  const std::string suffix = PartSuffix(number + 1, count);
  if (!own_name.ends_with(suffix)) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: is part {} of a model split into {} files; its name must end in \"{}\" so that the "
          "others can be found",
          name_, number + 1, count, suffix);
  }
  const std::string stem = own_name.substr(0, own_name.size() - suffix.size());
  if (number != 0) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: is part {} of a model split into {} files; open the first one, {}", name_,
          number + 1, count, (first.parent_path() / (stem + PartSuffix(1, count))).string());
  }
  for (uint64_t i = 1; i < count; ++i) {
    const std::filesystem::path part = first.parent_path() / (stem + PartSuffix(i + 1, count));
    std::error_code ignored;
    if (!std::filesystem::exists(part, ignored)) {
      Throw(ErrorCode::kNotFound, "{} is missing: it is part {} of {} of the model {}",
            part.string(), i + 1, count, name_);
    }
    files_.push_back(std::make_shared<MappedFile>(part));
    AddFile(files_.back()->bytes(), part.string(), static_cast<int>(i));
  }
  if (Has(kSplitTensors) && GetUint(kSplitTensors) != tensors_.size()) {
    Throw(ErrorCode::kCorruptFile, "{}: the {} parts have {} tensors, but {} says {}", name_, count,
          tensors_.size(), kSplitTensors, GetUint(kSplitTensors));
  }
}

void GgufFile::AddFile(std::span<const std::byte> bytes, std::string_view name, int file_index) {
  ParsedGguf parsed = ParseGguf(bytes, name);
  if (file_index == 0) {
    metadata_ = std::move(parsed.metadata);
  } else {
    // Of the other parts only the split keys matter: the first one holds the metadata of all.
    GgufFile part;
    part.name_ = name;
    part.metadata_ = std::move(parsed.metadata);
    const uint64_t number = part.GetUint(kSplitNumber), count = part.GetUint(kSplitCount);
    if (number != static_cast<uint64_t>(file_index) || count != GetUint(kSplitCount)) {
      Throw(ErrorCode::kCorruptFile,
            "{}: says that it is part {} of {}, but its name and the first part say {} of {}", name,
            number + 1, count, file_index + 1, GetUint(kSplitCount));
    }
  }
  for (GgufTensor& tensor : parsed.tensors) {
    tensor.file = files_.empty() ? nullptr : files_.back().get();
    if (!index_.emplace(tensor.name, tensors_.size()).second) {
      Throw(ErrorCode::kCorruptFile, "{}: tensor '{}' is there twice (data at byte {})", name,
            Printable(tensor.name), tensor.file_offset);
    }
    tensors_.push_back(std::move(tensor));
  }
  total_bytes_ += bytes.size();
  identity_ = Hash64(bytes.first(parsed.index_end), identity_);
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& GgufFile::Tensor(std::string_view name) const {
  const GgufTensor* tensor = FindTensor(name);
  if (tensor == nullptr) {
    Throw(ErrorCode::kCorruptFile, "{}: tensor '{}' is missing; the file is not a complete model",
          name_, name);
  }
  return *tensor;
}

bool GgufFile::Has(std::string_view key) const { return Find(key) != nullptr; }

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufValue& GgufFile::Require(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) Throw(ErrorCode::kCorruptFile, "{}: metadata '{}' is missing", name_, key);
  return *value;
}

void GgufFile::WrongType(std::string_view key, std::string_view wanted) const {
  Throw(ErrorCode::kCorruptFile, "{}: metadata '{}' is {}; it must be {}", name_, key,
        TypeName(Require(key)), wanted);
}

uint64_t GgufFile::GetUint(std::string_view key) const {
  const GgufValue& value = Require(key);
  if (const auto* number = std::get_if<uint64_t>(&value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value)) {
    if (*number >= 0) return static_cast<uint64_t>(*number);
    Throw(ErrorCode::kCorruptFile, "{}: metadata '{}' is {}; it must not be negative", name_, key,
          *number);
  }
  WrongType(key, "an integer");
}

uint64_t GgufFile::GetUint(std::string_view key, uint64_t fallback) const {
  return Has(key) ? GetUint(key) : fallback;
}

double GgufFile::GetFloat(std::string_view key) const {
  const GgufValue& value = Require(key);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
  WrongType(key, "a number");
}

double GgufFile::GetFloat(std::string_view key, double fallback) const {
  return Has(key) ? GetFloat(key) : fallback;
}

bool GgufFile::GetBool(std::string_view key, bool fallback) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return fallback;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  WrongType(key, "a bool");
}

std::string GgufFile::GetString(std::string_view key) const {
  if (const auto* text = std::get_if<std::string>(&Require(key))) return *text;
  WrongType(key, "a string");
}

std::string GgufFile::GetString(std::string_view key, std::string_view fallback) const {
  return Has(key) ? GetString(key) : std::string(fallback);
}

const std::vector<std::string>& GgufFile::GetStrings(std::string_view key) const {
  if (const auto* strings = std::get_if<std::vector<std::string>>(&Require(key))) return *strings;
  WrongType(key, "an array of strings");
}

std::vector<int64_t> GgufFile::GetInts(std::string_view key) const {
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(&Require(key))) return *numbers;
  WrongType(key, "an array of integers");
}

std::vector<double> GgufFile::GetFloats(std::string_view key) const {
  const GgufValue& value = Require(key);
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) return *numbers;
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(&value))
    return {numbers->begin(), numbers->end()};
  WrongType(key, "an array of numbers");
}

}  // namespace tq
