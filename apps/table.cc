// SPDX-License-Identifier: Apache-2.0
#include "apps/table.h"

#include <algorithm>

#include "turboquant/base/error.h"

namespace tq::app {
namespace {

// Columns on a terminal: code points, not bytes ("±" is one).
size_t Width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> header, int left_columns)
    : rows_{std::move(header)}, left_columns_(static_cast<size_t>(left_columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  TQ_CHECK(cells.size() == rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string Table::Text() const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], Width(row[c]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(widths[c] - Width(row[c]), ' ');
      if (c > 0) line += "  ";
      line += c < left_columns_ ? row[c] + blanks : blanks + row[c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

}  // namespace tq::app
