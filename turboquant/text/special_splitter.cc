// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/special_splitter.h"

#include <algorithm>
#include <functional>

namespace tq {

SpecialSplitter::SpecialSplitter(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const std::string& text = vocabulary.Text(id);
    const bool special = vocabulary.IsHidden(id) || vocabulary.Type(id) == TokenType::kUserDefined;
    if (!special || text.empty()) continue;
    tokens_.try_emplace(text, id);
    lengths_[static_cast<uint8_t>(text[0])].push_back(text.size());
  }
  for (std::vector<size_t>& lengths : lengths_) {
    std::sort(lengths.begin(), lengths.end(), std::greater<>());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  }
}

std::vector<SpecialSplitter::Match> SpecialSplitter::FindMatches(std::string_view text,
                                                                 bool parse_special) const {
  std::vector<Match> matches;
  for (size_t at = 0; at < text.size(); ++at) {
    for (const size_t length : lengths_[static_cast<uint8_t>(text[at])]) {
      if (length > text.size() - at) continue;
      const auto found = tokens_.find(text.substr(at, length));
      if (found == tokens_.end()) continue;
      if (parse_special || !vocabulary_.IsHidden(found->second)) {
        matches.push_back({at, length, found->second});
      }
    }
  }
  return matches;
}

std::vector<TextPart> SpecialSplitter::Split(std::string_view text, bool parse_special) const {
  std::vector<Match> matches = FindMatches(text, parse_special);
  std::stable_sort(matches.begin(), matches.end(),
                   [](const Match& a, const Match& b) { return a.length > b.length; });
  // A match that overlaps a longer (or equal) one has an end inside it.
  std::vector<bool> taken(matches.empty() ? 0 : text.size());
  std::erase_if(matches, [&](const Match& match) {
    const size_t end = match.begin + match.length;
    if (taken[match.begin] || taken[end - 1]) return true;
    std::fill(taken.begin() + static_cast<int64_t>(match.begin),
              taken.begin() + static_cast<int64_t>(end), true);
    return false;
  });
  std::sort(matches.begin(), matches.end(),
            [](const Match& a, const Match& b) { return a.begin < b.begin; });

  std::vector<TextPart> parts;
  size_t at = 0;
  for (const Match& match : matches) {
    if (match.begin > at) parts.push_back({text.substr(at, match.begin - at), -1});
    parts.push_back({text.substr(match.begin, match.length), match.id});
    at = match.begin + match.length;
  }
  if (at < text.size()) parts.push_back({text.substr(at), -1});
  return parts;
}

}  // namespace tq
