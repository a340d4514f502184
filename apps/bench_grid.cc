// SPDX-License-Identifier: Apache-2.0
#include "apps/bench_grid.h"

#include <charconv>
#include <utility>

#include "turboquant/base/error.h"

namespace tq::app {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    pieces.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return pieces;
}

int ParseInt(std::string_view text, const std::string& piece, const std::string& flag) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    Throw(ErrorCode::kInvalidArgument,
          "{}: '{}' is no number or range (A,B or A-B or A-B+STEP or A-B*FACTOR)", flag, piece);
  }
  return value;
}

}  // namespace

std::vector<int> ParseIntList(const std::string& text, const std::string& flag) {
  std::vector<int> values;
  for (const std::string& piece : Split(text, ',')) {
    const size_t dash = piece.find('-', 1);
    if (dash == std::string::npos) {
      values.push_back(ParseInt(piece, piece, flag));
      continue;
    }
    const std::string_view view = piece;
    const size_t step_at = piece.find_first_of("+*", dash);
    const int first = ParseInt(view.substr(0, dash), piece, flag);
    const int last =
        ParseInt(view.substr(dash + 1, step_at == std::string::npos ? step_at : step_at - dash - 1),
                 piece, flag);
    const int step =
        step_at == std::string::npos ? 1 : ParseInt(view.substr(step_at + 1), piece, flag);
    const bool factor = step_at != std::string::npos && piece[step_at] == '*';
    if (first > last || step < (factor ? 2 : 1) || (factor && first == 0)) {
      Throw(ErrorCode::kInvalidArgument, "{}: the range '{}' has no end", flag, piece);
    }
    for (int64_t value = first; value <= last; value = factor ? value * step : value + step)
      values.push_back(static_cast<int>(value));
  }
  return values;
}

std::vector<lab::BenchCase> BenchGrid(const BenchLists& lists) {
  std::vector<std::pair<int, int>> tests;  // prompt, gen
  for (const int n : ParseIntList(lists.prompt, "-p")) {
    if (n > 0) tests.emplace_back(n, 0);
  }
  for (const int n : ParseIntList(lists.gen, "-n")) {
    if (n > 0) tests.emplace_back(0, n);
  }
  for (const std::string& pair : lists.prompt_gen) {
    const std::vector<int> both = ParseIntList(pair, "-pg");
    if (both.size() != 2) Throw(ErrorCode::kInvalidArgument, "-pg: '{}' is not PROMPT,GEN", pair);
    tests.emplace_back(both[0], both[1]);
  }
  std::vector<lab::BenchCase> grid;
  for (const std::string& type_k : lists.types_k) {
    for (const std::string& type_v : lists.types_v) {
      for (const int batch : ParseIntList(lists.batch, "-b")) {
        for (const int ubatch : ParseIntList(lists.ubatch, "-ub")) {
          if (batch < 1 || ubatch < 1)
            Throw(ErrorCode::kInvalidArgument, "-b and -ub: give 1 or more");
          for (const int depth : ParseIntList(lists.depth, "-d")) {
            for (const auto& [prompt, gen] : tests) {
              grid.push_back({.n_prompt = prompt,
                              .n_gen = gen,
                              .n_depth = depth,
                              .n_batch = batch,
                              .n_ubatch = ubatch,
                              .type_k = type_k,
                              .type_v = type_v});
            }
          }
        }
      }
    }
  }
  return grid;
}

}  // namespace tq::app
