// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/elementwise.h"

#include <algorithm>
#include <cmath>

#include "turboquant/ops/cpu/elementwise_kernels.h"

namespace tq {
namespace {

// Below this many values a parallel region costs more than it brings.
constexpr int64_t kSerialValues = 32768;

const ElementwiseKernels& Kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return avx512::kElementwiseKernels;
    case Isa::kAvx2:
      return avx2::kElementwiseKernels;
    case Isa::kScalar:
      break;
  }
  return scalar::kElementwiseKernels;
}

// fn(row) for each of `rows` rows of `cols` values.
template <typename Fn>
void ForRows(int64_t rows, int64_t cols, const ThreadPool& pool, Fn&& fn) {
  if (rows * cols <= kSerialValues) {
    for (int64_t t = 0; t < rows; ++t) fn(t);
    return;
  }
  pool.ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) fn(t);
  });
}

}  // namespace

void RmsNorm(MatrixView<const float> x, const float* weight, float eps, MatrixView<float> out,
             const ThreadPool& pool, Isa isa) {
  const auto kernel = Kernels(isa).rms_norm;
  ForRows(x.rows, x.cols, pool,
          [&](int64_t t) { kernel(x.row(t), weight, eps, x.cols, out.row(t)); });
}

void AddInPlace(MatrixView<float> x, MatrixView<const float> y, const ThreadPool& pool, Isa isa) {
  const auto kernel = Kernels(isa).add;
  ForRows(x.rows, x.cols, pool, [&](int64_t t) { kernel(x.row(t), y.row(t), x.cols); });
}

void GatedActivation(Activation activation, MatrixView<const float> gate,
                     MatrixView<const float> up, MatrixView<float> out, const ThreadPool& pool,
                     Isa isa) {
  const auto kernel =
      activation == Activation::kSilu ? Kernels(isa).silu_mul : Kernels(isa).gelu_tanh_mul;
  ForRows(gate.rows, gate.cols, pool,
          [&](int64_t t) { kernel(gate.row(t), up.row(t), gate.cols, out.row(t)); });
}

void RopeAngles::Set(const RopeTable& table, std::span<const int32_t> positions,
                     const ThreadPool& pool) {
  if (std::ranges::equal(positions, positions_) && table == table_) return;
  TQ_CHECK(static_cast<int>(table.frequencies.size()) * 2 == table.rotary_dim);
  table_ = table;
  positions_.assign(positions.begin(), positions.end());
  factors_.EnsureSize(positions.size() * 2 * static_cast<size_t>(table.rotary_dim));
  const int half = table.rotary_dim / 2;
  const bool halves = table.style == RopeStyle::kHalves;
  const auto fill = [&](int64_t t) {
    float* self = factors_.data() + t * 2 * table.rotary_dim;
    float* partner = self + table.rotary_dim;
    for (int i = 0; i < half; ++i) {
      const double angle = positions[t] * table.frequencies[i];
      const auto c = static_cast<float>(std::cos(angle) * table.magnitude);
      const auto s = static_cast<float>(std::sin(angle) * table.magnitude);
      const int first = halves ? i : 2 * i;
      const int second = halves ? i + half : 2 * i + 1;
      self[first] = self[second] = c;
      partner[first] = -s;
      partner[second] = s;
    }
  };
  ForRows(static_cast<int64_t>(positions.size()), 16 * table.rotary_dim, pool,
          fill);  // a sine costs some 16 values
}

void Rope(MatrixView<float> x, int heads, int head_dim, const RopeAngles& angles,
          const ThreadPool& pool, Isa isa) {
  const auto kernel = angles.style() == RopeStyle::kHalves ? Kernels(isa).rope_halves
                                                           : Kernels(isa).rope_interleaved;
  ForRows(x.rows, static_cast<int64_t>(heads) * head_dim, pool, [&](int64_t t) {
    kernel(x.row(t), heads, head_dim, angles.rotary_dim(), angles.row(t));
  });
}

}  // namespace tq
