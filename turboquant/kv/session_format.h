// SPDX-License-Identifier: Apache-2.0
// The bytes of a session file's head (docs/format.md): values <-> bytes, nothing else. Everything
// little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "turboquant/kv/kv_layout.h"

namespace tq {

inline constexpr uint32_t kSessionVersion = 3;
inline constexpr uint64_t kSessionAlignment = 64;  // of the head, and of where the pages begin
inline constexpr std::array<char, 8> kSessionMagic = {'T', 'Q', 'S', 'E', 'S', 'S', '\x1a', '\n'};

// The first 64 bytes.
struct SessionPreamble {
  std::array<char, 8> magic = kSessionMagic;
  uint32_t version = kSessionVersion;
  uint32_t zero = 0;
  uint64_t file_bytes = 0;
  uint64_t header_bytes = 0;  // follow the preamble; then zeros up to a multiple of 64, then pages
  uint64_t header_checksum =
      0;  // over header and zeros, seeded by that over this preamble with a checksum of 0
  uint64_t reserved[3] = {};
};
static_assert(sizeof(SessionPreamble) == 64);
uint64_t SessionChecksum(SessionPreamble preamble, std::span<const std::byte> header_and_zeros);
inline uint64_t SessionPagesOffset(uint64_t header_bytes) {
  return (sizeof(SessionPreamble) + header_bytes + kSessionAlignment - 1) / kSessionAlignment *
         kSessionAlignment;
}

// Which of a page's forms are in the file, and the checksums of their blocks.
struct SessionPage {
  uint8_t forms = 0;  // bit n: form n (kv_view.h)
  std::array<uint64_t, kMaxForms> checksums = {};

  bool Has(int form) const { return (forms >> form & 1) != 0; }
};
struct SessionGroup {
  int32_t sliding_window = 0;
  std::vector<uint64_t> form_bytes;  // of a block in each form
  int32_t first_page = 0;
  std::vector<int32_t> lost_below;  // [forms - 1], as PageTable has it
  std::vector<SessionPage> pages;   // from first_page on
};
struct SessionHeader {
  uint64_t model_id = 0;
  uint64_t calibration_id = 0;
  uint64_t transform_id = 0;
  KvGeometry geometry;
  CachePolicy policy;
  struct CodebookId {
    Codec codec;
    uint32_t id;
    bool operator==(const CodebookId&) const = default;
  };
  std::vector<CodebookId> codebooks;  // of the codecs in use, ascending
  std::vector<int32_t> tokens;        // all of them are in the pages
  int64_t recomputed = 0;             // as KvSequence has it
  std::vector<std::byte> extra;
  std::vector<SessionGroup> groups;  // those of KvLayout
};

std::vector<std::byte> WriteSessionHeader(const SessionHeader& header);
// Throws kCorruptFile with what is wrong; the caller says which file.
SessionHeader ReadSessionHeader(std::span<const std::byte> bytes);

// What this build would write for them: readers compare.
uint64_t TransformId(const KvGeometry& geometry, const CachePolicy& policy);
std::vector<SessionHeader::CodebookId> CodebookIds(const CachePolicy& policy);

}  // namespace tq
