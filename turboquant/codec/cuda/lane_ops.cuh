// SPDX-License-Identifier: Apache-2.0
// What a CUDA thread can do beyond C++, one function each. Kernels use nothing else of CUDA, so
// that tests/cuda/emulated/ can stand in for this file and run them on the CPU.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "turboquant/base/cuda/chained_launch.cuh"

#define TQ_DEVICE __device__ __forceinline__
#define TQ_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define TQ_GRID_CONSTANT __grid_constant__
#define TQ_DEVICE_DATA __device__

namespace tq::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

TQ_DEVICE int ThreadId() { return static_cast<int>(threadIdx.x); }
TQ_DEVICE int LaneId() { return static_cast<int>(threadIdx.x) & 31; }
TQ_DEVICE int WarpId() { return static_cast<int>(threadIdx.x) >> 5; }
// By a shuffle, so that the compiler knows it to be the same for all lanes; all must call it.
TQ_DEVICE int UniformWarpId() { return __shfl_sync(kAllLanes, WarpId(), 0); }
// Of registers, not of what was computed from it before.
TQ_DEVICE int ThreadIdAgain() {
  int id;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(id));
  return id;
}
TQ_DEVICE int BlockId() { return static_cast<int>(blockIdx.x); }
TQ_DEVICE int Threads() { return static_cast<int>(blockDim.x); }

TQ_DEVICE std::byte* SharedMemory() {
  extern __shared__ __align__(128) std::byte shared_memory[];
  return shared_memory;
}

TQ_DEVICE void SyncThreads() { __syncthreads(); }
// Some warps of the block, in barrier 1 .. 15 of their own.
TQ_DEVICE void SyncSome(int barrier, int threads) {
  __syncwarp();  // the barrier counts warps, and takes a part of one for it
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
TQ_DEVICE void SyncWarp() { __syncwarp(); }
// Into the first-level cache.
inline constexpr int kCacheLine = 128;
TQ_DEVICE void PrefetchLine(const std::byte* p) {
  asm volatile("prefetch.global.L1 [%0];" ::"l"(p));
}
TQ_DEVICE uint32_t AtomicAdd(uint32_t* p, uint32_t n) { return atomicAdd(p, n); }
template <typename T>
TQ_DEVICE T ShuffleXor(T x, int mask) {
  return __shfl_xor_sync(kAllLanes, x, mask);
}
template <typename T>
TQ_DEVICE T ShuffleUp(T x, int delta) {
  return __shfl_up_sync(kAllLanes, x, delta);
}
template <typename T>
TQ_DEVICE T Shuffle(T x, int lane) {
  return __shfl_sync(kAllLanes, x, lane);
}

// The last lane that says yes; one does.
TQ_DEVICE int LastLane(bool yes) {
  return 31 - __clz(static_cast<int>(__ballot_sync(kAllLanes, yes)));
}
TQ_DEVICE bool AnyLane(bool yes) { return __any_sync(kAllLanes, yes) != 0; }
TQ_DEVICE uint32_t LargestOfLanes(uint32_t x) { return __reduce_max_sync(kAllLanes, x); }
TQ_DEVICE int SumOfLanes(int x) { return __reduce_add_sync(kAllLanes, x); }

// Four bytes out of eight, by four nibbles; bit 3 of a nibble: the byte's sign eight times.
TQ_DEVICE uint32_t Prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
// mask ? a : b, bit by bit.
TQ_DEVICE uint32_t SelectBits(uint32_t mask, uint32_t a, uint32_t b) {
  uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(r) : "r"(mask), "r"(a), "r"(b));
  return r;
}
// Halves of 16 bits, unsigned, that do not overflow: min(a + b, c).
TQ_DEVICE uint32_t AddMin16x2(uint32_t a, uint32_t b, uint32_t c) {
  return __viaddmin_u16x2(a, b, c);
}
// Halves of 16 bits, signed, that do not overflow: a + b, at most c, at least 0.
TQ_DEVICE uint32_t AddClampS16x2(uint32_t a, uint32_t b, uint32_t c) {
  return __viaddmin_s16x2_relu(a, b, c);
}
// sum + the dot product of signed bytes, or of two signed halves and signed bytes 0, 1 or 2, 3.
TQ_DEVICE int Dp4a(uint32_t a, uint32_t b, int sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}
TQ_DEVICE int Dp2aLow(uint32_t halves, uint32_t bytes, int sum) {
  return __dp2a_lo(static_cast<int>(halves), static_cast<int>(bytes), sum);
}
TQ_DEVICE int Dp2aHigh(uint32_t halves, uint32_t bytes, int sum) {
  return __dp2a_hi(static_cast<int>(halves), static_cast<int>(bytes), sum);
}
TQ_DEVICE uint32_t RotateLeft(uint32_t x, int n) { return __funnelshift_l(x, x, n); }
// a * b + c by a multiplication, whatever compilers make of its factors: shifts, masks and choices
// are done elsewhere than multiplications.
TQ_DEVICE uint32_t MulAdd(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r;
  asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
// x shifted right by n < 32, the low bits of `above` behind it.
TQ_DEVICE uint32_t ShiftIn(uint32_t above, uint32_t x, int n) {
  return __funnelshift_r(x, above, n);
}
TQ_DEVICE uint32_t ReverseBits(uint32_t x) { return __brev(x); }

// c += A B, A 16 x 32 bytes and B 32 x 8 bytes, each signed or unsigned.
TQ_DEVICE void MmaS8S8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
TQ_DEVICE void MmaS8U8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
TQ_DEVICE void MmaU8S8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
TQ_DEVICE void MmaU8U8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                       uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// The same with A 16 x 16.
TQ_DEVICE void MmaS8S8K16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(b0));
}
TQ_DEVICE void MmaU8S8K16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(b0));
}
// Transposes an 8 x 8 matrix of 16-bit elements that lies over the warp: lane 4g + t holds row g,
// columns 2t and 2t + 1.
TQ_DEVICE uint32_t Transpose8x8(uint32_t x) {
  uint32_t r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
  return r;
}

