// SPDX-License-Identifier: Apache-2.0
// A plot of points as a self-contained SVG: axes with ticks, linear or logarithmic, error bars,
// a legend, and labels that keep out of each other's way.
#pragma once

#include <string>
#include <vector>

namespace tq::lab {

struct PlotPoint {
  double x = 0, y = 0;
  double error = 0;   // of y, half the bar; 0: no bar
  std::string label;  // beside the point; may be empty
};

struct PlotSeries {
  std::string name;  // in the legend
  std::vector<PlotPoint> points;
  bool line = false;  // joins the points in order
};

struct Plot {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;  // points that have no logarithm are left out
  std::vector<std::string> x_names;   // of x = 0, 1, 2 ...: instead of ticks
  std::vector<PlotSeries> series;     // at most 8 colours, then they repeat
};

// Throws kInvalidArgument if there is no point to draw.
std::string RenderSvg(const Plot& plot);

// Where an axis that spans [low, high] has its ticks: round numbers, 3 to 10 of them.
std::vector<double> LinearTicks(double low, double high);
std::vector<double> LogTicks(double low, double high);  // 1, 2 and 5 times powers of ten

}  // namespace tq::lab
