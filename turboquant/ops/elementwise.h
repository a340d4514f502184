// SPDX-License-Identifier: Apache-2.0
// The small operations between matrix products. f32 in and out; shapes as stated; may run in place
// where noted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/matrix_view.h"
#include "turboquant/base/thread_pool.h"

namespace tq {

// out[t] = x[t] / rms(x[t]) * weight, rms = sqrt(mean(x^2) + eps); in place allowed. x, out [T, E],
// weight [E].
void RmsNorm(MatrixView<const float> x, const float* weight, float eps, MatrixView<float> out,
             const ThreadPool& pool, Isa isa = ActiveIsa());

// x += y. [T, E]
void AddInPlace(MatrixView<float> x, MatrixView<const float> y, const ThreadPool& pool,
                Isa isa = ActiveIsa());

enum class Activation { kSilu, kGeluTanh };
// out = activation(gate) * up. [T, F]; out may be gate.
void GatedActivation(Activation activation, MatrixView<const float> gate,
                     MatrixView<const float> up, MatrixView<float> out, const ThreadPool& pool,
                     Isa isa = ActiveIsa());

enum class RopeStyle {
  kInterleaved,
  kHalves
};  // pairs (2i, 2i+1), as llama's converted GGUF files have; (i, i + D/2), as NeoX

// Rotary embedding as a model file describes it. frequencies[i] of pair i after all scaling rules
// (linear, YaRN, llama3, per-frequency factors); magnitude: YaRN's attention factor, multiplies cos
// and sin. In double: a float frequency would be off by .03 rad at position 1M.
struct RopeTable {
  RopeStyle style = RopeStyle::kInterleaved;
  int rotary_dim = 0;               // leading dims of a head that turn, the others pass
  std::vector<double> frequencies;  // [rotary_dim / 2] radians per position
  float magnitude = 1.0f;
  bool operator==(const RopeTable&) const = default;
};

// cos and sin of one step's positions: made once, used by every layer and head. Grow-only.
class RopeAngles {
 public:
  // Recomputes only if the table or the positions differ from the last call's.
  void Set(const RopeTable& table, std::span<const int32_t> positions, const ThreadPool& pool);

  RopeStyle style() const { return table_.style; }
  int rotary_dim() const { return table_.rotary_dim; }
  // [2][rotary_dim] of row t: factors of x itself, then of its partner in the pair (the sign is in
  // them).
  const float* row(int64_t t) const { return factors_.data() + t * 2 * table_.rotary_dim; }

 private:
  RopeTable table_;
  std::vector<int32_t> positions_;
  AlignedBuffer<float> factors_;
};

// Turns x [T, heads * head_dim] (rows `stride` apart) by angles set for T positions; in place.
void Rope(MatrixView<float> x, int heads, int head_dim, const RopeAngles& angles,
          const ThreadPool& pool, Isa isa = ActiveIsa());

}  // namespace tq
