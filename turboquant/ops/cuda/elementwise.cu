// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>

#include <type_traits>

#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/cuda/token_records.cuh"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float BlockSum(float value) {
  __shared__ float shared[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x / 32) ? shared[lane] : 0.0f;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

// A thread has kWidth columns beside each other, blockDim.x * kWidth further on the next, kPer
// times at most. kWidth 4: addresses and strides are multiples of 16 bytes.
template <int kWidth, int kPer>
__global__ void __launch_bounds__(1024)
    RmsNorm(float* x, int64_t x_stride, const float* y, int64_t y_stride, const float* weight,
            float eps, int n, float* out, int64_t out_stride, uint8_t* records) {
  using Vector = std::conditional_t<kWidth == 4, float4, float>;
  LetNextStart();
  union Values {
    Vector vector;
    float x[kWidth];
  };
  Values weights[kPer], values[kPer];
  const auto place = [](int j) { return static_cast<int>(threadIdx.x + j * blockDim.x) * kWidth; };
  const auto at = [](auto* p, int i) { return *reinterpret_cast<const Vector*>(p + i); };
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    if (place(j) < n) weights[j].vector = at(weight, place(j));
  }
  WaitForInputs();
  float* in = x + blockIdx.x * x_stride;
  const float* more = y + blockIdx.x * y_stride;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    values[j].vector = {};
    if (place(j) >= n) continue;
    values[j].vector = at(in, place(j));
    if (y == nullptr) continue;
    Values addend;
    addend.vector = at(more, place(j));
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values[j].x[c] += addend.x[c];
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
#pragma unroll
    for (int c = 0; c < kWidth; ++c) sum = fmaf(values[j].x[c], values[j].x[c], sum);
  }
  sum = BlockSum(sum);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(n) + eps);
  float* to = out + blockIdx.x * out_stride;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    const int i = place(j);
    if (i >= n) break;  // with records: the lanes of a group together
    if (y != nullptr) *reinterpret_cast<Vector*>(in + i) = values[j].vector;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values[j].x[c] *= scale * weights[j].x[c];
    *reinterpret_cast<Vector*>(to + i) = values[j].vector;
    if constexpr (kWidth == 4) {
      if (records != nullptr)
        WriteTokenGroup4(values[j].x, {records, n / kGroupColumns}, i / kGroupColumns, blockIdx.x,
                         threadIdx.x % 32);
    }
  }
}

__global__ void Add(float* x, int64_t x_stride, const float* y, int64_t y_stride, int64_t cols) {
  LetNextStart();
  WaitForInputs();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < cols) x[blockIdx.y * x_stride + i] += y[blockIdx.y * y_stride + i];
}

template <bool kGeluTanh>
__global__ void Gated(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                      float* out, int64_t out_stride, int64_t cols, uint8_t* records) {
  LetNextStart();
  WaitForInputs();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= cols) return;
  const float x = gate[blockIdx.y * gate_stride + i];
  // SiLU: x / (1 + e^-x); GELU by tanh: x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
  const float u = kGeluTanh ? x * (x * x * 0.044715f + 1.0f) * 1.5957691216f : x;
  const float value = x / (1.0f + expf(-u)) * up[blockIdx.y * up_stride + i];
  out[blockIdx.y * out_stride + i] = value;
  if (records != nullptr)
    WriteTokenGroup(value, {records, cols / kGroupColumns}, i / kGroupColumns, blockIdx.y,
                    threadIdx.x % 32);
}

__global__ void RopeFactors(const RopeFactorsCall call) {
  const int half = call.rotary_dim / 2;
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= call.tokens * half) return;
  const int token = index / half, i = index % half;
  const double angle = call.positions[token] * call.frequencies[i];
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  const float c = static_cast<float>(cosine * call.magnitude);
  const float s = static_cast<float>(sine * call.magnitude);
  float* self = call.factors + static_cast<int64_t>(token) * 2 * call.rotary_dim;
  float* partner = self + call.rotary_dim;
  const int first = call.halves ? i : 2 * i, second = call.halves ? i + half : 2 * i + 1;
  self[first] = self[second] = c;
  partner[first] = -s;
  partner[second] = s;
}

// A thread per pair of dims; blocks y: tokens.
__global__ void Rope(float* x, int64_t stride, int heads, int head_dim, int rotary_dim, bool halves,
                     const float* factors) {
  LetNextStart();
  WaitForInputs();
  const int half = rotary_dim / 2;
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= heads * half) return;
  const int head = index / half, i = index % half;
  const int first = halves ? i : 2 * i, second = halves ? i + half : 2 * i + 1;
  const float* self = factors + static_cast<int64_t>(blockIdx.y) * 2 * rotary_dim;
  const float* partner = self + rotary_dim;
  float* row = x + blockIdx.y * stride + static_cast<int64_t>(head) * head_dim;
  const float a = row[first], b = row[second];
  row[first] = a * self[first] + b * partner[first];
  row[second] = b * self[second] + a * partner[second];
}

__global__ void ToBf16(const float* x, int64_t stride, int64_t cols, __nv_bfloat16* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < cols) out[blockIdx.y * cols + i] = __float2bfloat16_rn(x[blockIdx.y * stride + i]);
}