// Stores four such matrices transposed to shared memory, 16 bytes a row: `row` is that of row
// lane % 8 of matrix lane / 8.
TQ_DEVICE void StoreTransposed(std::byte* row, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(row))),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#else  // complete, but no device before takes a wide kernel
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto at = reinterpret_cast<uintptr_t>(row);
    const uint32_t x = Transpose8x8(r[i]);
    // Lane 4g + t: elements 2t and 2t + 1 of row g, whose address lane 8 i + g has.
    const uint64_t of_row =
        __shfl_sync(kAllLanes, static_cast<unsigned long long>(at), 8 * i + (LaneId() >> 2));
    reinterpret_cast<uint32_t*>(of_row)[LaneId() & 3] = x;
  }
#endif
}

// Products of four warps at once (wgmma), on devices that have them: A of 16 x 32 signed bytes of
// each warp, and B of 32 bytes by 8 kSets columns in shared memory that all of them read. B lies in
// matrices of 8 columns by 16 bytes, a column's 16 bytes after the other's: those of the same
// columns follow each other, those of the next ones lie column_stride bytes further on.
template <int kSets>
struct GroupMma;
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasGroupMma = true;
#define TQ_SUMS(access, n) access(c[n][0]), access(c[n][1]), access(c[n][2]), access(c[n][3])
#define TQ_ALL_SUMS(access)                                                       \
  TQ_SUMS(access, 0), TQ_SUMS(access, 1), TQ_SUMS(access, 2), TQ_SUMS(access, 3), \
      TQ_SUMS(access, 4), TQ_SUMS(access, 5), TQ_SUMS(access, 6), TQ_SUMS(access, 7)
#define TQ_GROUP_MMA(types, access, add)                                                        \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k32.s32." types                              \
               " {"                                                                             \
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "         \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
               "}, {%32, %33, %34, %35}, %36, " add ";"                                         \
               : TQ_ALL_SUMS(access)                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)                             \
               : "memory")
