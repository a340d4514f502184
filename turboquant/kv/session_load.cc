// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/kv/kv_state.h"
#include "turboquant/kv/session_file.h"

namespace tq {
namespace {

class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) {
      Throw(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open: {}",
            std::strerror(errno));
    }
    struct stat info;
    if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
      ::close(fd_);
      Throw(ErrorCode::kIo, "not a regular file");
    }
    size_ = static_cast<uint64_t>(info.st_size);
  }
  ~InputFile() { ::close(fd_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }
  void ReadAt(uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) Throw(ErrorCode::kIo, "cannot read at byte {}: {}", offset, std::strerror(errno));
      if (n == 0) Throw(ErrorCode::kCorruptFile, "it ends at byte {} while being read", offset);
      out = out.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
  }

 private:
  int fd_;
  uint64_t size_ = 0;
};

SessionHeader ReadHeaderOf(const InputFile& file, SessionPreamble& preamble) {
  if (file.size() < sizeof(preamble)) {
    Throw(ErrorCode::kCorruptFile, "it is no TurboQuant session file: {} bytes are too few",
          file.size());
  }
  file.ReadAt(0, std::as_writable_bytes(std::span(&preamble, 1)));
  if (preamble.magic != kSessionMagic)
    Throw(ErrorCode::kCorruptFile, "it is no TurboQuant session file");
  if (preamble.version != kSessionVersion) {
    Throw(ErrorCode::kUnsupported, "it has format version {}, this build reads version {}",
          preamble.version, kSessionVersion);
  }
  if (file.size() != preamble.file_bytes) {
    Throw(ErrorCode::kCorruptFile, "it is {}: {} bytes of {}",
          file.size() < preamble.file_bytes ? "truncated" : "too long", file.size(),
          preamble.file_bytes);
  }
  if (preamble.header_bytes > file.size() ||
      SessionPagesOffset(preamble.header_bytes) > file.size()) {
    Throw(ErrorCode::kCorruptFile, "it is damaged: a header of {} bytes cannot be",
          preamble.header_bytes);
  }
  std::vector<std::byte> bytes(SessionPagesOffset(preamble.header_bytes) - sizeof(preamble));
  file.ReadAt(sizeof(preamble), bytes);
  if (SessionChecksum(preamble, bytes) != preamble.header_checksum) {
    Throw(ErrorCode::kCorruptFile, "it is damaged: its header does not match its checksum");
  }
  return ReadSessionHeader(std::span(bytes).first(preamble.header_bytes));
}

void ExpectSame(const char* what, const std::string& saved, const std::string& here) {
  if (saved != here) {
    Throw(ErrorCode::kInvalidArgument, "it was saved with {} {}, but {} is in use here", what,
          saved, here);
  }
}
std::string Text(const KvGeometry& g) {
  return fmt::format("{} layers, {} KV heads of dim {}", g.num_layers, g.kv_heads, g.head_dim);
}

void CheckBelongsHere(const SessionHeader& h, const KvGeometry& geometry, const CachePolicy& policy,
                      uint64_t model_id, uint64_t calibration_id) {
  ExpectSame("the model", HexString(h.model_id), HexString(model_id));
  ExpectSame("a model of", Text(h.geometry), Text(geometry));
  if (h.geometry != geometry)
    Throw(ErrorCode::kInvalidArgument, "it was saved with other sliding windows");
  ExpectSame("key cache type", CodecListText(h.policy.k), CodecListText(policy.k));
  ExpectSame("value cache type", CodecListText(h.policy.v), CodecListText(policy.v));
  ExpectSame("cache window", std::to_string(h.policy.window), std::to_string(policy.window));
  ExpectSame("cache sink pages", std::to_string(h.policy.sink_pages),
             std::to_string(policy.sink_pages));
  ExpectSame("rollback range", std::to_string(h.policy.rollback), std::to_string(policy.rollback));
  ExpectSame("centring", h.policy.centring ? "on" : "off", policy.centring ? "on" : "off");
  const auto ages = [](const CachePolicy& p) {
    return p.ages.empty() ? "none" : AgeStepsText(p.ages);
  };
  ExpectSame("cache ages", ages(h.policy), ages(policy));
  if (h.calibration_id != calibration_id) {
    const auto name = [](uint64_t id) {
      return id == 0 ? "none" : fmt::format("calibration {}", HexString(id));
    };
    Throw(ErrorCode::kInvalidArgument,
          "its keys were saved with {}, but {} is in use here: give the calibration that it was "
          "saved "
          "with, or compute the text anew",
          name(h.calibration_id), name(calibration_id));
  }
  if (h.transform_id != TransformId(geometry, policy))
    Throw(ErrorCode::kUnsupported, "its rotation is not that of this build");
  if (h.codebooks != CodebookIds(policy))
    Throw(ErrorCode::kUnsupported, "its codebooks are not those of this build");
}

