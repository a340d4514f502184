// SPDX-License-Identifier: Apache-2.0
#include "turboquant/gguf/block_formats.h"

#include <fmt/format.h>

#include "turboquant/base/error.h"

namespace tq {
namespace {

// Type ids that files in the wild carry and that are not in kBlockFormats.
struct ForeignType {
  uint32_t id;
  std::string_view name;
};
constexpr ForeignType kForeignTypes[] = {
    {4, "Q4_2"},    {5, "Q4_3"},        {9, "Q8_1"},        {15, "Q8_K"},       {16, "IQ2_XXS"},
    {17, "IQ2_XS"}, {18, "IQ3_XXS"},    {19, "IQ1_S"},      {21, "IQ3_S"},      {22, "IQ2_S"},
    {24, "I8"},     {25, "I16"},        {26, "I32"},        {27, "I64"},        {28, "F64"},
    {29, "IQ1_M"},  {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},
    {35, "TQ2_0"},  {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {39, "MXFP4"},
    {40, "NVFP4"},  {41, "Q1_0"},       {42, "Q2_0"},
};

}  // namespace

const BlockFormatInfo* LookUpBlockFormat(uint32_t id) {
  for (const BlockFormatInfo& info : kBlockFormats) {
    if (static_cast<uint32_t>(info.format) == id) return &info;
  }
  return nullptr;
}

const BlockFormatInfo& FindBlockFormat(uint32_t id) {
  const BlockFormatInfo* info = LookUpBlockFormat(id);
  if (info == nullptr) {
    Throw(ErrorCode::kUnsupported, "tensor type {} is not supported; supported are {}",
          TensorTypeName(id), BlockFormatNames());
  }
  return *info;
}

const BlockFormatInfo& InfoOf(BlockFormat format) {
  const BlockFormatInfo* info = LookUpBlockFormat(static_cast<uint32_t>(format));
  TQ_CHECK(info != nullptr);
  return *info;
}

std::string TensorTypeName(uint32_t id) {
  if (const BlockFormatInfo* info = LookUpBlockFormat(id)) return std::string(info->name);
  for (const ForeignType& type : kForeignTypes) {
    if (type.id == id) return std::string(type.name);
  }
  return fmt::format("type {}", id);
}

std::string BlockFormatNames() {
  std::string names;
  for (const BlockFormatInfo& info : kBlockFormats) {
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
}

}  // namespace tq
