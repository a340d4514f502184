// SPDX-License-Identifier: Apache-2.0
// Linear: x is brought into the kernels' form once, then all panels of all outputs are spread over
// the threads. Large batches walk K in chunks, so that the tokens' chunk stays in the second-level
// cache while the panels stream by.
#include "turboquant/ops/linear.h"

#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/ops/cpu/linear_kernels.h"
#include "turboquant/ops/linear_workspace.h"
#include "turboquant/ops/packed_panels.h"

namespace tq {
namespace {

constexpr int64_t kFloatChunk = 256;  // columns dequantised at once: 16 KiB
constexpr int64_t kTokenChunkBytes =
    640 << 10;  // of 8-bit tokens: what a second-level cache holds beside the panels
constexpr int64_t kMaxChunk = 4096;  // columns of them
constexpr int64_t kDenseChunk = 4;   // blocks requantised at once: 17 KiB
constexpr int64_t kManyPanels = 16;  // handed out at once when each is a lot of work
constexpr int64_t kSerialValues =
    32768;  // below this many values a parallel region costs more than it brings

int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

const LinearKernels& Kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return avx512::kLinearKernels;
    case Isa::kAvx2:
      return avx2::kLinearKernels;
    case Isa::kScalar:
      break;
  }
  return scalar::kLinearKernels;
}

// Tokens cut into tiles of 16 and one smaller rest.
struct Tiling {
  int64_t tokens;
  int64_t num_tiles() const { return (tokens + kMaxTile - 1) / kMaxTile; }
  int64_t first(int64_t tile) const { return tile * kMaxTile; }
  int valid(int64_t tile) const {
    return static_cast<int>(std::min<int64_t>(kMaxTile, tokens - first(tile)));
  }
  int size_index(int64_t tile) const { return TileIndexFor(valid(tile)); }
  int size(int64_t tile) const { return TileSize(size_index(tile)); }
  int64_t padded() const { return (num_tiles() - 1) * kMaxTile + size(num_tiles() - 1); }
};

const PackedPanels& PanelsOf(const LinearOut& out) {
  return static_cast<const PackedPanels&>(*out.weight);
}

bool UsesInt8(const LinearOut& out, Precision precision) {
  return precision == Precision::kFast && PanelsOf(out).layout().quantised();
}

class LinearCall {
 public:
  LinearCall(MatrixView<const float> x, Precision precision, LinearWorkspace& workspace,
             const ThreadPool& pool, Isa isa)
      : x_(x),
        tiling_{x.rows},
        precision_(precision),
        workspace_(workspace),
        pool_(pool),
        kernels_(Kernels(isa)) {}

  void Run(std::span<const LinearOut> outs) {
    int64_t total = 0;
    bool any_int8 = false, any_dense = false, any_float = false;
    for (const LinearOut& out : outs) {
      TQ_CHECK(out.weight->cols() == x_.cols && out.out.cols == out.weight->rows() &&
               out.out.rows == x_.rows);
      (!UsesInt8(out, precision_) ? any_float : UsesDense(out) ? any_dense : any_int8) = true;
      total += PanelsOf(out).num_panels();
    }
    if (x_.rows == 0) return;
    if (any_int8) Quantize();
    if (any_dense) QuantizeDense();
    if (any_float) ArrangeFloats();
    auto panels = [&](int64_t begin, int64_t end, int worker) {
      int64_t base = 0;  // panels of the outputs before this one
      for (const LinearOut& out : outs) {
        const int64_t panels = PanelsOf(out).num_panels();
        const int64_t from = std::max(begin - base, int64_t{0}), to = std::min(end - base, panels);
        base += panels;
        if (from >= to) continue;
        if (!UsesInt8(out, precision_)) {
          FloatPanels(out, from, to, worker);
        } else if (UsesDense(out)) {
          DensePanels(out, from, to, worker);
        } else {
          Int8Panels(out, from, to);
        }
      }
    };
    // Many tokens: a thread that the system disturbs gets fewer panels. Few: each thread streams
    // one stretch of memory.
    if (tiling_.num_tiles() > 1) {
      pool_.ParallelForDynamic(total, kManyPanels, panels);
    } else {
      pool_.ParallelFor(total, 1, panels);
    }
  }

