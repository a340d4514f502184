// SPDX-License-Identifier: Apache-2.0
// When a block passes its phases, for a profile: TQ_DECODE_STAMPS. Else nothing.
#pragma once

#include "turboquant/attention/cuda/decode_params.h"

namespace tq::cuda {

#ifdef TQ_DECODE_STAMPS
TQ_DEVICE void StampTimer(const DecodeParams& p, int i) {
  uint64_t t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t)::"memory");
  if (ThreadId() == 0 && p.stamps != nullptr) p.stamps[BlockId() * 16 + i] = t;
}
TQ_DEVICE void Stamp(const DecodeParams& p, int i) {
  uint64_t t;
  asm volatile("mov.u64 %0, %clock64;" : "=l"(t)::"memory");
  if (ThreadId() == 0 && p.stamps != nullptr) p.stamps[BlockId() * 16 + i] = t;
}
TQ_DEVICE void StampsClear(const DecodeParams& p) {
  if (ThreadId() == 0 && p.stamps != nullptr) {
    for (int i = 0; i < 16; ++i) p.stamps[BlockId() * 16 + i] = 0;
  }
}
#else
TQ_DEVICE void StampTimer(const DecodeParams&, int) {}
TQ_DEVICE void Stamp(const DecodeParams&, int) {}
TQ_DEVICE void StampsClear(const DecodeParams&) {}
#endif

}  // namespace tq::cuda
