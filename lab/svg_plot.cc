// SPDX-License-Identifier: Apache-2.0
#include "lab/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "lab/markup.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr double kWidth = 900, kHeight = 600;
constexpr double kLeft = 90, kRight = 870, kTop = 50, kBottom = 530;  // of the frame
constexpr double kFont = 13, kCharacter = 7.0;  // pixels, estimated from above
constexpr double kMarker = 5;
constexpr std::array kColours = {"#0b62a4", "#c8461e", "#3b7d23", "#7a3fa0",
                                 "#8a6d00", "#0f8a8a", "#b0266b", "#555555"};

std::string Text(double x, double y, const char* anchor, const std::string& text,
                 const std::string& more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, EscapeMarkup(text));
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& stroke) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
      y2, stroke);
}

// Values to pixels.
class Axis {
 public:
  Axis(double low, double high, bool log, double from, double to)
      : log_(log), from_(from), to_(to) {
    low_ = log ? std::log10(low) : low;
    high_ = log ? std::log10(high) : high;
    const double margin = high_ > low_ ? 0.06 * (high_ - low_) : 0.5;
    low_ -= margin;
    high_ += margin;
  }
  double At(double value) const {
    const double x = log_ ? std::log10(value) : value;
    return from_ + (x - low_) / (high_ - low_) * (to_ - from_);
  }
  std::vector<double> Ticks() const {
    return log_ ? LogTicks(std::pow(10, low_), std::pow(10, high_)) : LinearTicks(low_, high_);
  }

 private:
  bool log_;
  double from_, to_, low_, high_;
};

struct Box {
  double left, top, right, bottom;
  double Overlap(const Box& other) const {
    const double w = std::min(right, other.right) - std::max(left, other.left);
    const double h = std::min(bottom, other.bottom) - std::max(top, other.top);
    return w > 0 && h > 0 ? w * h : 0;
  }
};

struct Mark {
  double x, y, low, high;  // error bar from low to high
  size_t series;
  const PlotPoint* point;
};

class Renderer {
 public:
  explicit Renderer(const Plot& plot)
      : plot_(plot),
        x_(MakeAxis(plot.log_x, kLeft, kRight, [](const PlotPoint& p) { return p.x; })),
        y_(MakeAxis(plot.log_y, kBottom, kTop, [](const PlotPoint& p) { return p.y; })) {}

