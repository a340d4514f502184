// SPDX-License-Identifier: Apache-2.0
// A text table with aligned columns: the first to the left, numbers to the right.
#pragma once

#include <string>
#include <vector>

namespace tq::app {

class Table {
 public:
  explicit Table(std::vector<std::string> header, int left_columns = 1);
  void AddRow(std::vector<std::string> cells);  // as many as the header has
  std::string Text() const;                     // lines end with '\n'

 private:
  std::vector<std::vector<std::string>> rows_;
  size_t left_columns_;
};

}  // namespace tq::app