 private:
  template <typename Fn>
  void ForTiles(Fn&& fn) {
    if (x_.rows * x_.cols <= kSerialValues) {
      for (int64_t tile = 0; tile < tiling_.num_tiles(); ++tile) fn(tile);
      return;
    }
    pool_.ParallelFor(tiling_.num_tiles(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t tile = begin; tile < end; ++tile) fn(tile);
    });
  }

  void Quantize() {
    const int64_t groups = x_.cols / kGroupColumns;
    workspace_.int8_tokens.EnsureSize(
        static_cast<size_t>(tiling_.padded() * groups * kTokenGroupBytes));
    ForTiles([&](int64_t tile) {
      kernels_.quantize_tile(
          x_.row(tiling_.first(tile)), x_.stride, tiling_.valid(tile), tiling_.size(tile), groups,
          workspace_.int8_tokens.data() + tiling_.first(tile) * groups * kTokenGroupBytes);
    });
  }

  // Many tokens and a format whose scales already span 256 columns. With one scale of x per 256
  // columns for the formats of 32 too, SmolLM2's Q4_1 (perplexity 22.75 in f32) went from 22.83 to
  // 23.14: more than the 1 % that fast products may cost.
  bool UsesDense(const LinearOut& out) const {
    return tiling_.num_tiles() > 1 && kernels_.dense_panel != nullptr &&
           HasSuper(PanelsOf(out).layout().scales);
  }

  int64_t dense_blocks() const { return (x_.cols + kDenseColumns - 1) / kDenseColumns; }

  void QuantizeDense() {
    const int64_t tile_bytes = dense_blocks() * kDenseBytes;
    workspace_.dense_tokens.EnsureSize(static_cast<size_t>(tiling_.num_tiles() * tile_bytes));
    workspace_.dense_panels.EnsureSize(
        static_cast<size_t>(pool_.num_threads() * kDenseChunk * kDenseBytes));
    ForTiles([&](int64_t tile) {
      kernels_.quantize_dense(x_.row(tiling_.first(tile)), x_.stride, tiling_.valid(tile), x_.cols,
                              workspace_.dense_tokens.data() + tile * tile_bytes);
    });
  }

  void ArrangeFloats() {
    workspace_.float_tokens.EnsureSize(static_cast<size_t>(tiling_.padded() * x_.cols));
    workspace_.panels.EnsureSize(
        static_cast<size_t>(pool_.num_threads() * kFloatChunk * kPanelRows));
    ForTiles([&](int64_t tile) {
      const int size = tiling_.size(tile), valid = tiling_.valid(tile);
      float* to = workspace_.float_tokens.data() + tiling_.first(tile) * x_.cols;
      for (int t = 0; t < size; ++t) {
        const float* from = t < valid ? x_.row(tiling_.first(tile) + t) : nullptr;
        for (int64_t k = 0; k < x_.cols; ++k) to[k * size + t] = from != nullptr ? from[k] : 0.0f;
      }
    });
  }

  template <typename Call>
  void SetOutput(const LinearOut& out, int64_t panel, int64_t tile, bool first_chunk,
                 Call& call) const {
    const int64_t row = panel * kPanelRows;
    call.out = out.out.row(tiling_.first(tile)) + row;
    call.out_stride = out.out.stride;
    call.rows = static_cast<int>(std::min<int64_t>(kPanelRows, out.weight->rows() - row));
    call.tokens = tiling_.valid(tile);
    call.bias = out.bias != nullptr ? out.bias + row : nullptr;
    call.accumulate = !first_chunk;
  }

  void Int8Panels(const LinearOut& out, int64_t from, int64_t to) const {
    const PackedPanels& weight = PanelsOf(out);
    const int64_t groups = x_.cols / kGroupColumns;
    // Blocks of tokens and columns that stay in the cache while the panels stream by.
    const int64_t chunks = tiling_.num_tiles() == 1 ? 1 : (x_.cols + kMaxChunk - 1) / kMaxChunk;
    const int64_t chunk =
        chunks == 1 ? groups : RoundUp((groups + chunks - 1) / chunks, kGroupsPerSuper);
    const int64_t tiles_at_once =
        std::max<int64_t>(kTokenChunkBytes / (chunk * kTokenGroupBytes * kMaxTile), 1);
    for (int64_t tile = 0; tile < tiling_.num_tiles(); tile += tiles_at_once) {
      const int64_t tile_end = std::min(tile + tiles_at_once, tiling_.num_tiles());
      for (int64_t g = 0; g < groups; g += chunk) {
        for (int64_t p = from; p < to; ++p)
          Int8Panel(out, weight, p, tile, tile_end, g, std::min(chunk, groups - g));
      }
    }
  }

  void Int8Panel(const LinearOut& out, const PackedPanels& weight, int64_t p, int64_t tile_begin,
                 int64_t tile_end, int64_t first_group, int64_t groups) const {
    PanelCall call;
    call.w = weight.panel(p) + weight.layout().offset_of(first_group * kGroupColumns);
    call.groups = groups;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const int64_t record =
          tiling_.first(tile) * (x_.cols / kGroupColumns) + first_group * tiling_.size(tile);
      call.x = workspace_.int8_tokens.data() + record * kTokenGroupBytes;
      SetOutput(out, p, tile, first_group == 0, call);
      kernels_.int8_panel[weight.layout_index()][tiling_.size_index(tile)](call);
    }
  }

  // A chunk of columns of the tokens stays in the cache while the panels go by, each requantised
  // piece by piece.
  void DensePanels(const LinearOut& out, int64_t from, int64_t to, int worker) const {
    const PackedPanels& weight = PanelsOf(out);
    uint8_t* buffer = workspace_.dense_panels.data() + worker * kDenseChunk * kDenseBytes;
    const int64_t blocks = dense_blocks(), chunks = (blocks + kDenseChunk - 1) / kDenseChunk;
    const int64_t chunk = (blocks + chunks - 1) / chunks;
    const int64_t tiles_at_once = std::max<int64_t>(kTokenChunkBytes / (chunk * kDenseBytes), 1);
    DenseCall call;
    call.w = buffer;
    for (int64_t tile = 0; tile < tiling_.num_tiles(); tile += tiles_at_once) {
      const int64_t tile_end = std::min(tile + tiles_at_once, tiling_.num_tiles());
      for (int64_t block = 0; block < blocks; block += chunk) {
        const int64_t column = block * kDenseColumns;
        call.columns = std::min(chunk * kDenseColumns, x_.cols - column);
        for (int64_t p = from; p < to; ++p) {
          kernels_.requantize[weight.layout_index()](
              weight.panel(p) + weight.layout().offset_of(column), call.columns, buffer);
          for (int64_t t = tile; t < tile_end; ++t) {
            call.x = workspace_.dense_tokens.data() + (t * blocks + block) * kDenseBytes;
            SetOutput(out, p, t, block == 0, call);
            kernels_.dense_panel(call);
          }
        }
      }
    }
  }

  void FloatPanels(const LinearOut& out, int64_t from, int64_t to, int worker) const {
    const PackedPanels& weight = PanelsOf(out);
    const PackedLayout& layout = weight.layout();
    float* buffer = workspace_.panels.data() + worker * kFloatChunk * kPanelRows;
    // Many tokens: a chunk of all of them stays in the cache while the panels go by. Few: stream
    // panel after panel.
    const bool panels_inside = tiling_.num_tiles() > 1;
    const int64_t chunks = (x_.cols + kFloatChunk - 1) / kFloatChunk;
    const int64_t steps = chunks * (to - from);
    for (int64_t step = 0; step < steps; ++step) {
      const int64_t p = from + (panels_inside ? step % (to - from) : step / chunks);
      const int64_t k = (panels_inside ? step / (to - from) : step % chunks) * kFloatChunk;
      FloatCall call;
      call.w = buffer;
      call.columns = std::min(kFloatChunk, x_.cols - k);
      const uint8_t* w = weight.panel(p) + layout.offset_of(k);
      if (layout.format == BlockFormat::kF32) {
        call.w = reinterpret_cast<const float*>(w);
      } else {
        kernels_.dequantize[weight.layout_index()](w, call.columns, buffer);
      }
      for (int64_t tile = 0; tile < tiling_.num_tiles(); ++tile) {
        call.x =
            workspace_.float_tokens.data() + tiling_.first(tile) * x_.cols + k * tiling_.size(tile);
        SetOutput(out, p, tile, k == 0, call);
        kernels_.float_panel[tiling_.size_index(tile)](call);
      }
    }
  }

  MatrixView<const float> x_;
  Tiling tiling_;
  Precision precision_;
  LinearWorkspace& workspace_;
  const ThreadPool& pool_;
  const LinearKernels& kernels_;
};

}  // namespace

void Linear(MatrixView<const float> x, std::span<const LinearOut> outs, Precision precision,
            LinearWorkspace& workspace, const ThreadPool& pool, Isa isa) {
  LinearCall(x, precision, workspace, pool, isa).Run(outs);
}

}  // namespace tq
