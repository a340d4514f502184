// SPDX-License-Identifier: Apache-2.0
#include "lab/heat_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

HeatMap Map() {
  HeatMap map;
  map.title = "found <all>";
  map.x_names = {"1024", "2048"};
  map.y_names = {"10 %", "50 %", "90 %"};
  map.panels = {{"f16", {{0, 0.25}, {0.5, 0.75}, {1, std::nan("")}}}};
  return map;
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(HeatMapTest, EveryCellHasItsColourAndFigure) {
  const std::string svg = RenderHeatMap(Map());
  EXPECT_EQ(Count(svg, "stroke=\"white\""), 6u);
  for (const char* figure : {">0.00<", ">0.25<", ">0.50<", ">0.75<", ">1.00<"})
    EXPECT_THAT(svg, HasSubstr(figure));
  EXPECT_THAT(svg, HasSubstr("#f4f6fa"));  // 0
  EXPECT_THAT(svg, HasSubstr("#084081"));  // 1
  EXPECT_EQ(Count(svg, "#cccccc"), 1u);    // nothing there
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, HasSubstr("found &lt;all&gt;"));
}

TEST(HeatMapTest, PanelsStandInRows) {
  HeatMap map = Map();
  const auto height = [&] {
    const std::string svg = RenderHeatMap(map);
    const size_t at = svg.find("height=\"") + 8;
    return std::stod(svg.substr(at));
  };
  const double one = height();
  map.panels.push_back(map.panels[0]);
  map.panels_per_row = 2;
  EXPECT_EQ(height(), one);
  map.panels.push_back(map.panels[0]);
  EXPECT_GT(height(), one);
}

TEST(HeatMapTest, NothingIsRefused) { EXPECT_THROW(RenderHeatMap({}), Error); }

}  // namespace
}  // namespace tq::lab
