// SPDX-License-Identifier: Apache-2.0
// The two ways of attending, as Attend puts them together.
#pragma once

#include <span>

#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/plan.h"

namespace tq {

// Few queries: integer products on packed codes (decode.cc).
void AttendDecode(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
                  const ThreadPool& pool, Isa isa);

// Many queries: panels of floats and matrix products (prefill.cc).
void AttendPrefill(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
                   const ThreadPool& pool, Isa isa);

}  // namespace tq
