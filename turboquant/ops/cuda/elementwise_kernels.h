// SPDX-License-Identifier: Apache-2.0
// The small operations on the device (ops/elementwise.h says what each does). Device addresses; no
// allocation, no waiting.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "turboquant/base/matrix_view.h"
#include "turboquant/ops/cuda/linear_kernels.h"

namespace tq::cuda {

// Most columns of a row that LaunchRmsNorm takes.
inline constexpr int kMostNormColumns = 16384;

// Norms and activations also write `tokens`, for the product that follows. out.data may be null if
// these are bf16: no floats are written then.

// out = norm of x; with y: x += y before. out may be x or y. shares: multiprocessors, with kernels
// of other streams.
void LaunchRmsNorm(MatrixView<float> x, const float* y, int64_t y_stride, const float* weight,
                   float eps, MatrixView<float> out, const ProductTokens& tokens, bool shares,
                   cudaStream_t stream);
void LaunchAdd(MatrixView<float> x, MatrixView<const float> y, cudaStream_t stream);
// gelu_tanh: Activation::kGeluTanh, else kSilu.
void LaunchGatedActivation(bool gelu_tanh, MatrixView<const float> gate, MatrixView<const float> up,
                           MatrixView<float> out, const ProductTokens& tokens, cudaStream_t stream);

// factors [tokens][2][rotary_dim] as RopeAngles has them, from positions [tokens] and frequencies
// [rotary_dim / 2] on the device.
struct RopeFactorsCall {
  const int32_t* positions;
  int tokens;
  const double* frequencies;
  int rotary_dim;
  float magnitude;
  bool halves;  // RopeStyle::kHalves
  float* factors;
};
void LaunchRopeFactors(const RopeFactorsCall& call, cudaStream_t stream);
void LaunchRope(MatrixView<float> x, int heads, int head_dim, int rotary_dim, bool halves,
                const float* factors, cudaStream_t stream);

void LaunchToBf16(MatrixView<const float> x, uint16_t* out, cudaStream_t stream);  // contiguous
void LaunchFillRows(MatrixView<float> out, const float* row, cudaStream_t stream);

// out[t] = index of the largest value of row t, the lower one of equals; NaN never; -1 if there is
// none above -infinity.
void LaunchArgmax(MatrixView<const float> x, int32_t* out, cudaStream_t stream);

}  // namespace tq::cuda
