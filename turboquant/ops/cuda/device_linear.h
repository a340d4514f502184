// SPDX-License-Identifier: Apache-2.0
// Weight matrices on the device and their products (ops/linear.h). Up to 8 tokens: matrix-vector
// kernels on the packed weights, 8-bit tokens in fast products as on the CPU, f32 in precise ones.
// More: panels dequantised piece by piece into a bounded workspace and cuBLAS, bf16 operands in
// fast products (both sides rounded to 8 bits of mantissa: less than 8-bit tokens lose), f32 in
// precise ones.
#pragma once

#include <memory>
#include <span>

#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/ops/cuda/cublas.h"
#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/linear.h"

namespace tq::cuda {

class DeviceWeightMatrix final : public PackedWeight {
 public:
  // Copies the panels of `host`, which must be a weight made by PackedWeight::Pack.
  explicit DeviceWeightMatrix(const PackedWeight& host);
  // Panels that somebody fills on the device.
  DeviceWeightMatrix(int layout, int64_t rows, int64_t cols);

  int64_t rows() const override { return view_.rows; }
  int64_t cols() const override { return view_.cols; }
  uint64_t bytes() const override { return memory_.size(); }
  std::string layout_name() const override;
  void DecodeRow(int64_t r, float* out) const override;  // copies the panel back: for tests

  const DeviceWeight& view() const { return view_; }
  uint8_t* panels() const { return memory_.as<uint8_t>(); }

 private:
  DeviceBytes memory_;
  DeviceWeight view_;
};

// Grow-only workspace and the order of launches. One stream.
class DeviceLinear {
 public:
  explicit DeviceLinear(cudaStream_t stream) : stream_(stream), cublas_(stream) {}

  // outs share x. Every weight is a DeviceWeightMatrix.
  void Run(MatrixView<const float> x, std::span<const LinearOut> outs, Precision precision);

  // Where the operation that makes x may write it at 8 bits too, so that the product that follows
  // need not: null if x is not of that kind. What it writes holds until Forget.
  uint8_t* RecordsFor(MatrixView<const float> x);
  void Forget() { recorded_ = nullptr; }

 private:
  void Many(MatrixView<const float> x, const LinearOut& out, const DeviceWeight& weight,
            Precision precision);

  cudaStream_t stream_;
  Cublas cublas_;
  DeviceBytes records_;              // tokens at 8 bits
  const float* recorded_ = nullptr;  // whose they are
  DeviceBytes x_;                    // tokens as bf16
  DeviceBytes panels_;               // a piece of a weight
};

}  // namespace tq::cuda
