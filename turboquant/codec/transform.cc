// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/transform.h"

#include <array>
#include <cmath>

#include "turboquant/base/error.h"
#include "turboquant/codec/codec.h"
#include "turboquant/codec/cpu/map_kernels.h"
#include "turboquant/codec/cpu/rotation_kernels.h"
#include "turboquant/codec/hadamard.h"

namespace tq {
namespace {

constexpr uint64_t kSignWords[] = {
#include "turboquant/codec/tables/signs.inc"
};

constexpr PaleyMatrix<12> kPaley12;
constexpr PaleyMatrix<20> kPaley20;
constexpr PaleyMatrix<28> kPaley28;
constexpr int kMaxDim = 512;

// The factors of one (head dim, side), expanded from the table's bits.
struct Rotation {
  int head_dim = 0;
  std::array<int8_t, kMaxDim> signs;
  alignas(64) std::array<float, kMaxDim> sign_factors;
  alignas(64) std::array<float, kMaxDim> scale_factors;       // c
  alignas(64) std::array<float, kMaxDim> back_scale_factors;  // signs * c
};

struct Rotations {
  std::array<std::array<Rotation, 2>, kHeadDims.size()> of;

  Rotations() {
    const uint64_t* words = kSignWords;
    for (size_t index = 0; index < kHeadDims.size(); ++index) {
      const int head_dim = kHeadDims[index];
      const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
      for (Rotation& rotation : of[index]) {
        rotation.head_dim = head_dim;
        for (size_t i = 0; i < static_cast<size_t>(head_dim); ++i) {
          const bool negative = words[i / 64] >> (i % 64) & 1u;
          rotation.signs[i] = negative ? -1 : 1;
          rotation.sign_factors[i] = negative ? -1.0f : 1.0f;
          rotation.scale_factors[i] = scale;
          rotation.back_scale_factors[i] = negative ? -scale : scale;
        }
        words += (head_dim + 63) / 64;
      }
    }
  }
};

const Rotation& RotationOf(int head_dim, Side side) {
  static const Rotations rotations;
  for (const auto& sides : rotations.of) {
    if (sides[0].head_dim == head_dim) return sides[static_cast<size_t>(side)];
  }
  Throw(ErrorCode::kUnsupported,
        "there is no rotation for head dim {}; use a row cache type such as f16", head_dim);
}

const float* PaleyOf(int head_dim, bool transposed) {
  switch (FactorsOf(head_dim).order) {
    case 12:
      return transposed ? kPaley12.transposed.data() : kPaley12.forward.data();
    case 20:
      return transposed ? kPaley20.transposed.data() : kPaley20.forward.data();
    case 28:
      return transposed ? kPaley28.transposed.data() : kPaley28.forward.data();
    default:
      return nullptr;
  }
}

RotationPlan PlanOf(int head_dim, Side side, bool back) {
  const Rotation& rotation = RotationOf(head_dim, side);
  RotationPlan plan;
  plan.head_dim = head_dim;
  plan.back = back;
  plan.before = back ? nullptr : rotation.sign_factors.data();
  plan.after = back ? rotation.back_scale_factors.data() : rotation.scale_factors.data();
  plan.paley = PaleyOf(head_dim, back);
  return plan;
}

RotateKernel KernelOf(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return scalar::RotateRows;
    case Isa::kAvx2:
      return avx2::RotateRows;
    case Isa::kAvx512:
      return avx512::RotateRows;
  }
  return scalar::RotateRows;
}

}  // namespace

std::span<const int8_t> RotationSigns(int head_dim, Side side) {
  return {RotationOf(head_dim, side).signs.data(), static_cast<size_t>(head_dim)};
}

void Rotate(std::span<float> x, Side side) {
  RotateRows(x.data(), 1, 0, static_cast<int>(x.size()), side);
}
void RotateBack(std::span<float> x, Side side) {
  RotateBackRows(x.data(), 1, 0, static_cast<int>(x.size()), side);
}

void RotateRows(float* x, int64_t count, int64_t stride, int head_dim, Side side, Isa isa) {
  KernelOf(isa)(PlanOf(head_dim, side, false), x, count, stride);
}
void RotateBackRows(float* x, int64_t count, int64_t stride, int head_dim, Side side, Isa isa) {
  KernelOf(isa)(PlanOf(head_dim, side, true), x, count, stride);
}

void MapRows(const float* matrix, float* x, int64_t count, int64_t stride, int head_dim, Isa isa) {
  TQ_CHECK(head_dim % 16 == 0 && head_dim <= kMaxDim);
  switch (isa) {
    case Isa::kScalar:
      return scalar::MapRows(matrix, x, count, stride, head_dim);
    case Isa::kAvx2:
      return avx2::MapRows(matrix, x, count, stride, head_dim);
    case Isa::kAvx512:
      return avx512::MapRows(matrix, x, count, stride, head_dim);
  }
}

}  // namespace tq
