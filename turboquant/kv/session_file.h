// SPDX-License-Identifier: Apache-2.0
// One sequence's cache in one file: the pages themselves, with everything needed to refuse them
// where they do not belong. The bytes are described in docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "turboquant/kv/kv_cache.h"
#include "turboquant/kv/session_format.h"

namespace tq {

class SessionFile {
 public:
  struct Contents {
    uint64_t model_id = 0;
    uint64_t calibration_id = 0;   // 0: none
    std::vector<int32_t> tokens;   // exactly those in the cache
    std::vector<std::byte> extra;  // opaque: sampler, random state, the caller's own
  };
  struct Loaded {
    SequenceId sequence = 0;
    std::vector<int32_t> tokens;
    std::vector<std::byte> extra;
  };

  // Replaces the file as a whole, or throws kIo and leaves the previous one as it was; also through
  // kill -9 and power cuts.
  static void Save(const std::filesystem::path& path, const KvCache& cache, SequenceId sequence,
                   const Contents& contents);

  // Restores into a new sequence of `cache`. Throws kNotFound; kCorruptFile (damaged, truncated,
  // not a session file); kUnsupported (format version, codebooks or transforms of another build);
  // kInvalidArgument (another model, geometry, policy or calibration: which); kOutOfMemory. The
  // cache is unchanged then.
  static Loaded Load(const std::filesystem::path& path, KvCache& cache, uint64_t model_id,
                     uint64_t calibration_id = 0);

  // What a file says about itself, its header's checksum verified.
  static SessionHeader ReadHeader(const std::filesystem::path& path);
};

}  // namespace tq
