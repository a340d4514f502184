// SPDX-License-Identifier: Apache-2.0
// The page arena on a GPU: reserved addresses, memory in slabs, byte operations ordered with the
// work of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "turboquant/kv/page_arena.h"

namespace tq::cuda {

// Byte operations run on `stream`; `before` is called first, and before memory comes, goes
// elsewhere or ends, to order all that behind whatever else touches pages (sealing on a side
// stream), launched yet or not. The stream and what `before` calls must outlive it.
std::unique_ptr<ArenaMemory> MakeDeviceArenaMemory(uint64_t reserve_bytes, cudaStream_t stream,
                                                   std::function<void()> before);

}  // namespace tq::cuda
