// SPDX-License-Identifier: Apache-2.0
#include "lab/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lab/markup.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr double kCellWidth = 58, kCellHeight = 30;
constexpr double kLeft = 70, kTop = 34, kBelow = 46, kGap = 24;  // round the cells of a panel
constexpr double kHead = 44;                                     // above all panels

std::string Text(double x, double y, const char* anchor, const std::string& text,
                 const std::string& more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, EscapeMarkup(text));
}

// From near white to a dark blue, in equal steps of lightness: it survives without colours.
std::string Colour(double value) {
  const auto mix = [&](double none, double all) {
    return static_cast<int>(std::lround(none + (all - none) * value));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(244, 8), mix(246, 64), mix(250, 129));
}

std::string Panel(const HeatMap& map, const HeatPanel& panel, double left, double top) {
  const auto rows = static_cast<double>(map.y_names.size()),
             columns = static_cast<double>(map.x_names.size());
  const double x0 = left + kLeft, y0 = top + kTop;
  std::string svg = Text(x0 + columns * kCellWidth / 2, top + 22, "middle", panel.title);
  for (size_t row = 0; row < map.y_names.size(); ++row) {
    const double y = y0 + static_cast<double>(row) * kCellHeight;
    svg += Text(x0 - 8, y + kCellHeight / 2 + 4, "end", map.y_names[row]);
    for (size_t column = 0; column < map.x_names.size(); ++column) {
      const double x = x0 + static_cast<double>(column) * kCellWidth;
      const double value = panel.values[row][column];
      const bool there = std::isfinite(value);
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" fill=\"{}\" "
          "stroke=\"white\"/>\n",
          x, y, kCellWidth, kCellHeight, there ? Colour(std::clamp(value, 0.0, 1.0)) : "#cccccc");
      if (there)
        svg += Text(x + kCellWidth / 2, y + kCellHeight / 2 + 4, "middle",
                    fmt::format("{:.2f}", value), value > 0.5 ? " fill=\"white\"" : "");
    }
  }
  for (size_t column = 0; column < map.x_names.size(); ++column)
    svg += Text(x0 + (static_cast<double>(column) + 0.5) * kCellWidth, y0 + rows * kCellHeight + 16,
                "middle", map.x_names[column]);
  svg += Text(x0 + columns * kCellWidth / 2, y0 + rows * kCellHeight + 34, "middle", map.x_label);
  const double middle = y0 + rows * kCellHeight / 2;
  svg += Text(left + 14, middle, "middle", map.y_label,
              fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", left + 14, middle));
  return svg;
}

}  // namespace

std::string RenderHeatMap(const HeatMap& map) {
  if (map.panels.empty() || map.x_names.empty() || map.y_names.empty())
    Throw(ErrorCode::kInvalidArgument, "there is no cell to draw");
  for (const HeatPanel& panel : map.panels) {
    TQ_CHECK(panel.values.size() == map.y_names.size());
    for (const auto& row : panel.values) TQ_CHECK(row.size() == map.x_names.size());
  }
  const auto per_row = static_cast<size_t>(std::max(map.panels_per_row, 1));
  const double panel_width = kLeft + static_cast<double>(map.x_names.size()) * kCellWidth + kGap;
  const double panel_height = kTop + static_cast<double>(map.y_names.size()) * kCellHeight + kBelow;
  const double width =
      std::max(panel_width * static_cast<double>(std::min(per_row, map.panels.size())), 480.0);
  const double height =
      kHead + panel_height * static_cast<double>((map.panels.size() + per_row - 1) / per_row);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      width, height);
  svg += Text(width / 2, 28, "middle", map.title, " font-size=\"16\"");
  for (size_t i = 0; i < map.panels.size(); ++i)
    svg += Panel(map, map.panels[i], static_cast<double>(i % per_row) * panel_width,
                 kHead + static_cast<double>(i / per_row) * panel_height);
  return svg + "</svg>\n";
}

}  // namespace tq::lab
