// SPDX-License-Identifier: Apache-2.0
// Copies to shared memory that go on by themselves. Compute capability 9.0 has an engine for them,
// which one lane asks; before, the lanes of a warp copy 16 bytes each, without waiting.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tq::cuda {

__device__ __forceinline__ uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void CopyByLane(uint32_t to, const uint8_t* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// For what this thread has copied, but for the last groups of it.
__device__ __forceinline__ void WaitForLane(int groups) {
  switch (groups) {
    case 0:
      asm volatile("cp.async.wait_group 0;" ::: "memory");
      return;
    case 1:
      asm volatile("cp.async.wait_group 1;" ::: "memory");
      return;
    case 2:
      asm volatile("cp.async.wait_group 2;" ::: "memory");
      return;
    default:
      asm volatile("cp.async.wait_group 3;" ::: "memory");
  }
}

// One such copy by a warp. Before the first one somebody calls Init, then EndInit.
struct StagedCopy {
  uint32_t to;       // shared addresses
  uint32_t barrier;  // 8 bytes

#if __CUDA_ARCH__ >= 900
  static constexpr bool kForBlock = true;  // any thread of the block may wait
#else
  static constexpr bool kForBlock = false;  // the warp that copies may wait
#endif

  __device__ __forceinline__ void Init() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
#endif
  }
  __device__ __forceinline__ static void EndInit() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  // bytes: a multiple of 16.
  __device__ __forceinline__ void Start(const uint8_t* from, int bytes, int lane) const {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                   "r"(bytes)
                   : "memory");
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
          "[%3];" ::"r"(to),
          "l"(from), "r"(bytes), "r"(barrier)
          : "memory");
    }
#else
    for (int at = lane * 16; at < bytes; at += 512) CopyByLane(to + at, from + at);
#endif
  }
  // parity: of the copies that this place has had before; later: groups of copies that were closed
  // since this one's.
  __device__ __forceinline__ void Wait(uint32_t parity, [[maybe_unused]] int later) const {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "WAIT:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra WAIT;\n"
        "}" ::"r"(barrier),
        "r"(parity)
        : "memory");
#else
    WaitForLane(later);
    __syncwarp();
#endif
  }
  // Between copies that are waited for one after the other.
  __device__ __forceinline__ static void CloseGroup() {
#if __CUDA_ARCH__ < 900
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
  }
};

}  // namespace tq::cuda
