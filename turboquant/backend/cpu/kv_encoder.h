// SPDX-License-Identifier: Apache-2.0
// New keys and values into open pages, and full pages into their sealed form.
#pragma once

#include "turboquant/backend/backend.h"

namespace tq {

void EncodeKvOnCpu(const EncodeArgs& args, const ThreadPool& pool);
void SealOnCpu(const KvCache& cache, std::span<const SealTask> tasks, const ThreadPool& pool);

}  // namespace tq
