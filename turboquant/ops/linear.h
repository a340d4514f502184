// SPDX-License-Identifier: Apache-2.0
// Weight matrices and their products. Weights stay packed in memory (DESIGN, section 7): every GGUF
// block format is converted at load, without loss, into one of a few layouts
// (ops/packed_layouts.h); one kernel per layout.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/matrix_view.h"
#include "turboquant/base/thread_pool.h"
#include "turboquant/gguf/gguf_file.h"

namespace tq {

// fast: 8-bit activations and integer dot products; for many tokens on AVX-512 the weights are
// brought to 8 bits as well, piece by piece (cpu/linear_kernels.h). Float weights take f32
// products. precise: f32 products throughout, as `perplexity` and `compare` use.
enum class Precision { kFast, kPrecise };

// A weight [rows N, cols K] in a packed layout. Immutable.
class PackedWeight {
 public:
  // Converts; `pool` only speeds it up. Releases the tensor's mapped bytes on the way, so that a
  // large one is not resident twice.
  static std::unique_ptr<const PackedWeight> Pack(const GgufTensor& tensor, const ThreadPool& pool);
  // Several tensors with equal cols stacked into one matrix (q, k, v; gate, up): fewer, larger
  // products. All must be packed in the same layout, else nullptr.
  static std::unique_ptr<const PackedWeight> PackStacked(std::span<const GgufTensor* const> tensors,
                                                         const ThreadPool& pool);
  virtual ~PackedWeight() = default;

  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual uint64_t bytes() const = 0;
  virtual std::string layout_name() const = 0;
  // Row r as f32 (embedding look-up; tests). out [cols].
  virtual void DecodeRow(int64_t r, float* out) const = 0;
};

struct LinearOut {
  const PackedWeight* weight;   // [N, K]
  const float* bias = nullptr;  // [N] or null
  MatrixView<float> out;        // [T, N]
};

class LinearWorkspace;  // grow-only scratch, owned by the backend (ops/linear_workspace.h)

// out = x W^T + bias for each of `outs`, which share x [T, K]: one parallel region for all of them
// when T is small.
void Linear(MatrixView<const float> x, std::span<const LinearOut> outs, Precision precision,
            LinearWorkspace& workspace, const ThreadPool& pool, Isa isa = ActiveIsa());

// The same in double, one row at a time: the oracle.
void LinearReference(MatrixView<const float> x, const LinearOut& out);

}  // namespace tq
