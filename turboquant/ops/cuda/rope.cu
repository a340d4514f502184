// SPDX-License-Identifier: Apache-2.0
#include "turboquant/ops/cuda/elementwise_kernels.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/wide_floats.cuh"

namespace tq::cuda {
namespace {

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

// A thread has kWidth pairs of dims in two vectors: the pairs' first and second dims, or, where the
// two of a pair are neighbours, the pairs one after another. Blocks y: tokens.
template <bool kHalves, int kWidth>
__global__ void Rope(float* x, int64_t stride, int heads, int head_dim, int rotary_dim,
                     const float* factors) {
  LetNextStart();
  WaitForInputs();
  const int half = rotary_dim / 2, units = half / kWidth;
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= heads * units) return;
  const int head = index / units, pair = index % units * kWidth;
  const int places[2] = {kHalves ? pair : 2 * pair, kHalves ? pair + half : 2 * pair + kWidth};
  const float* self = factors + static_cast<int64_t>(blockIdx.y) * 2 * rotary_dim;
  const float* partner = self + rotary_dim;
  float* row = x + blockIdx.y * stride + static_cast<int64_t>(head) * head_dim;
  Floats<kWidth> values[2], own[2], others[2];
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    values[n] = LoadFloats<kWidth>(row + places[n]);
    own[n] = LoadFloats<kWidth>(self + places[n]);
    others[n] = LoadFloats<kWidth>(partner + places[n]);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    Floats<kWidth> turned;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      const float other = kHalves || kWidth == 1 ? values[1 - n].x[c] : values[n].x[c ^ 1];
      turned.x[c] = values[n].x[c] * own[n].x[c] + other * others[n].x[c];
    }
    StoreFloats(row + places[n], turned);
  }
}

unsigned BlocksFor(int64_t n, int threads) {
  return static_cast<unsigned>((n + threads - 1) / threads);
}

}  // namespace

void LaunchRopeFactors(const RopeFactorsCall& call, cudaStream_t stream) {
  constexpr int kThreads = 256;
  RopeFactors<<<BlocksFor(int64_t{call.tokens} * (call.rotary_dim / 2), kThreads), kThreads, 0,
                stream>>>(call);
}

void LaunchRope(MatrixView<float> x, int heads, int head_dim, int rotary_dim, bool halves,
                const float* factors, cudaStream_t stream) {
  // Few tokens want many threads.
  const bool wide = x.rows > kFewTokens && rotary_dim % 8 == 0 && head_dim % 4 == 0 &&
                    HasQuads(x.data, x.stride) && HasQuads(factors, 0);
  const auto kernel =
      wide ? (halves ? Rope<true, 4> : Rope<false, 4>) : (halves ? Rope<true, 1> : Rope<false, 1>);
  const int threads = wide ? 128 : 256;
  const int64_t units = int64_t{heads} * (rotary_dim / 2 / (wide ? 4 : 1));
  LaunchForTokens(x.rows, kernel, dim3(BlocksFor(units, threads), static_cast<unsigned>(x.rows)),
                  static_cast<unsigned>(threads), stream, x.data, x.stride, heads, head_dim,
                  rotary_dim, factors);
}

}  // namespace tq::cuda
