// SPDX-License-Identifier: Apache-2.0
#include "bench/cuda/bench_kernels.h"

namespace tq {
namespace {

__device__ uint32_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(x ^ (x >> 31));
}

__global__ void FillPagesKernel(std::byte* base, uint64_t bytes, PageLayout layout) {
  const uint64_t i = (blockIdx.x * uint64_t{blockDim.x} + threadIdx.x) * 4;
  if (i >= bytes) return;
  uint32_t word = Mix(i + 77);
  const auto in_head = static_cast<uint32_t>(i % layout.head_bytes);
  if (layout.tile_bytes != 0) {
    const bool reference = layout.k_row_bytes == 0 && in_head < layout.tiles_offset;
    const uint32_t in_tile = (in_head - layout.tiles_offset) % layout.tile_bytes;
    if (reference || in_tile >= layout.tile_scale_offset) {
      word = (word & 0x01ff01ffu) | (reference ? 0x28002800u : 0x20002000u);
    }
  } else if (layout.k == Codec::kF16) {
    word = (word & 0x81ff81ffu) | 0x34003400u;
  }
  *reinterpret_cast<uint32_t*>(base + i) = word;
}

__global__ void ReadAllKernel(const uint4* p, uint64_t n, uint32_t* out) {
  uint32_t x = 0;
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x;
  for (; i + 3 * step < n; i += 4 * step) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint4 v = __ldcs(p + i + j * step);
      x ^= v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (x == 0x12345) *out = x;
}

}  // namespace

void FillPages(std::byte* pages, uint64_t bytes, const PageLayout& layout) {
  if (bytes == 0) return;
  FillPagesKernel<<<static_cast<unsigned>(bytes / 4 / 256 + 1), 256>>>(pages, bytes, layout);
}

void ReadAll(const std::byte* from, uint64_t bytes, uint32_t* out, int blocks,
             cuda::Stream stream) {
  ReadAllKernel<<<static_cast<unsigned>(blocks), 256, 0, stream>>>(
      reinterpret_cast<const uint4*>(from), bytes / 16, out);
}

}  // namespace tq