// The table that a group's pages make, still without blocks. Every page that a query may ask for
// must be there.
PageTable CheckGroup(const KvGroup& group, const SessionGroup& saved, int64_t length) {
  const auto bad = [](const char* what) {
    Throw(ErrorCode::kCorruptFile, "its page tables are damaged: {}", what);
  };
  if (saved.sliding_window != group.visibility.sliding_window ||
      saved.form_bytes != FormBytes(group)) {
    bad("a group of layers has another shape");
  }
  const int pages = PagesFor(length), sinks = group.visibility.sink_pages;
  if (saved.first_page < 0 || saved.first_page > group.FirstPage(length) ||
      saved.pages.size() != static_cast<size_t>(pages - saved.first_page)) {
    bad("pages are missing");
  }
  PageTable table(group);
  table.first_page = saved.first_page;
  for (size_t form = 0; form < table.lost_below.size(); ++form) {
    const int lost = table.lost_below[form] = saved.lost_below[form];
    if (lost < 0 || lost > pages)
      bad("forms that a truncation lost are of pages that are not there");
  }
  for (int& first : table.first_of_form) first = std::max(saved.first_page, sinks);
  for (int page = saved.first_page; page < pages; ++page) {
    const SessionPage& forms = saved.pages[static_cast<size_t>(page - saved.first_page)];
    const bool full = (int64_t{page} + 1) * kPageTokens <= length;
    if ((group.IsSink(page) || !full) && forms.forms != 1)
      bad("a page that cannot be sealed has other forms than the 8-bit one");
    const int first = std::countr_zero(forms.forms);
    const unsigned neighbours = static_cast<unsigned>(forms.forms) >> first;
    if ((neighbours & (neighbours + 1)) != 0) bad("a page lacks a form between others");
    for (int form = 0; form < first; ++form) {
      if (page != table.FirstOf(form)) bad("a page lacks a form between others that have it");
      ++table.FirstOf(form);
    }
  }
  for (std::vector<uint32_t>& blocks : table.blocks)
    blocks.assign(static_cast<size_t>(pages), kNoPage);
  table.records.assign(static_cast<size_t>(pages), kNoRecord);
  return table;
}

std::string Located(const std::filesystem::path& path, const Error& error) {
  return fmt::format("session file {}: {}", path.string(), error.what());
}

}  // namespace

SessionHeader SessionFile::ReadHeader(const std::filesystem::path& path) {
  try {
    SessionPreamble preamble;
    return ReadHeaderOf(InputFile(path), preamble);
  } catch (const Error& error) {
    throw Error(error.code(), Located(path, error));
  }
}