template <>
struct GroupMma<8> {
  // B for the instruction. Steps of 32 bytes lie 2 matrices apart, in units of 16 bytes.
  TQ_DEVICE static uint64_t Columns(const std::byte* b, int column_stride) {
    auto address = static_cast<uint32_t>(__cvta_generic_to_shared(b));
    asm volatile("" : "+r"(address));  // computed where it is used: registers are scarce there
    return (address & 0x3ffffu) >> 4 | uint64_t{128 >> 4} << 16 |
           static_cast<uint64_t>(column_stride >> 4) << 32;
  }
  // Behind whatever wrote the registers of products: c, if they add to it, takes part.
  TQ_DEVICE static void Begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
  TQ_DEVICE static void Begin(int32_t (&c)[8][4]) {
    asm volatile("wgmma.fence.sync.aligned;" : TQ_ALL_SUMS("+r")::"memory");
  }
  // c += A B, or c = A B; B signed or not. Registers are not to be touched before Wait.
  template <bool kSigned, bool kFromZero>
  TQ_DEVICE static void Add(int32_t (&c)[8][4], const uint32_t (&a)[4], uint64_t b) {
    if constexpr (kSigned && kFromZero) {
      TQ_GROUP_MMA("s8.s8", "=r", "0");
    } else if constexpr (kSigned) {
      TQ_GROUP_MMA("s8.s8", "+r", "1");
    } else if constexpr (kFromZero) {
      TQ_GROUP_MMA("s8.u8", "=r", "0");
    } else {
      TQ_GROUP_MMA("s8.u8", "+r", "1");
    }
  }
  // For the products of c, which takes part so that nothing is done with it before.
  TQ_DEVICE static void Wait(int32_t (&c)[8][4]) {
    asm volatile(
        "wgmma.commit_group.sync.aligned;\n"
        "wgmma.wait_group.sync.aligned 0;"
        : TQ_ALL_SUMS("+r")
        :
        : "memory");
  }
};
// Registers of a thread from here on, a multiple of 8, for all threads of four warps: some leave
// what others take, who wait for it.
template <int kRegisters>
TQ_DEVICE void LeaveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
TQ_DEVICE void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
#undef TQ_ALL_SUMS
#undef TQ_GROUP_MMA
#undef TQ_SUMS
// Products behind the next barrier see what this thread wrote to shared memory.
TQ_DEVICE void PublishToGroupMma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#else
inline constexpr bool kHasGroupMma = false;
template <int kRegisters>
TQ_DEVICE void LeaveRegisters() {}
template <int kRegisters>
TQ_DEVICE void TakeRegisters() {}
TQ_DEVICE void PublishToGroupMma() {}
#endif

TQ_DEVICE float Exp2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
TQ_DEVICE uint32_t FloatBits(float x) { return __float_as_uint(x); }
TQ_DEVICE float BitsToFloat(uint32_t x) { return __uint_as_float(x); }
TQ_DEVICE float FusedMulAdd(float a, float b, float c) { return __fmaf_rn(a, b, c); }
TQ_DEVICE float Max(float a, float b) { return fmaxf(a, b); }
TQ_DEVICE float Abs(float x) { return fabsf(x); }

// For normal b.
TQ_DEVICE float FastDivide(float a, float b) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  return a * r;
}
TQ_DEVICE int RoundToInt(float x) { return __float2int_rn(x); }

// Past the first-level cache: what another block wrote.
template <typename T>
TQ_DEVICE T LoadL2(const T* p) {
  return __ldcg(p);
}

// Rounded after every operation, never fused: what the page format asks for.
TQ_DEVICE float MulRn(float a, float b) { return __fmul_rn(a, b); }
TQ_DEVICE float AddRn(float a, float b) { return __fadd_rn(a, b); }
TQ_DEVICE float SubRn(float a, float b) { return __fsub_rn(a, b); }
TQ_DEVICE float DivRn(float a, float b) { return __fdiv_rn(a, b); }
TQ_DEVICE float SqrtRn(float x) { return __fsqrt_rn(x); }

TQ_DEVICE float HalfLow(uint32_t pair) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(pair)));
}
TQ_DEVICE float HalfHigh(uint32_t pair) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16)));
}
TQ_DEVICE uint16_t ToHalf(float x) { return __half_as_ushort(__float2half_rn(x)); }
TQ_DEVICE uint32_t ToHalves(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 16 bytes from device to shared memory, of which the first `bytes` are read and the rest zeros.
TQ_DEVICE void CopyAsync(std::byte* shared, const std::byte* global) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(global)
               : "memory");
}
TQ_DEVICE void CopyAsync(std::byte* shared, const std::byte* global, int bytes) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
               "r"(bytes)
               : "memory");
}
TQ_DEVICE void CopyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending groups of this thread are unfinished.
template <int kPending>
TQ_DEVICE void CopyWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace tq::cuda
