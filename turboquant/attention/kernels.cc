// SPDX-License-Identifier: Apache-2.0
// Choice of kernels, and where the sides of a head block are.
#include "turboquant/attention/cpu/attention_kernels.h"

namespace tq {
namespace {

PageSide RowSide(const std::byte* head, uint32_t offset, uint32_t row_bytes, Codec codec) {
  PageSide side;
  side.data = head + offset;
  side.stride = row_bytes;
  side.codec = codec;
  return side;
}

PageSide TileSideOf(const PageLayout& layout, const std::byte* head, uint32_t codes_offset,
                    uint32_t scale_offset, Codec codec) {
  const std::byte* tiles = head + layout.tiles_offset;
  PageSide side;
  side.data = tiles + codes_offset;
  side.scales = tiles + layout.tile_scale_offset;
  side.scale_offset = static_cast<int>(scale_offset);
  side.stride = layout.tile_bytes;
  side.bits = InfoOf(codec).bits;
  side.trellis = InfoOf(codec).trellis;
  side.codec = codec;
  return side;
}

}  // namespace

PageSide KeySide(const PageLayout& layout, const std::byte* head) {
  if (layout.k_row_bytes != 0) {
    return RowSide(head, layout.k_rows_offset, layout.k_row_bytes, layout.k);
  }
  PageSide side = TileSideOf(layout, head, layout.tile_k_offset, KeyScaleOffset(0), layout.k);
  side.reference = head + layout.reference_offset;
  return side;
}

PageSide ValueSide(const PageLayout& layout, const std::byte* head) {
  if (layout.v_row_bytes != 0) {
    return RowSide(head, layout.v_rows_offset, layout.v_row_bytes, layout.v);
  }
  return TileSideOf(layout, head, layout.tile_v_offset, ValueScaleOffset(0), layout.v);
}

const AttentionKernels& GetAttentionKernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return avx512::kAttentionKernels;
    case Isa::kAvx2:
      return avx2::kAttentionKernels;
    case Isa::kScalar:
      break;
  }
  return scalar::kAttentionKernels;
}

}  // namespace tq
