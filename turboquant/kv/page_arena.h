// SPDX-License-Identifier: Apache-2.0
// Page memory: one reserved address range per device, committed in 2 MiB slabs, one page size per
// run of slabs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tq {

// A reserved address range that is given memory piece by piece (mmap on the host, virtual memory on
// a GPU). Offsets and sizes of Commit and Decommit are multiples of PageArena::kSlabBytes. The byte
// operations are for the host; memory that the host cannot touch overrides them.
class ArenaMemory {
 public:
  virtual ~ArenaMemory() = default;
  virtual std::byte* base() = 0;
  virtual uint64_t reserved_bytes() const = 0;
  // Does it read as zero? Throws kOutOfMemory, with nothing committed.
  virtual bool Commit(uint64_t offset, uint64_t bytes) = 0;
  virtual void Decommit(uint64_t offset, uint64_t bytes) = 0;

  virtual void CopyBlock(uint64_t from_offset, uint64_t to_offset, uint64_t bytes);
  virtual void ZeroBlock(uint64_t offset, uint64_t bytes);
  virtual void ReadBlock(uint64_t offset, std::byte* out, uint64_t bytes);
  virtual void WriteBlock(uint64_t offset, const std::byte* in, uint64_t bytes);
};

// Addresses cost nothing until they are committed: reserve generously (twice the budget leaves room
// for any mixture of page sizes). Rounded up to whole slabs. Throws kOutOfMemory.
std::unique_ptr<ArenaMemory> MakeHostArenaMemory(uint64_t reserve_bytes);

// Hands out page blocks. Blocks of one size lie in runs of slabs of their own, chosen so that at
// most 1/16 of a full run is lost at its end; a slab is committed while a block touches it and
// given back when none does. The free block at the lowest address goes first, so n live blocks of a
// size never spread over more slabs than their peak number needs.
class PageArena {
 public:
  static constexpr uint64_t kSlabBytes = 2u << 20;

  // budget_bytes 0: all that is reserved.
  PageArena(std::unique_ptr<ArenaMemory> memory, uint64_t budget_bytes);
  ~PageArena();

  // A zeroed page block of `bytes` (rounded up to 256); its id in units of 256 B. Throws
  // kOutOfMemory.
  uint32_t Allocate(uint64_t bytes);
  // `count` of them, behind what is in `ids`; if it throws, none. Blocks side by side are cleared
  // together: on a GPU a call takes longer than what it clears.
  void Allocate(uint64_t bytes, int64_t count, std::vector<uint32_t>& ids);
  void Free(uint32_t id, uint64_t bytes);

  bool Fits(uint64_t bytes,
            int64_t count) const;  // would `count` more blocks of `bytes` fit the budget?
  // Bytes that would have to be committed for `count` more blocks of `bytes` (addresses
  // permitting).
  uint64_t ExtraCommit(uint64_t bytes, int64_t count) const;
  // The same for the first `count` blocks in an empty arena: what a budget must be to hold them.
  static uint64_t CommitFor(uint64_t bytes, int64_t count);

  ArenaMemory& memory() const;
  std::byte* base() const;
  uint64_t committed_bytes() const;
  uint64_t budget_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tq
