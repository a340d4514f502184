// SPDX-License-Identifier: Apache-2.0
#include "lab/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

using testing::Contains;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Label {
  double left, right, y;
  std::string text;
};

std::vector<Label> LabelsIn(const std::string& svg) {
  std::vector<Label> labels;
  const std::regex text(
      "<text x=\"([0-9.]+)\" y=\"([0-9.]+)\" text-anchor=\"middle\" fill=[^>]*>([^<]*)<");
  for (std::sregex_iterator it(svg.begin(), svg.end(), text), end; it != end; ++it) {
    const double x = std::stod((*it)[1]), half = 3.5 * static_cast<double>((*it)[3].length());
    labels.push_back({x - half, x + half, std::stod((*it)[2]), (*it)[3]});
  }
  return labels;
}

TEST(SvgPlotTest, LabelsDoNotCollide) {
  Plot plot;
  plot.log_y = true;
  PlotSeries series{"types", {}, false};
  for (int i = 0; i < 6; ++i)
    series.points.push_back({3 + 0.05 * i, 0.01 + 0.0002 * i, 0.0005, "turbo4/turbo3"});
  series.points.push_back({9, 1, 0, "far"});
  plot.series = {series};
  const std::vector<Label> labels = LabelsIn(RenderSvg(plot));
  ASSERT_EQ(labels.size(), 7u);
  for (size_t i = 0; i < labels.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const bool apart = labels[i].right <= labels[j].left || labels[j].right <= labels[i].left ||
                         std::abs(labels[i].y - labels[j].y) >= 12.9;
      EXPECT_TRUE(apart) << i << " " << j;
    }
  }
}

TEST(SvgPlotTest, TextIsEscapedAndEveryPartIsThere) {
  Plot plot;
  plot.title = "a < b & c";
  plot.x_label = "bits";
  plot.y_label = "KLD";
  plot.series = {{"one", {{1, 2, 0.5, "p"}, {2, 3, 0, ""}}, true},
                 {"two", {{1.5, 2.5, 0, "q"}}, false}};
  const std::string svg = RenderSvg(plot);
  EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; c"));
  EXPECT_THAT(svg, Not(HasSubstr("a < b")));
  for (const char* text : {">bits<", ">KLD<", ">one<", ">two<", ">p<", ">q<"})
    EXPECT_THAT(svg, HasSubstr(text));
}

TEST(SvgPlotTest, PointsWithoutALogarithmAreLeftAway) {
  Plot plot;
  plot.log_y = true;
  plot.series = {{"", {{1, 0, 0, "zero"}}, false}};
  EXPECT_THROW(RenderSvg(plot), Error);
  plot.series[0].points.push_back({1, 0.5, 0, "half"});
  const std::string svg = RenderSvg(plot);
  EXPECT_THAT(svg, HasSubstr(">half<"));
  EXPECT_THAT(svg, Not(HasSubstr(">zero<")));
}

TEST(SvgPlotTest, TicksAreRound) {
  EXPECT_THAT(LinearTicks(1.9, 8.7), ElementsAre(2, 4, 6, 8));
  EXPECT_THAT(LogTicks(0.0008, 0.06), Contains(DoubleEq(0.001)));
  EXPECT_EQ(LogTicks(0.0008, 0.06).size(), 6u);  // .001 .002 .005 .01 .02 .05
  EXPECT_EQ(LogTicks(1e-5, 20).size(), 7u);      // decades only
}

}  // namespace
}  // namespace tq::lab
