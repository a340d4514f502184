// SPDX-License-Identifier: Apache-2.0
// Memory for weights: pieces of large slabs that the system may back with 2 MiB pages. Every token
// streams all weights once, and with 4 KiB pages each page costs a walk of the page table and
// restarts the prefetcher (measured: +25 %).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tq {

// `bytes` of zeroed memory, aligned to 64. Neighbouring calls share slabs, so that small matrices
// lie on large pages too; a slab is unmapped when the last piece of it goes. Thread-safe. Throws
// kOutOfMemory.
std::shared_ptr<uint8_t> AllocateWeightMemory(size_t bytes);

}  // namespace tq
