// SPDX-License-Identifier: Apache-2.0
// What launches and synchronisation cost by themselves, inside a graph: the floor under a decode
// launch.
//   nvcc -O3 -std=c++20 -arch=sm_90a -o launch_floor bench/cuda/launch_floor.cu && ./launch_floor
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define CHECK(x)                                                                  \
  do {                                                                            \
    const cudaError_t error = (x);                                                \
    if (error != cudaSuccess) {                                                   \
      std::printf("%s: %s (line %d)\n", #x, cudaGetErrorString(error), __LINE__); \
      std::exit(1);                                                               \
    }                                                                             \
  } while (0)

template <int kBytes>
struct Params {
  uint32_t* out;
  uint32_t words[kBytes / 4 - 2];
};

template <int kBytes>
__global__ void __launch_bounds__(384, 1) Empty(const __grid_constant__ Params<kBytes> p) {
  if (p.out == nullptr) *p.out = p.words[threadIdx.x % (kBytes / 4 - 2)];
}
template <int kBytes>
__global__ void __launch_bounds__(384, 1)
    EmptyOverlapped(const __grid_constant__ Params<kBytes> p) {
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (p.out == nullptr) *p.out = p.words[threadIdx.x % (kBytes / 4 - 2)];
}

template <class Launch>
double TimeInGraph(Launch launch) {
  constexpr int kCalls = 200;
  cudaStream_t stream;
  CHECK(cudaStreamCreate(&stream));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kCalls; ++i) launch(stream);
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t a, b;
  CHECK(cudaEventCreate(&a));
  CHECK(cudaEventCreate(&b));
  std::vector<float> times;
  for (int i = 0; i < 12; ++i) {
    CHECK(cudaEventRecord(a, stream));
    CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaEventRecord(b, stream));
    CHECK(cudaEventSynchronize(b));
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, a, b));
    if (i >= 2) times.push_back(ms * 1e3f / kCalls);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

template <class P>
void Floor(const char* what, void (*kernel)(P), P params, int blocks, int threads, int shared,
           bool overlap, int cluster) {
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
  if (cluster > 8) {
    CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  }
  cudaLaunchAttribute attributes[2] = {};
  int n = 0;
  if (overlap) {
    attributes[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[n++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[n].id = cudaLaunchAttributeClusterDimension;
    attributes[n++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.attrs = attributes;
  config.numAttrs = static_cast<unsigned>(n);
  int clusters = -1;
  if (cluster > 1) CHECK(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
  const double us = TimeInGraph([&](cudaStream_t stream) {
    config.stream = stream;
    CHECK(cudaLaunchKernelEx(&config, kernel, params));
  });
  std::printf("floor %-22s %3d blocks %3d threads %6d B shared cluster %2d", what, blocks, threads,
              shared, cluster);
  if (cluster > 1) std::printf(" (%d resident)", clusters);
  std::printf(" %6.2f us\n", us);
}

// Latencies, in cycles of one thread.
__global__ void Latencies(uint32_t* memory, uint64_t words, uint32_t* counter, long long* out) {
  __shared__ uint32_t shared[1024];
  const auto time = [](auto&& fn) {
    const long long a = clock64();
    fn();
    return clock64() - a;
  };
  uint64_t at = (blockIdx.x * 7919ull + 1) * 1048573 % words;
  if (threadIdx.x == 0) {
    out[0] = time([&] {  // cold loads, each depending on the one before
               for (int i = 0; i < 8; ++i) at = (at + 16777259ull + __ldcg(memory + at)) % words;
             }) /
             8;
    const uint64_t start = at;
    uint32_t x = 0;
    for (int i = 0; i < 8; ++i) x += __ldcg(memory + (start + i * 64) % words);
    shared[0] = x;
    uint64_t b = start;
    out[1] = time([&] {  // the same lines from L2
               for (int i = 0; i < 8; ++i) b = (b + 64 + __ldcg(memory + b)) % words;
             }) /
             8;
    shared[1] = static_cast<uint32_t>(b);
    memory[start] = 0;
    out[2] = time([&] { __threadfence(); });
    out[3] = time([&] {
               for (int i = 0; i < 8; ++i) shared[2] = atomicAdd(counter + shared[2] % 2, 0u);
             }) /
             8;
    out[6] = time([&] {
               for (int i = 0; i < 8; ++i) {
                 uint32_t old;
                 asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
                              : "=r"(old)
                              : "l"(counter + 4 + shared[2] % 2)
                              : "memory");
                 shared[2] = old;
               }
             }) /
             8;
  }
  __syncthreads();
  const long long a = clock64();
  for (int i = 0; i < 16; ++i) __syncthreads();
  const long long e = clock64();
  if (threadIdx.x == 0) out[4] = (e - a) / 16;
  float v = static_cast<float>(threadIdx.x);
  const long long c = clock64();
  for (int i = 0; i < 16; ++i) v += __shfl_xor_sync(~0u, v, 1 << (i % 5));
  const long long d = clock64();
  shared[threadIdx.x] = static_cast<uint32_t>(v);
  if (threadIdx.x == 0) out[5] = (d - c) / 16;
}

int main() {
  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  const int sms = device.multiProcessorCount;
  int khz = 0;
  CHECK(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
  std::printf("%s, %d multiprocessors, %d MHz\n", device.name, sms, khz / 1000);
  constexpr int kLarge = 220 * 1024;
  const Params<16> tiny = {};
  const Params<1024> kilobyte = {};
  // A valid pointer, so that nothing is stored.
  uint32_t* memory;
  constexpr uint64_t kWords = uint64_t{1} << 30;
  CHECK(cudaMalloc(&memory, kWords * 4));
  CHECK(cudaMemset(memory, 0, kWords * 4));
  auto t = tiny;
  auto k = kilobyte;
  t.out = k.out = memory;
  Floor("16 B", Empty<16>, t, sms, 384, 0, false, 1);
  Floor("1 KiB", Empty<1024>, k, sms, 384, 0, false, 1);
  Floor("16 B", Empty<16>, t, sms, 384, kLarge, false, 1);
  Floor("1 KiB", Empty<1024>, k, sms, 384, kLarge, false, 1);
  Floor("1 KiB", Empty<1024>, k, sms, 256, kLarge, false, 1);
  Floor("1 KiB", Empty<1024>, k, 8, 384, kLarge, false, 1);
  Floor("1 KiB overlapped", EmptyOverlapped<1024>, k, sms, 384, 0, true, 1);
  Floor("1 KiB overlapped", EmptyOverlapped<1024>, k, sms, 384, kLarge, true, 1);
  for (const int cluster : {4, 8, 16}) {
    Floor("1 KiB", Empty<1024>, k, 128, 384, kLarge, false, cluster);
    Floor("1 KiB overlapped", EmptyOverlapped<1024>, k, 128, 384, kLarge, true, cluster);
  }
  long long* out;
  CHECK(cudaMalloc(&out, 16 * 8));
  for (int i = 0; i < 3; ++i) {
    Latencies<<<1, 384>>>(memory + i * 4096, kWords - 65536, memory + kWords - 64, out);
    CHECK(cudaDeviceSynchronize());
  }
  long long cycles[7];
  CHECK(cudaMemcpy(cycles, out, sizeof(cycles), cudaMemcpyDeviceToHost));
  std::printf(
      "cycles: cold load %lld, L2 load %lld, fence after a store %lld, atomic %lld, barrier of 384 "
      "%lld, shuffle + add %lld, acq_rel atomic %lld\n",
      cycles[0], cycles[1], cycles[2], cycles[3], cycles[4], cycles[5], cycles[6]);
  return 0;
}
