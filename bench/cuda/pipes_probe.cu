#include <cstdio>
#include <cstdint>
template <int OP> __device__ __forceinline__ void op(uint32_t& a, uint32_t& b, uint32_t m) {
  if (OP == 0) asm volatile("shr.u32 %0, %0, %1;" : "+r"(a) : "r"(m));
  if (OP == 1) asm volatile("mul.hi.u32 %0, %0, %1;" : "+r"(a) : "r"(m));
  if (OP == 2) asm volatile("prmt.b32 %0, %0, %1, %2;" : "+r"(a) : "r"(b), "r"(m));
  if (OP == 3) { asm volatile("prmt.b32 %0, %0, %1, %2;" : "+r"(a) : "r"(m), "r"(m)); asm volatile("mul.hi.u32 %0, %0, %1;" : "+r"(b) : "r"(m)); }
  if (OP == 4) { asm volatile("prmt.b32 %0, %0, %1, %2;" : "+r"(a) : "r"(m), "r"(m)); asm volatile("shr.u32 %0, %0, %1;" : "+r"(b) : "r"(m)); }
  if (OP == 5) { asm volatile("prmt.b32 %0, %0, %1, %2;" : "+r"(a) : "r"(m), "r"(m)); asm volatile("mul.lo.u32 %0, %0, %1;" : "+r"(b) : "r"(m)); }
  if (OP == 6) { asm volatile("prmt.b32 %0, %0, %1, %2;" : "+r"(a) : "r"(m), "r"(m)); asm volatile("add.u32 %0, %0, %1;" : "+r"(b) : "r"(m)); }
  if (OP == 7) asm volatile("{.reg .u64 t; mul.wide.u32 t, %0, %1; mov.b64 {_, %0}, t;}" : "+r"(a) : "r"(m));
}
template <int OP> __global__ void k(uint32_t* o, uint32_t m, long long* c) {
  uint32_t a[8], b[8];
  for (int i = 0; i < 8; i++) a[i] = threadIdx.x + i, b[i] = threadIdx.x * i;
  long long t = clock64();
  for (int r = 0; r < 64; r++)
#pragma unroll
    for (int u = 0; u < 4; u++)
#pragma unroll
      for (int i = 0; i < 8; i++) op<OP>(a[i], b[i], m);
  long long e = clock64();
  uint32_t s = 0; for (int i = 0; i < 8; i++) s ^= a[i] ^ b[i];
  o[threadIdx.x] = s; if (!threadIdx.x) *c = e - t;
}
template <int OP> void run(const char* n) { uint32_t* o; long long* c; cudaMalloc(&o, 4096); cudaMallocManaged(&c, 8); k<OP><<<1, 512>>>(o, 65536, c); k<OP><<<1, 512>>>(o, 65536, c); cudaDeviceSynchronize(); printf("%s: %.3f cycles per op per scheduler\n", n, *c / (64. * 4 * 8 * 4)); }
int main() { run<0>("shr"); run<1>("mul.hi"); run<7>("mul.wide"); run<2>("prmt"); run<3>("prmt+mul.hi"); run<4>("prmt+shr"); run<5>("prmt+mul.lo"); run<6>("prmt+add"); }
