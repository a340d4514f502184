// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/ideas.h"

#include <fmt/format.h>

#include <algorithm>

namespace tq::lab {
namespace {

constexpr bool InOrder() {
  for (size_t i = 0; i < kIdeas.size(); ++i) {
    if (static_cast<size_t>(kIdeas[i].idea) != i) return false;
  }
  return true;
}
static_assert(InOrder());

}  // namespace

bool IdeaInfo::Allows(double number) const {
  return number <= most && (number > 0 || (zero && number == 0));
}

std::string IdeaInfo::Option() const {
  return fmt::format("{}{}", name, TakesNumber() ? "=F" : "");
}

std::string IdeaInfo::Range() const { return fmt::format("in {}0, {}]", zero ? '[' : '(', most); }

const IdeaInfo* FindIdea(std::string_view name) {
  const auto found = std::find_if(kIdeas.begin(), kIdeas.end(),
                                  [&](const IdeaInfo& info) { return info.name == name; });
  return found == kIdeas.end() ? nullptr : &*found;
}

std::string Ideas::Name() const {
  std::string text;
  for (const IdeaInfo& info : kIdeas) {
    if (!Has(info.idea)) continue;
    text += fmt::format(" +{}", info.name);
    if (info.TakesNumber()) text += fmt::format("={}", Number(info.idea));
  }
  return text;
}

}  // namespace tq::lab
