// SPDX-License-Identifier: Apache-2.0
#include "apps/argv.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace tq::app {
namespace {

constexpr auto kSpellings = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"-ctk", "--cache-type-k"},
    {"-ctv", "--cache-type-v"},
    {"-sys", "--system-prompt"},
    {"-sysf", "--system-prompt-file"},
    {"-st", "--single-turn"},
    {"-cnv", "--conversation"},
    {"-no-cnv", "--no-conversation"},
    {"-ub", "--ubatch-size"},
    {"-tb", "--threads-batch"},
    {"-ngl", "--gpu-layers"},
    {"-fa", "--flash-attn"},
    {"-dev", "--device"},
    {"-pg", "--prompt-gen"},
});

}  // namespace

std::vector<std::string> ExpandShortFlags(std::span<char* const> argv) {
  std::vector<std::string> words;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string_view word = argv[i];
    const auto* found = std::find_if(kSpellings.begin(), kSpellings.end(),
                                     [&](const auto& s) { return s.first == word; });
    words.emplace_back(found != kSpellings.end() ? found->second : word);
  }
  return words;
}

}  // namespace tq::app
