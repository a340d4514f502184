// SPDX-License-Identifier: Apache-2.0
// What the CUDA benchmark needs of a device besides the kernels that it measures.
#pragma once

#include <cstddef>
#include <cstdint>

#include "turboquant/codec/cuda/stream.h"
#include "turboquant/codec/page_layout.h"

namespace tq {

// Random codes, references near 0 and scales that give scores of a few units.
void FillPages(std::byte* pages, uint64_t bytes, const PageLayout& layout);
// Reads all bytes once.
void ReadAll(const std::byte* from, uint64_t bytes, uint32_t* out, int blocks, cuda::Stream stream);

}  // namespace tq
