// SPDX-License-Identifier: Apache-2.0
// Floats to page bytes and back. `head` points at one head's block (PageLayout::head_bytes) of a
// page. Tokens are counted from the page's start. Everything here is bit-exact: the same input
// gives the same bytes on every ISA and device.
#pragma once

#include <cstddef>

#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/matrix_view.h"
#include "turboquant/codec/page_layout.h"

namespace tq {

// Tokens of a page: whole tiles of it, or any of a side in rows.
struct PageTokens {
  int begin = 0, end = kPageTokens;
};

struct PageCodec {
  // Writes the reference vector r [D] of a page (K in tiles; a no-op for rows), rounded to f16.
  void (*SetReference)(const PageLayout&, std::byte* head, const float* r) noexcept;

  // Appends tokens [first, first + z.rows): z [n][D]. Layout sides must be turbo8 or rows ("open"
  // pages). turbo8: codes of z - r (r read back from the page), scale = absmax / 127 as f16, half
  // to even, within +-127. Defined for every input: NaN and infinities: see docs/format.md.
  void (*EncodeKeys)(const PageLayout&, std::byte* head, int first,
                     MatrixView<const float> z) noexcept;
  void (*EncodeValues)(const PageLayout&, std::byte* head, int first,
                       MatrixView<const float> z) noexcept;

  // Compresses tokens of one side of a full page, open or sealed before at more bits, into a sealed
  // page of another layout, a pure function of its bytes. Keys: the sealed r is the mean of the
  // page's decoded keys, the first time; it stays when keys are sealed again. Every call works it
  // out, that of token 0 writes it: ranges can be sealed in any order, or at once. A side whose
  // codec stays is copied.
  void (*SealKeys)(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                   std::byte* sealed_head, PageTokens) noexcept;
  void (*SealValues)(const PageLayout& open, const std::byte* open_head, const PageLayout& sealed,
                     std::byte* sealed_head, PageTokens) noexcept;

  // Decodes tokens [first, first + out.rows) to out [n][D] (stored basis for tiles, r included; raw
  // basis for rows).
  void (*DecodeKeys)(const PageLayout&, const std::byte* head, int first,
                     MatrixView<float> out) noexcept;
  void (*DecodeValues)(const PageLayout&, const std::byte* head, int first,
                       MatrixView<float> out) noexcept;

  // Mean over the page's 128 decoded keys, summed in f32 in token order: the next open page's r.
  // mean [D].
  void (*MeanKey)(const PageLayout&, const std::byte* head, float* mean) noexcept;
};

const PageCodec& GetPageCodec(Isa isa = ActiveIsa());

}  // namespace tq
