// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/token_records.cuh"
#include "turboquant/ops/cuda/wide_floats.cuh"

namespace tq::cuda {
namespace {

constexpr int kThreads = 256;

// Of kValues from each thread, in the order of a block with a thread for each: no more than 1024.
template <int kValues>
__device__ float BlockSum(float (&values)[kValues]) {
  __shared__ float shared[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warps = static_cast<int>(blockDim.x / 32);
#pragma unroll
  for (int j = 0; j < kValues; ++j) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
      values[j] += __shfl_xor_sync(0xffffffffu, values[j], mask);
    if (lane == 0) shared[j * warps + warp] = values[j];
  }
  __syncthreads();
  float value = lane < kValues * warps ? shared[lane] : 0.0f;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

// A thread has kWidth columns beside each other, blockDim.x * kWidth further on the next, kPer
// times at most. kSmall: 256 threads, five blocks to a multiprocessor (registers are few, so
// weights are loaded last), and the bits of a block of 1024.
template <int kWidth, int kPer, bool kSmall = false>
__global__ void __launch_bounds__(kSmall ? 256 : 1024, kSmall ? 5 : 1)
    RmsNorm(float* x, int64_t x_stride, const float* y, int64_t y_stride, const float* weight,
            float eps, int n, float* out, int64_t out_stride, const ProductTokens tokens) {
  LetNextStart();
  Floats<kWidth> weights[kPer], values[kPer];
  const auto place = [](int j) { return static_cast<int>(threadIdx.x + j * blockDim.x) * kWidth; };
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    if (!kSmall && place(j) < n) weights[j] = LoadFloats<kWidth>(weight + place(j));
  }
  WaitForInputs();
  float* in = x + blockIdx.x * x_stride;
  const float* more = y + blockIdx.x * y_stride;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    values[j].vector = {};
    if (place(j) >= n) continue;
    values[j] = LoadFloats<kWidth>(in + place(j));
    if (y == nullptr) continue;
    const Floats<kWidth> addend = LoadFloats<kWidth>(more + place(j));
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values[j].x[c] += addend.x[c];
  }
  constexpr int kSums = kSmall ? kPer : 1;
  float sums[kSums] = {};
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    float& sum = sums[j % kSums];
#pragma unroll
    for (int c = 0; c < kWidth; ++c) sum = fmaf(values[j].x[c], values[j].x[c], sum);
  }
  const float scale = 1.0f / sqrtf(BlockSum(sums) / static_cast<float>(n) + eps);
  float* to = out + blockIdx.x * out_stride;
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    const int i = place(j);
    if (i >= n) break;  // with records: the lanes of a group together
    if constexpr (kSmall) weights[j] = LoadFloats<kWidth>(weight + i);
    if (y != nullptr) StoreFloats(in + i, values[j]);
#pragma unroll
    for (int c = 0; c < kWidth; ++c) values[j].x[c] *= scale * weights[j].x[c];
    if (out != nullptr) StoreFloats(to + i, values[j]);
    if (tokens.bf16 != nullptr)
      StoreBf16(tokens.bf16 + static_cast<int64_t>(blockIdx.x) * n + i, values[j]);
    if constexpr (kWidth == 4) {
      if (tokens.records != nullptr)
        WriteTokenGroup4(values[j].x, {tokens.records, n / kGroupColumns, TokenPlaces(gridDim.x)},
                         i / kGroupColumns, blockIdx.x, threadIdx.x % 32);
    }
  }
}

// The first of a thread's columns: kRepeats times kWidth, a block's width from each other. Rows are
// blockIdx.y.
template <int kWidth, int kRepeats = 1>
__device__ __forceinline__ int64_t FirstColumn() {
  return (static_cast<int64_t>(blockIdx.x) * kRepeats * blockDim.x + threadIdx.x) * kWidth;
}

