// SPDX-License-Identifier: Apache-2.0
// Pages written and read on the device; the bytes are those of PageCodec on the CPU.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/codec/cuda/stream.h"
#include "turboquant/codec/transform.h"
#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

// New tokens of all sequences of a step into open pages. A page whose first token is written gets
// its reference vector here: the mean of the page before (opening_reference.h), `mean` for page 0.
struct EncodeArgs {
  StepTables tables;
  LayerPages pages;
  // [rows][G][D]. With `rotate_k`, `rotate_v` a side in tiles is rotated first and left in the
  // stored basis; without, it is there already (a calibrated map needs LaunchMapRows before).
  float* k = nullptr;
  float* v = nullptr;
  int64_t k_stride = 0;  // floats between rows
  int64_t v_stride = 0;
  bool rotate_k = true;
  bool rotate_v = true;
  const float* mean = nullptr;  // [G][D] calibrated mean in the stored basis, or null
  bool centring = true;
  int max_tokens = 1;  // tables.tokens <= this
  // Keys of many tokens are encoded page after page by a second kernel, which may run beside what
  // comes next in the stream: it reads this copy of them, [rows][G][D], written by the first one.
  float* kept_keys = nullptr;
};
void LaunchEncode(const EncodeArgs& args, Stream stream);
// Do keys of this step need the second kernel?
bool NeedsKeyChain(const EncodeArgs& args);
void LaunchKeyChain(const EncodeArgs& args, Stream stream);

// One side of one head's page, from the form before to the next one: open to sealed, or sealed to
// fewer bits. Offsets of head blocks, in bytes from the arena's start.
inline constexpr uint64_t kNoOffset = ~uint64_t{0};
struct SealJob {
  uint64_t open_offset;
  uint64_t sealed_offset;
  Side side;
  // Of the open page behind an open one, whose reference vector is the mean of this one's keys and
  // need not be computed again; kNoOffset if there is none, or pages are not centred.
  uint64_t behind_offset = kNoOffset;
};
// Jobs of the same layouts: `open` is that of the form before. Every call launches, in its stream,
// and copies what it needs into the launch.
class PageSealer {
 public:
  PageSealer(std::byte* arena, const PageLayout& open, const PageLayout& sealed,
             std::span<const SealJob> jobs);

  void SealAll(Stream stream) const;

  // Or in parts: all but searches for trellis codes, and a search of each side. That of values
  // reads open pages, that of keys what the rest has written too, if it has anything to write.
  void SealRest(Stream stream) const;
  void PrepareSearch(Side side, Stream stream) const;  // before it, in its stream
  // overlap: LaunchMaybeOverlapping's, behind another search or LaunchKeyChain.
  void Search(Side side, bool overlap, Stream stream) const;
  int SearchBlocks(Side side) const;  // none without a trellis code

 private:
  std::byte* arena_;
  PageLayout open_, sealed_;
  std::vector<SealJob> rest_;         // what is not searched, and references
  std::vector<SealJob> searches_[2];  // by side, of those that are searched
};

// Tokens [first, first + count) of one slot as the query at `position` reads them, decoded to f16
// in the basis of the pages: k, v [count][G][D], contiguous. Reference vectors are included.
struct DequantizeArgs {
  StepTables tables;
  LayerPages pages;
  int slot = 0;
  int64_t position = 0;
  int64_t first = 0;
  int count = 0;
  uint16_t* k = nullptr;
  uint16_t* v = nullptr;
};
void LaunchDequantize(const DequantizeArgs& args, Stream stream);

// Throws kUnsupported if the kernels above have no code for a layout's codecs.
void CheckPageKernels(const PageLayout& layout);

}  // namespace tq::cuda