__global__ void FillRows(float* out, int64_t stride, int64_t cols, const float* row) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < cols) out[blockIdx.y * stride + i] = row[i];
}

struct Best {
  float value;
  int index;
};
__device__ __forceinline__ Best Better(Best a, Best b) {
  const bool take_b = b.value > a.value || (b.value == a.value && b.index < a.index);
  return take_b ? b : a;
}
__device__ __forceinline__ Best WarpBest(Best best) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    best = Better(best, {__shfl_xor_sync(0xffffffffu, best.value, mask),
                         __shfl_xor_sync(0xffffffffu, best.index, mask)});
  }
  return best;
}

constexpr int kNone = 0x7fffffff;

__global__ void __launch_bounds__(1024)
    Argmax(const float* x, int64_t stride, int cols, int32_t* out) {
  __shared__ Best shared[32];
  const float* row = x + blockIdx.x * stride;
  Best best = {-INFINITY, kNone};
  constexpr int kAtOnce = 8;  // loads on their way
  for (int first = threadIdx.x; first < cols; first += kAtOnce * blockDim.x) {
    float values[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = first + j * blockDim.x;
      values[j] = i < cols ? row[i] : -INFINITY;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {  // a comparison with NaN is false
      if (values[j] > best.value) best = {values[j], static_cast<int>(first + j * blockDim.x)};
    }
  }
  best = WarpBest(best);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = threadIdx.x < blockDim.x / 32 ? shared[threadIdx.x] : Best{-INFINITY, kNone};
  best = WarpBest(best);
  if (threadIdx.x == 0) out[blockIdx.x] = best.index == kNone ? -1 : best.index;
}

unsigned BlocksFor(int64_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }
dim3 GridFor(int64_t cols, int64_t rows) { return {BlocksFor(cols), static_cast<unsigned>(rows)}; }

}  // namespace

void LaunchRmsNorm(MatrixView<float> x, const float* y, int64_t y_stride, const float* weight,
                   float eps, MatrixView<float> out, uint8_t* records, cudaStream_t stream) {
  const auto aligned = [](const float* p, int64_t stride) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0;
  };
  const bool wide = x.cols % 4 == 0 && aligned(x.data, x.stride) && aligned(y, y_stride) &&
                    aligned(weight, 0) && aligned(out.data, out.stride);
  const int64_t units = wide ? x.cols / 4 : x.cols;
  const int threads = units > 512 ? 1024 : units > 64 ? 256 : 64;
  const bool one = units <= threads;
  const auto kernel = wide ? (one ? RmsNorm<4, 1> : RmsNorm<4, 4>) : RmsNorm<1, 16>;
  if (!wide && records != nullptr) {
    LaunchRmsNorm(x, y, y_stride, weight, eps, out, nullptr, stream);
    LaunchQuantizeTokens(out, records, stream);
    return;
  }
  LaunchChained(kernel, dim3(static_cast<unsigned>(x.rows)), static_cast<unsigned>(threads), stream,
                x.data, x.stride, y, y_stride, weight, eps, x.cols, out.data, out.stride, records);
}

void LaunchAdd(MatrixView<float> x, MatrixView<const float> y, cudaStream_t stream) {
  LaunchChained(Add, GridFor(x.cols, x.rows), kThreads, stream, x.data, x.stride, y.data, y.stride,
                x.cols);
}

void LaunchGatedActivation(bool gelu_tanh, MatrixView<const float> gate, MatrixView<const float> up,
                           MatrixView<float> out, uint8_t* records, cudaStream_t stream) {
  const auto kernel = gelu_tanh ? Gated<true> : Gated<false>;
  LaunchChained(kernel, GridFor(gate.cols, gate.rows), kThreads, stream, gate.data, gate.stride,
                up.data, up.stride, out.data, out.stride, gate.cols, records);
}

void LaunchRopeFactors(const RopeFactorsCall& call, cudaStream_t stream) {
  RopeFactors<<<BlocksFor(int64_t{call.tokens} * (call.rotary_dim / 2)), kThreads, 0, stream>>>(
      call);
}

void LaunchRope(MatrixView<float> x, int heads, int head_dim, int rotary_dim, bool halves,
                const float* factors, cudaStream_t stream) {
  LaunchChained(Rope, GridFor(int64_t{heads} * (rotary_dim / 2), x.rows), kThreads, stream, x.data,
                x.stride, heads, head_dim, rotary_dim, halves, factors);
}

void LaunchToBf16(MatrixView<const float> x, uint16_t* out, cudaStream_t stream) {
  ToBf16<<<GridFor(x.cols, x.rows), kThreads, 0, stream>>>(x.data, x.stride, x.cols,
                                                           reinterpret_cast<__nv_bfloat16*>(out));
}

void LaunchFillRows(MatrixView<float> out, const float* row, cudaStream_t stream) {
  FillRows<<<GridFor(out.cols, out.rows), kThreads, 0, stream>>>(out.data, out.stride, out.cols,
                                                                 row);
}

void LaunchArgmax(MatrixView<const float> x, int32_t* out, cudaStream_t stream) {
  Argmax<<<static_cast<unsigned>(x.rows), 1024, 0, stream>>>(x.data, x.stride,
                                                             static_cast<int>(x.cols), out);
}

}  // namespace tq::cuda
