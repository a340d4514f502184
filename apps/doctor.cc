// SPDX-License-Identifier: Apache-2.0
// turboquant doctor: what this build and this machine can run, and whether it computes correctly.
#include <fmt/format.h>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "lab/self_test.h"
#include "turboquant/backend/gpu_info.h"
#include "turboquant/base/cpu_isa.h"
#include "turboquant/base/version.h"
#include "turboquant/engine/memory_need.h"

namespace tq::app {
namespace {

void PrintCpu() {
  std::string isas;
  for (const Isa isa : AvailableIsas()) isas += fmt::format(" {}", IsaName(isa));
  fmt::print("build    turboquant {} ({})\n", kVersion, kBuildCommit);
  fmt::print("cpu      instruction sets:{}; kernels run on {}\n", isas, IsaName(ActiveIsa()));
  fmt::print("memory   {} can be taken\n", FormatBytes(static_cast<double>(AvailableMemory())));
}

void PrintGpus(const GpuList& list) {
  if (list.gpus.empty()) {
    fmt::print("gpu      none: {}\n", list.why_none);
    return;
  }
  fmt::print("driver   CUDA {}\n", list.driver);
  for (const GpuInfo& gpu : list.gpus) {
    fmt::print("cuda:{}   {}, compute capability {}.{}, {} multiprocessors, {}: {}\n", gpu.index,
               gpu.name, gpu.capability / 10, gpu.capability % 10, gpu.multiprocessors,
               FormatBytes(static_cast<double>(gpu.total_bytes)),
               gpu.why_not.empty() ? "runs" : "does not run: " + gpu.why_not);
  }
  fmt::print("prompts  attention on GPUs through {}\n", PromptAttention());
}

// True if all passed.
bool TestDevice(const std::string& device) {
  using Outcome = lab::SelfTestResult::Outcome;
  const auto backend = MakeBackend({.device = device});
  fmt::print("\n{}: encoding, sealing and attention against the reference\n", backend->name());
  std::fflush(stdout);
  bool good = true;
  lab::RunSelfTest(*backend, [&](const lab::SelfTestResult& result) {
    ThrowIfInterrupted();
    const bool failed = result.outcome == Outcome::kFailed;
    fmt::print("  {} {}: {}\n",
               failed                               ? "FAILED"
               : result.outcome == Outcome::kPassed ? "ok    "
                                                    : "not run",
               result.what, result.details);
    std::fflush(stdout);
    good = good && !failed;
  });
  return good;
}

void Doctor() {
  PrintCpu();
  const GpuList list = ListGpus();
  PrintGpus(list);
  bool good = TestDevice("cpu");
  for (const GpuInfo& gpu : list.gpus) {
    if (gpu.why_not.empty()) good = TestDevice(fmt::format("cuda:{}", gpu.index)) && good;
  }
  if (!good) {
    std::fflush(stdout);
    Throw(ErrorCode::kIo,
          "this machine does not compute what it should (see FAILED above): do not trust results "
          "from that device");
  }
}

}  // namespace

void AddDoctorCommand(Command root) {
  const Command command = root.AddCommand(
      "doctor", "What this build and machine can run, and a self-test of the cache on each device");
  command.OnRun([] { Doctor(); });
}

}  // namespace tq::app
