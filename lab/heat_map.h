// SPDX-License-Identifier: Apache-2.0
// Tables of shares as a self-contained SVG: one field of coloured cells per panel, the figure in
// each cell.
#pragma once

#include <string>
#include <vector>

namespace tq::lab {

struct HeatPanel {
  std::string title;
  std::vector<std::vector<double>> values;  // [rows][columns] in [0, 1]; NaN: nothing there
};

struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> x_names, y_names;  // of columns and rows
  std::vector<HeatPanel> panels;              // all of one size, side by side in rows of ...
  int panels_per_row = 1;
};

// Throws kInvalidArgument if there is nothing to draw.
std::string RenderHeatMap(const HeatMap& map);

}  // namespace tq::lab
