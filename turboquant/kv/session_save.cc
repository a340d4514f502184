// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/kv/atomic_file.h"
#include "turboquant/kv/kv_state.h"
#include "turboquant/kv/session_file.h"

namespace tq {
namespace {

// Which forms of the sequence's pages are worth saving. A form half sealed is not: it is made again
// from the open one.
SessionGroup GroupOf(const KvGroup& group, const PageTable& table, const PageRecords& records,
                     int64_t length) {
  SessionGroup out{
      group.visibility.sliding_window, FormBytes(group), table.first_page, table.lost_below, {}};
  for (int page = table.first_page; page < table.pages(); ++page) {
    const bool full = (int64_t{page} + 1) * kPageTokens <= length;
    const PageRecord& record = records[table.Record(page)];
    SessionPage saved;
    for (int form = table.FirstForm(group, page); form < group.num_forms(); ++form) {
      const bool whole = form == kOpenForm ||
                         (full && record[static_cast<size_t>(form)].sealed_tasks == group.tasks);
      if (!whole || table.Block(form, page) == kNoPage) break;
      saved.forms |= static_cast<uint8_t>(1 << form);
    }
    out.pages.push_back(saved);
  }
  return out;
}

}  // namespace

void SessionFile::Save(const std::filesystem::path& path, const KvCache& cache, SequenceId id,
                       const Contents& contents) {
  const KvCache::State& s = *cache.state_;
  const KvSequence& sequence = s.Get(id);
  if (static_cast<int64_t>(contents.tokens.size()) != sequence.length) {
    Throw(ErrorCode::kInvalidArgument, "cannot save {} tokens with a cache of {}",
          contents.tokens.size(), sequence.length);
  }
  SessionHeader header{contents.model_id,
                       contents.calibration_id,
                       TransformId(s.geometry, s.policy),
                       s.geometry,
                       s.policy,
                       CodebookIds(s.policy),
                       contents.tokens,
                       sequence.recomputed,
                       contents.extra,
                       {}};
  for (size_t g = 0; g < s.layout.groups.size(); ++g) {
    header.groups.push_back(
        GroupOf(s.layout.groups[g], sequence.tables[g], s.records[g], sequence.length));
  }

  // The pages first: their checksums belong into the header, whose size is known already.
  AtomicFile file(path);
  SessionPreamble preamble;
  preamble.header_bytes = WriteSessionHeader(header).size();
  uint64_t offset = SessionPagesOffset(preamble.header_bytes);
  std::vector<std::byte> buffer;
  const auto write_block = [&](uint32_t block, uint64_t bytes) {
    buffer.resize(bytes);
    s.arena.memory().ReadBlock(block * kPageIdUnit, buffer.data(), bytes);
    file.WriteAt(offset, buffer);
    offset += bytes;
    return Hash64(buffer);
  };
  for (size_t g = 0; g < header.groups.size(); ++g) {
    SessionGroup& group = header.groups[g];
    const PageTable& table = sequence.tables[g];
    for (size_t i = 0; i < group.pages.size(); ++i) {
      const int page = group.first_page + static_cast<int>(i);
      for (size_t form = 0; form < group.form_bytes.size(); ++form) {
        if (group.pages[i].Has(static_cast<int>(form)))
          group.pages[i].checksums[form] =
              write_block(table.Block(static_cast<int>(form), page), group.form_bytes[form]);
      }
    }
  }
  std::vector<std::byte> bytes = WriteSessionHeader(header);
  TQ_CHECK(bytes.size() == preamble.header_bytes);
  bytes.resize(SessionPagesOffset(preamble.header_bytes) - sizeof(preamble));
  preamble.file_bytes = offset;
  preamble.header_checksum = SessionChecksum(preamble, bytes);
  file.WriteAt(0, std::as_bytes(std::span(&preamble, 1)));
  file.WriteAt(sizeof(preamble), bytes);
  file.Commit();
}

}  // namespace tq