template <int kWidth>
__global__ void Add(float* x, int64_t x_stride, const float* y, int64_t y_stride, int64_t cols) {
  LetNextStart();
  WaitForInputs();
  const int64_t i = FirstColumn<kWidth>();
  if (i >= cols) return;
  float* to = x + blockIdx.y * x_stride + i;
  Floats<kWidth> sum = LoadFloats<kWidth>(to);
  const Floats<kWidth> addend = LoadFloats<kWidth>(y + blockIdx.y * y_stride + i);
#pragma unroll
  for (int c = 0; c < kWidth; ++c) sum.x[c] += addend.x[c];
  StoreFloats(to, sum);
}

// SiLU: x / (1 + e^-x); GELU by tanh: x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <bool kGeluTanh>
__device__ __forceinline__ float Activated(float x) {
  const float u = kGeluTanh ? x * (x * x * 0.044715f + 1.0f) * 1.5957691216f : x;
  return x / (1.0f + expf(-u));
}

// Of many tokens a thread has kMostRepeats quads, a block's width from each other: loads on their
// way at a time, for kernels of other streams may leave little room for blocks. With one an
// activation beside a search took 96 us in place of 80; with four the search waited longer for
// room. Records are written by kWidth 1 alone: few tokens want many threads.
constexpr int kMostRepeats = 2;
template <bool kGeluTanh, int kWidth, int kRepeats>
__global__ void Gated(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                      float* out, int64_t out_stride, int64_t cols, const ProductTokens tokens) {
  LetNextStart();
  WaitForInputs();
  const int64_t first = FirstColumn<kWidth, kRepeats>();
  Floats<kWidth> values[kRepeats], factors[kRepeats];
#pragma unroll
  for (int n = 0; n < kRepeats; ++n) {
    const int64_t i = first + n * kThreads * kWidth;
    if (i >= cols) break;
    values[n] = LoadFloats<kWidth>(gate + blockIdx.y * gate_stride + i);
    factors[n] = LoadFloats<kWidth>(up + blockIdx.y * up_stride + i);
  }
#pragma unroll
  for (int n = 0; n < kRepeats; ++n) {
    const int64_t i = first + n * kThreads * kWidth;
    if (i >= cols) break;
#pragma unroll
    for (int c = 0; c < kWidth; ++c)
      values[n].x[c] = Activated<kGeluTanh>(values[n].x[c]) * factors[n].x[c];
    if (out != nullptr) StoreFloats(out + blockIdx.y * out_stride + i, values[n]);
    if (tokens.bf16 != nullptr) StoreBf16(tokens.bf16 + blockIdx.y * cols + i, values[n]);
    if constexpr (kWidth == 1) {
      if (tokens.records != nullptr)
        WriteTokenGroup(values[n].vector,
                        {tokens.records, cols / kGroupColumns, TokenPlaces(gridDim.y)},
                        i / kGroupColumns, blockIdx.y, threadIdx.x % 32);
    }
  }
}

template <int kWidth>
__global__ void ToBf16(const float* x, int64_t stride, int64_t cols, uint16_t* out) {
  LetNextStart();
  WaitForInputs();
  const int64_t i = FirstColumn<kWidth>();
  if (i < cols)
    StoreBf16(out + blockIdx.y * cols + i, LoadFloats<kWidth>(x + blockIdx.y * stride + i));
}

__global__ void FillRows(float* out, int64_t stride, int64_t cols, const float* row) {
  LetNextStart();
  WaitForInputs();
  const int64_t i = FirstColumn<1>();
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

dim3 GridFor(int64_t cols, int64_t rows, int of_thread) {
  const int64_t columns = int64_t{kThreads} * of_thread;
  return {static_cast<unsigned>((cols + columns - 1) / columns), static_cast<unsigned>(rows)};
}

}  // namespace

