// SPDX-License-Identifier: Apache-2.0
// Session files of any bytes. The first byte chooses: the bytes as they are; the bytes with
// checksums made right; or a right header whose page tables the bytes make up. What loads must be
// usable: every page that a query may ask for is there.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/kv/session_file.h"

namespace tq {
namespace {

const KvGeometry& Geometry() {
  static const KvGeometry geometry = {3, 1, 64, {0, 200, 0}};
  return geometry;
}
CachePolicy Policy() {
  CachePolicy policy;
  policy.k = {Codec::kTurbo4, Codec::kTurbo3, Codec::kTurbo8};
  policy.v = {Codec::kTurbo3, Codec::kTurbo2, Codec::kTurbo8};
  policy.ages = {{300, Codec::kTurbo3, Codec::kTurbo2}, {500, Codec::kTurbo2, Codec::kTurbo2}};
  return policy;
}

// Header and pages -> a file whose sizes and checksums are right.
std::vector<std::byte> Assemble(SessionHeader header, std::vector<std::byte> pages) {
  size_t at = 0;
  const auto checksum = [&](uint64_t bytes) {
    const size_t begin = std::min(at, pages.size());
    const size_t n = std::min<size_t>(bytes, pages.size() - begin);
    at = begin + n;
    return Hash64(std::span(pages).subspan(begin, n));
  };
  for (SessionGroup& group : header.groups) {
    for (SessionPage& page : group.pages) {
      for (size_t form = 0; form < group.form_bytes.size(); ++form) {
        if (page.Has(static_cast<int>(form)))
          page.checksums[form] = checksum(group.form_bytes[form]);
      }
    }
  }
  std::vector<std::byte> bytes = WriteSessionHeader(header);
  SessionPreamble preamble;
  preamble.header_bytes = bytes.size();
  bytes.resize(SessionPagesOffset(bytes.size()) - sizeof(preamble));
  preamble.file_bytes = sizeof(preamble) + bytes.size() + pages.size();
  preamble.header_checksum = SessionChecksum(preamble, bytes);
  const auto head = std::as_bytes(std::span(&preamble, 1));
  bytes.insert(bytes.begin(), head.begin(), head.end());
  bytes.insert(bytes.end(), pages.begin(), pages.end());
  return bytes;
}

// Bytes that claim to be header and pages: as they are where the header cannot be read.
std::vector<std::byte> Repair(std::span<const std::byte> data) {
  for (size_t size = data.size(); size > 0; size = size > 64 ? size - 64 : 0) {
    try {
      return Assemble(ReadSessionHeader(data.first(size)),
                      {data.begin() + static_cast<int64_t>(size), data.end()});
    } catch (const Error&) {
    }
  }
  return {data.begin(), data.end()};
}

std::vector<std::byte> MakeUp(std::span<const std::byte> data) {
  const auto next = [&]() -> unsigned {
    if (data.empty()) return 0;
    const auto value = std::to_integer<unsigned>(data[0]);
    data = data.subspan(1);
    return value;
  };
  SessionHeader header;
  header.geometry = Geometry();
  header.policy = Policy();
  header.transform_id = TransformId(header.geometry, header.policy);
  header.codebooks = CodebookIds(header.policy);
  header.tokens.resize(next() * 4 + next() % 4);
  header.recomputed = static_cast<int64_t>(next()) * 4 - 4;
  uint64_t bytes = 0;
  for (const KvGroup& group : KvLayout(header.geometry, header.policy).groups) {
    const int first = static_cast<int>(next() % 12) - 1;
    std::vector<int32_t> lost(group.forms.size() - 1);
    for (int32_t& below : lost) below = static_cast<int32_t>(next() % 12) - 1;
    SessionGroup saved{group.visibility.sliding_window, FormBytes(group), first, lost, {}};
    const int shift = static_cast<int>(next() % 8);
    for (int page = first;
         page < PagesFor(static_cast<int64_t>(header.tokens.size())) + (shift == 7 ? 1 : 0);
         ++page) {
      SessionPage forms;
      forms.forms = static_cast<uint8_t>(1 + next() % ((1u << group.forms.size()) - 1));
      for (int form = 0; form < group.num_forms(); ++form)
        bytes += forms.Has(form) ? group.form(form).bytes : 0;
      saved.pages.push_back(forms);
    }
    header.groups.push_back(saved);
  }
  return Assemble(header, std::vector<std::byte>(bytes));
}

// Every page of every query in [position, end) is there in the form that the query reads.
void CheckUsable(const KvCache& cache, SequenceId id, int64_t begin, int64_t end) {
  for (int layer = 0; layer < cache.geometry().num_layers; ++layer) {
    const KvLayerView view = cache.View(id, layer);
    for (int64_t position = begin; position < end; position += 37) {
      const int pages = std::min(view.num_pages, static_cast<int>(position / kPageTokens) + 1);
      for (int page = static_cast<int>(view.visibility.FirstVisible(position) / kPageTokens);
           page < pages; ++page) {
        TQ_CHECK(view.PageId(view.FormAt(page, position), page) != kNoPage);
      }
    }
  }
}

}  // namespace
}  // namespace tq

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tq;  // NOLINT(google-build-using-namespace)
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data + 1, size - 1));
  const std::vector<std::byte> file = data[0] % 3 == 0
                                          ? std::vector<std::byte>(input.begin(), input.end())
                                      : data[0] % 3 == 1 ? Repair(input)
                                                         : MakeUp(input);
  const int fd = memfd_create("session", MFD_CLOEXEC);
  TQ_CHECK(fd >= 0 && write(fd, file.data(), file.size()) == static_cast<ssize_t>(file.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  KvCache cache(Geometry(), Policy(), MakeHostArenaMemory(256 << 20), 0);
  try {
    const SessionFile::Loaded loaded = SessionFile::Load(path, cache, 0);
    const int64_t length = cache.Length(loaded.sequence);
    TQ_CHECK(static_cast<int64_t>(loaded.tokens.size()) == length);
    const AppendRequest request{loaded.sequence, 300};
    const AppendPlan plan = cache.PlanAppend({&request, 1});
    CheckUsable(cache, loaded.sequence, length, length + 300);
    cache.Commit(plan);
    const int64_t kept = cache.Truncate(loaded.sequence, length / 2);
    const AppendRequest more{loaded.sequence, 100};
    cache.PlanAppend({&more, 1});
    CheckUsable(cache, loaded.sequence, kept, kept + 100);
    cache.FreeSequence(loaded.sequence);
  } catch (const Error&) {
  }
  TQ_CHECK(cache.Memory().committed_bytes == 0);
  close(fd);
  return 0;
}
