// SPDX-License-Identifier: Apache-2.0
// Weight matrices on the device and their products (ops/linear.h). Up to 8 tokens: matrix-vector
// kernels on the packed weights, 8-bit tokens in fast products as on the CPU, f32 in precise ones.
// More: panels dequantised piece by piece into a bounded workspace and cuBLAS, bf16 operands in
// fast products (both sides rounded to 8 bits of mantissa: less than 8-bit tokens lose), f32 in
// precise ones.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

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
  // moved: called when memory that launches of before refer to has gone.
  // before_product: called where cuBLAS is about to be launched. Its kernels wait for the end of
  // those before them, ours start early: whatever else the stream has to wait for costs least here.
  DeviceLinear(cudaStream_t stream, std::function<void()> moved,
               std::function<void()> before_product)
      : stream_(stream),
        moved_(std::move(moved)),
        before_product_(std::move(before_product)),
        cublas_(stream) {}

  void BeginStep() { announced_.clear(), ahead_.clear(); }

  // outs share x. Every weight is a DeviceWeightMatrix. What was noted of x is forgotten then: outs
  // may be what the next product reads.
  void Run(MatrixView<const float> x, std::span<const LinearOut> outs, Precision precision);

  // Of a product behind the next one. If that one is fast and has many tokens, this weight is
  // dequantised with its own as far as there is room: work on pages goes on beside kernels that
  // wait for memory, and has more of them at a time.
  void Announce(const PackedWeight& weight);

  // What the next product is, where that is known: else it is taken to be as the last one was.
  void Expect(Precision precision) { fast_ = precision == Precision::kFast; }
  // Where the operation that makes x must write it too, so that the product that follows need not
  // convert it: nowhere if that product is not of a kind that does. Products of just this x take
  // what is there until Forget, which every operation calls that writes floats and has not come
  // here.
  ProductTokens TokensFor(MatrixView<const float> x);
  void Forget() { made_ = {}; }

 private:
  void Many(MatrixView<const float> x, const LinearOut& out, const DeviceWeight& weight);
  void DequantizeAnnounced();
  void Product(const uint16_t* tokens, const uint16_t* panels, int64_t cols, MatrixView<float> out,
               bool accumulate);
  bool HasTokensOf(MatrixView<const float> x) const;
  ProductTokens Converted(MatrixView<const float> x);
  ProductTokens PlaceOf(MatrixView<const float> x) const;
  void Reserve(DeviceBytes& memory, size_t bytes, const char* what) {
    if (memory.EnsureSize(bytes, what)) moved_();
  }

  cudaStream_t stream_;
  std::function<void()> moved_, before_product_;
  Cublas cublas_;
  bool fast_ = true;              // the product that runs or is expected
  MatrixView<const float> made_;  // whose tokens are there
  DeviceBytes records_;           // few tokens at 8 bits
  DeviceBytes bf16_;              // many tokens
  DeviceBytes panels_;            // a piece of a weight
  DeviceBytes ahead_panels_;      // those of ahead_
  struct Ahead {
    const DeviceWeight* weight;
    int64_t first, end;  // values in ahead_panels_
  };
  std::vector<Ahead> announced_, ahead_;  // to be dequantised before their products, and so already
};

}  // namespace tq::cuda