void LaunchRmsNorm(MatrixView<float> x, const float* y, int64_t y_stride, const float* weight,
                   float eps, MatrixView<float> out, const ProductTokens& tokens, bool shares,
                   cudaStream_t stream) {
  const bool wide = x.cols % 4 == 0 && HasQuads(x.data, x.stride) && HasQuads(y, y_stride) &&
                    HasQuads(weight, 0) && HasQuads(out.data, out.stride);
  const int64_t units = wide ? x.cols / 4 : x.cols;
  int threads = units > 512 ? 1024 : units > 64 ? 256 : 64;
  auto kernel = RmsNorm<1, 16>;
  if (wide) kernel = units <= threads ? RmsNorm<4, 1> : RmsNorm<4, 4>;
  // Two blocks of a search leave 24 thousand registers: two small blocks, but no large one.
  if (shares && wide && units > 512 && units <= 1024) {
    kernel = RmsNorm<4, 4, true>;
    threads = 256;
  }
  if (!wide && tokens.records != nullptr) {
    LaunchRmsNorm(x, y, y_stride, weight, eps, out, {}, shares, stream);
    LaunchQuantizeTokens(out, tokens.records, stream);
    return;
  }
  LaunchForTokens(x.rows, kernel, dim3(static_cast<unsigned>(x.rows)),
                  static_cast<unsigned>(threads), stream, x.data, x.stride, y, y_stride, weight,
                  eps, x.cols, out.data, out.stride, tokens);
}

void LaunchAdd(MatrixView<float> x, MatrixView<const float> y, cudaStream_t stream) {
  const bool wide = x.cols % 4 == 0 && HasQuads(x.data, x.stride) && HasQuads(y.data, y.stride);
  LaunchForTokens(x.rows, wide ? Add<4> : Add<1>, GridFor(x.cols, x.rows, wide ? 4 : 1), kThreads,
                  stream, x.data, x.stride, y.data, y.stride, x.cols);
}

void LaunchGatedActivation(bool gelu_tanh, MatrixView<const float> gate, MatrixView<const float> up,
                           MatrixView<float> out, const ProductTokens& tokens,
                           cudaStream_t stream) {
  const bool wide = tokens.records == nullptr && gate.cols % 4 == 0 &&
                    HasQuads(gate.data, gate.stride) && HasQuads(up.data, up.stride) &&
                    HasQuads(out.data, out.stride);
  const bool many = wide && gate.rows > kFewTokens;
  const auto kernel =
      many   ? (gelu_tanh ? Gated<true, 4, kMostRepeats> : Gated<false, 4, kMostRepeats>)
      : wide ? (gelu_tanh ? Gated<true, 4, 1> : Gated<false, 4, 1>)
             : (gelu_tanh ? Gated<true, 1, 1> : Gated<false, 1, 1>);
  const int of_thread = many ? 4 * kMostRepeats : wide ? 4 : 1;
  LaunchForTokens(gate.rows, kernel, GridFor(gate.cols, gate.rows, of_thread), kThreads, stream,
                  gate.data, gate.stride, up.data, up.stride, out.data, out.stride, gate.cols,
                  tokens);
}

void LaunchToBf16(MatrixView<const float> x, uint16_t* out, cudaStream_t stream) {
  const bool wide = x.cols % 4 == 0 && HasQuads(x.data, x.stride);
  LaunchChained(wide ? ToBf16<4> : ToBf16<1>, GridFor(x.cols, x.rows, wide ? 4 : 1), kThreads,
                stream, x.data, x.stride, x.cols, out);
}

void LaunchFillRows(MatrixView<float> out, const float* row, cudaStream_t stream) {
  LaunchChained(FillRows, GridFor(out.cols, out.rows, 1), kThreads, stream, out.data, out.stride,
                out.cols, row);
}

void LaunchArgmax(MatrixView<const float> x, int32_t* out, cudaStream_t stream) {
  Argmax<<<static_cast<unsigned>(x.rows), 1024, 0, stream>>>(x.data, x.stride,
                                                             static_cast<int>(x.cols), out);
}

}  // namespace tq::cuda