SessionFile::Loaded SessionFile::Load(const std::filesystem::path& path, KvCache& cache,
                                      uint64_t model_id, uint64_t calibration_id) {
  KvCache::State& s = *cache.state_;
  auto sequence = std::make_unique<KvSequence>();
  std::vector<PageTable>& tables = sequence->tables;
  const auto give_back = [&] {
    for (size_t g = 0; g < tables.size(); ++g) {
      for (size_t form = 0; form < tables[g].blocks.size(); ++form) {
        for (const uint32_t id : tables[g].blocks[form]) {
          if (id != kNoPage) s.arena.Free(id, s.layout.groups[g].forms[form].bytes);
        }
      }
    }
  };
  try {
    const InputFile file(path);
    SessionPreamble preamble;
    SessionHeader header = ReadHeaderOf(file, preamble);
    CheckBelongsHere(header, s.geometry, s.policy, model_id, calibration_id);
    if (header.tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) ||
        header.groups.size() != s.layout.groups.size()) {
      Throw(ErrorCode::kCorruptFile, "its header is damaged: its sizes cannot be");
    }
    sequence->length = static_cast<int64_t>(header.tokens.size());
    sequence->recomputed = header.recomputed;
    if (header.recomputed < 0)
      Throw(ErrorCode::kCorruptFile, "its header is damaged: a length of {}", header.recomputed);
    uint64_t bytes = SessionPagesOffset(preamble.header_bytes);
    for (size_t g = 0; g < header.groups.size(); ++g) {
      tables.push_back(CheckGroup(s.layout.groups[g], header.groups[g], sequence->length));
      const std::vector<uint64_t>& form_bytes = header.groups[g].form_bytes;
      for (const SessionPage& page : header.groups[g].pages) {
        for (size_t form = 0; form < form_bytes.size(); ++form)
          bytes += page.Has(static_cast<int>(form)) ? form_bytes[form] : 0;
      }
    }
    if (bytes != preamble.file_bytes) {
      Throw(ErrorCode::kCorruptFile, "it is damaged: its pages need {} bytes, it has {}", bytes,
            preamble.file_bytes);
    }

    uint64_t offset = SessionPagesOffset(preamble.header_bytes);
    std::vector<std::byte> buffer;
    const auto read_block = [&](uint32_t& id, uint64_t size, uint64_t checksum, int page,
                                int form) {
      buffer.resize(size);
      file.ReadAt(offset, buffer);
      if (Hash64(buffer) != checksum) {
        Throw(ErrorCode::kCorruptFile,
              "it is damaged: the {} form of page {} (at byte {}) does not match its checksum",
              form == kOpenForm     ? "8-bit"
              : form == kSealedForm ? "sealed"
                                    : "aged",
              page, offset);
      }
      id = s.arena.Allocate(size);
      s.arena.memory().WriteBlock(id * kPageIdUnit, buffer.data(), size);
      offset += size;
    };
    for (size_t g = 0; g < tables.size(); ++g) {
      const SessionGroup& group = header.groups[g];
      for (size_t i = 0; i < group.pages.size(); ++i) {
        const SessionPage& saved = group.pages[i];
        const int page = group.first_page + static_cast<int>(i);
        for (int form = 0; form < s.layout.groups[g].num_forms(); ++form) {
          const auto f = static_cast<size_t>(form);
          if (saved.Has(form))
            read_block(tables[g].Block(form, page), group.form_bytes[f], saved.checksums[f], page,
                       form);
        }
      }
      s.records[g].Prepare(group.pages.size());
    }

    // Nothing below fails but for want of a few bytes, and then before anything is changed.
    const SequenceId id = s.Add(nullptr);
    for (size_t g = 0; g < tables.size(); ++g) {
      PageTable& table = tables[g];
      const KvGroup& group = s.layout.groups[g];
      for (int page = table.first_page; page < table.pages(); ++page) {
        const RecordId record_id = s.records[g].Add(table.FirstForm(group, page));
        table.records[static_cast<size_t>(page)] = record_id;
        for (int form = 0; form < group.num_forms(); ++form) {
          PageFormRecord& record = s.records[g][record_id][static_cast<size_t>(form)];
          record.block = table.Block(form, page);
          if (form != kOpenForm && record.block != kNoPage)
            record.sealed_tasks = record.planned_tasks = group.tasks;
        }
      }
    }
    s.sequences[static_cast<size_t>(id)] = std::move(sequence);
    return {id, std::move(header.tokens), std::move(header.extra)};
  } catch (const Error& error) {
    give_back();
    throw Error(error.code(), Located(path, error));
  } catch (...) {
    give_back();
    throw;
  }
}

}  // namespace tq