  std::string Render() {
    svg_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
        "{1}\" font-family=\"sans-serif\" font-size=\"{2}\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
        kWidth, kHeight, kFont);
    DrawFrame();
    CollectMarks();
    DrawLines();
    for (const Mark& mark : marks_) DrawMark(mark);
    DrawLegend();
    for (const Mark& mark : marks_) DrawLabel(mark);
    return svg_ + "</svg>\n";
  }

 private:
  bool Drawable(const PlotPoint& p) const {
    return std::isfinite(p.x) && std::isfinite(p.y) && (!plot_.log_x || p.x > 0) &&
           (!plot_.log_y || p.y > 0);
  }

  template <typename Get>
  Axis MakeAxis(bool log, double from, double to, Get get) const {
    std::optional<double> low, high;
    for (const PlotSeries& series : plot_.series) {
      for (const PlotPoint& point : series.points) {
        if (!Drawable(point)) continue;
        low = std::min(low.value_or(get(point)), get(point));
        high = std::max(high.value_or(get(point)), get(point));
      }
    }
    if (!low) Throw(ErrorCode::kInvalidArgument, "there is no point to plot");
    return {*low, *high, log, from, to};
  }

  void DrawFrame() {
    for (size_t i = 0; i < plot_.x_names.size(); ++i) {
      const double x = x_.At(static_cast<double>(i));
      svg_ += Line(x, kTop, x, kBottom, "#e4e4e4");
      svg_ += Text(x, kBottom + (i % 2 == 0 ? 20 : 38), "middle", plot_.x_names[i]);
    }
    for (const double tick : plot_.x_names.empty() ? x_.Ticks() : std::vector<double>()) {
      const double x = x_.At(tick);
      svg_ += Line(x, kTop, x, kBottom, "#e4e4e4");
      svg_ += Text(x, kBottom + 20, "middle", fmt::format("{:g}", tick));
    }
    for (const double tick : y_.Ticks()) {
      const double y = y_.At(tick);
      svg_ += Line(kLeft, y, kRight, y, "#e4e4e4");
      svg_ += Text(kLeft - 8, y + 4, "end", fmt::format("{:g}", tick));
    }
    svg_ += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#444\"/>\n",
        kLeft, kTop, kRight - kLeft, kBottom - kTop);
    svg_ += Text(kWidth / 2, 28, "middle", plot_.title, " font-size=\"16\"");
    svg_ += Text((kLeft + kRight) / 2, kHeight - 25, "middle", plot_.x_label);
    const double middle = (kTop + kBottom) / 2;
    svg_ += Text(22, middle, "middle", plot_.y_label,
                 fmt::format(" transform=\"rotate(-90 22 {:.1f})\"", middle));
  }

  void CollectMarks() {
    for (size_t s = 0; s < plot_.series.size(); ++s) {
      for (const PlotPoint& p : plot_.series[s].points) {
        if (!Drawable(p)) continue;
        Mark mark = {x_.At(p.x), y_.At(p.y), 0, 0, s, &p};
        const double low = plot_.log_y ? std::max(p.y - p.error, p.y / 10) : p.y - p.error;
        mark.low = std::min(y_.At(low), kBottom);
        mark.high = std::max(y_.At(p.y + p.error), kTop);
        marks_.push_back(mark);
        taken_.push_back({mark.x - kMarker - 1, mark.y - kMarker - 1, mark.x + kMarker + 1,
                          mark.y + kMarker + 1});
      }
    }
  }

  void DrawLines() {
    constexpr int kPieces = 24;  // along a line, that labels keep off
    for (size_t i = 1; i < marks_.size(); ++i) {
      const Mark &a = marks_[i - 1], &b = marks_[i];
      if (a.series != b.series || !plot_.series[a.series].line) continue;
      svg_ += Line(a.x, a.y, b.x, b.y, Colour(a.series));
      for (int piece = 1; piece < kPieces; ++piece) {
        const double x = a.x + (b.x - a.x) * piece / kPieces;
        const double y = a.y + (b.y - a.y) * piece / kPieces;
        taken_.push_back({x - 1, y - 1, x + 1, y + 1});
      }
    }
  }

  static std::string Colour(size_t series) { return kColours[series % kColours.size()]; }

  // Series differ in shape too: colours alone do not reach everybody.
  void DrawShape(double x, double y, size_t series) {
    const double r = kMarker;
    const std::array shapes = {
        fmt::format("M{0} {1}a{2} {2} 0 1 0 {3} 0a{2} {2} 0 1 0 -{3} 0z", x - r, y, r, 2 * r),
        fmt::format("M{} {}h{}v{}h-{}z", x - r, y - r, 2 * r, 2 * r, 2 * r),
        fmt::format("M{} {}l{} {}h-{}z", x, y - r - 1, r + 1, 2 * r, 2 * r + 2),
        fmt::format("M{} {}l{} {}l-{} {}l-{} -{}z", x, y - r - 1, r + 1, r + 1, r + 1, r + 1, r + 1,
                    r + 1)};
    svg_ += fmt::format("<path d=\"{}\" fill=\"{}\"/>\n", shapes[series % shapes.size()],
                        Colour(series));
  }

  void DrawMark(const Mark& mark) {
    if (mark.point->error > 0) {
      svg_ += Line(mark.x, mark.low, mark.x, mark.high, Colour(mark.series));
      for (const double y : {mark.low, mark.high})
        svg_ += Line(mark.x - 3, y, mark.x + 3, y, Colour(mark.series));
    }
    DrawShape(mark.x, mark.y, mark.series);
  }

  // In the emptiest corner.
  void DrawLegend() {
    size_t longest = 0, rows = 0;
    for (const PlotSeries& series : plot_.series) {
      if (series.name.empty()) continue;
      longest = std::max(longest, series.name.size());
      ++rows;
    }
    if (rows == 0) return;
    const double w = kCharacter * static_cast<double>(longest) + 34;
    const double h = 20 * static_cast<double>(rows) + 8;
    Box best = {};
    double least = 1e30;
    for (const double left : {kRight - w - 10, kLeft + 10}) {
      for (const double top : {kTop + 10, kBottom - h - 10}) {
        const Box box = {left, top, left + w, top + h};
        double overlap = 0;
        for (const Box& taken : taken_) {
          overlap +=
              box.Overlap({taken.left - 30, taken.top - 15, taken.right + 30, taken.bottom + 15});
        }
        if (overlap < least) least = overlap, best = box;
      }
    }
    taken_.push_back(best);
    svg_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"white\" "
        "stroke=\"#bbb\"/>\n",
        best.left, best.top, w, h);
    double y = best.top + 18;
    for (size_t s = 0; s < plot_.series.size(); ++s) {
      if (plot_.series[s].name.empty()) continue;
      DrawShape(best.left + 14, y - 4, s);
      svg_ += Text(best.left + 26, y, "start", plot_.series[s].name);
      y += 20;
    }
  }

  // At the nearest place round the point that overlaps least.
  void DrawLabel(const Mark& mark) {
    if (mark.point->label.empty()) return;
    const double w = kCharacter * static_cast<double>(mark.point->label.size()), h = kFont;
    struct Place {
      double dx, dy;  // of the label's middle
    };
    Box best = {};
    double least = 1e30;
    for (const double far : {0.0, 14.0, 30.0, 50.0}) {
      const double dx = w / 2 + kMarker + 4 + far, dy = h / 2 + kMarker + 3 + far;
      for (const Place place : {Place{dx, 0}, Place{-dx, 0}, Place{0, -dy}, Place{0, dy},
                                Place{dx, -dy}, Place{dx, dy}, Place{-dx, -dy}, Place{-dx, dy}}) {
        const double x = mark.x + place.dx, y = mark.y + place.dy;
        const Box box = {x - w / 2, y - h / 2, x + w / 2, y + h / 2};
        double cost = far;  // a place nearby is worth some overlap of blanks
        for (const Box& taken : taken_) cost += 10 * box.Overlap(taken);
        for (const Mark& other : marks_) {  // error bars
          cost += 5 * box.Overlap({other.x - 1, other.high, other.x + 1, other.low});
        }
        const Box frame = {kLeft, kTop, kRight, kBottom};
        cost += 10 * (w * h - box.Overlap(frame));
        if (cost < least) least = cost, best = box;
      }
    }
    taken_.push_back(best);
    const double x = std::clamp(mark.x, best.left, best.right);
    const double y = std::clamp(mark.y, best.top, best.bottom);
    if (std::hypot(x - mark.x, y - mark.y) > kMarker + 8)
      svg_ += Line(mark.x, mark.y, x, y, "#999");
    svg_ += Text((best.left + best.right) / 2, best.bottom - 2, "middle", mark.point->label,
                 fmt::format(" fill=\"{}\"", Colour(mark.series)));
  }

  const Plot& plot_;
  Axis x_, y_;
  std::vector<Mark> marks_;
  std::vector<Box> taken_;
  std::string svg_;
};

}  // namespace

std::vector<double> LinearTicks(double low, double high) {
  const double rough = (high - low) / 6;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough) step = factor * power;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step); i * step <= high; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<double> LogTicks(double low, double high) {
  const bool many_decades = std::log10(high / low) > 3;
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(std::log10(low))); std::pow(10, power) <= high;
       ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (many_decades && factor != 1) continue;
      const double tick = factor * std::pow(10, power);
      if (tick >= low && tick <= high) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string RenderSvg(const Plot& plot) { return Renderer(plot).Render(); }

}  // namespace tq::lab
