#include "tools/compare/chart.h"

#include "tools/compare/svg.h"

#include <fmt/format.h>

#include <algorithm>

namespace sq::compare {
namespace {

constexpr double kLabelSize = 11, kTop = 46, kBottom = 44, kLeft = 66;

std::string line(std::string_view kind, double x1, double y1, double x2, double y2, double width = 1) {
  return fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke-width=\"{}\"/>",
                     kind, x1, y1, x2, y2, width);
}

std::string heading(const Chart& chart) {
  std::string out = text_at(0, 15, chart.title, 14, Anchor::start, "ink", true);
  if (!chart.note.empty()) out += text_at(0, 31, chart.note, kLabelSize, Anchor::start, "faint");
  return out;
}

double widest_label(const Chart& chart) {
  double widest = 0;
  for (const Series& s : chart.series) widest = std::max(widest, text_width(s.label, kLabelSize));
  return widest;
}

std::vector<double> values(const Chart& chart, bool of_x) {
  std::vector<double> result;
  for (const Series& s : chart.series)
    for (const auto& [x, y] : s.points) result.push_back(of_x ? x : y);
  return result;
}

/// The lengths that were measured, as far as their texts fit; round values where there are too many.
std::vector<double> x_ticks(const Chart& chart, const Axis& axis) {
  if (!chart.logarithmic) return axis.ticks();
  std::vector<double> ticks = values(chart, true);
  std::sort(ticks.begin(), ticks.end());
  ticks.erase(std::unique(ticks.begin(), ticks.end()), ticks.end());
  std::vector<double> kept;
  for (const double tick : ticks) {
    const double half = text_width(written(tick, chart.x_unit), kLabelSize) / 2;
    if (kept.empty() || axis.pixel(tick) - half > axis.pixel(kept.back()) +
                                                      text_width(written(kept.back(), chart.x_unit), kLabelSize) / 2 +
                                                      6)
      kept.push_back(tick);
  }
  return kept;
}

std::string draw_grid(const Chart& chart, const Axis& x, const Axis& y, double right, double bottom) {
  std::string out;
  for (const double tick : y.ticks()) {
    out += line("grid", kLeft, y.pixel(tick), right, y.pixel(tick));
    out += text_at(kLeft - 6, y.pixel(tick) + 4, written(tick, chart.y_unit), kLabelSize, Anchor::end, "faint");
  }
  for (const double tick : x_ticks(chart, x)) {
    out += line("grid", x.pixel(tick), kTop, x.pixel(tick), bottom);
    out += text_at(x.pixel(tick), bottom + 16, written(tick, chart.x_unit), kLabelSize, Anchor::middle, "faint");
  }
  out += line("axis", kLeft, bottom, right, bottom) + line("axis", kLeft, kTop, kLeft, bottom);
  out += text_at((kLeft + right) / 2, bottom + 34, chart.x_label, kLabelSize, Anchor::middle, "ink");
  out += fmt::format("<g transform=\"translate(12 {:.1f}) rotate(-90)\">{}</g>", (kTop + bottom) / 2,
                     text_at(0, 0, chart.y_label, kLabelSize, Anchor::middle, "ink"));
  return out;
}

std::string draw_line(const Chart& chart, const Series& series, const Axis& x, const Axis& y) {
  std::string path, markers;
  for (const auto& [px, py] : series.points) {
    if (chart.logarithmic && !(px > 0 && py > 0)) continue;
    path += fmt::format("{:.1f},{:.1f} ", x.pixel(px), y.pixel(py));
    if (chart.markers) markers += marker(series.contender, x.pixel(px), y.pixel(py));
  }
  return fmt::format(
             "<polyline class=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.8\" "
             "stroke-linejoin=\"round\" points=\"{}\"/>",
             colour_class(series.contender), path) +
         markers;
}

std::string draw_lines(const Chart& chart, double width, double height) {
  const double right = width - widest_label(chart) - 34, bottom = height - kBottom;
  const Axis x(values(chart, true), chart.logarithmic, kLeft, right);
  const Axis y(values(chart, false), chart.logarithmic, bottom, kTop);
  std::string out = draw_grid(chart, x, y, right, bottom);
  std::vector<double> ends;
  for (const Series& s : chart.series) {
    out += draw_line(chart, s, x, y);
    ends.push_back(y.pixel(s.points.back().second));
  }
  const std::vector<double> places = spread(ends, kLabelSize + 2, kTop + 2, bottom);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Series& s = chart.series[i];
    const double end = x.pixel(s.points.back().first);
    out += fmt::format(
        "<polyline class=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\".45\" "
        "points=\"{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}\"/>",
        colour_class(s.contender), end + 4, ends[i], right + 8, places[i], right + 12, places[i]);
    out += marker(s.contender, right + 17, places[i], 3.2);
    out += text_at(right + 24, places[i] + 4, s.label, kLabelSize, Anchor::start, colour_class(s.contender));
  }
  return out;
}

std::string draw_bars(const Chart& chart, double width, double height) {
  const double left = widest_label(chart) + 30, right = width - 64, bottom = height - kBottom;
  const double row =
      std::min(30.0, (bottom - kTop) / static_cast<double>(std::max<std::size_t>(1, chart.series.size())));
  const double end = kTop + row * static_cast<double>(chart.series.size());
  std::string out;
  for (int i = 0; i <= 5; ++i) {
    const double place = left + (right - left) * i / 5;
    out += line("grid", place, kTop, place, end);
    out += text_at(place, end + 16, written(i / 5.0, chart.y_unit), kLabelSize, Anchor::middle, "faint");
  }
  out += text_at((left + right) / 2, end + 34, chart.x_label, kLabelSize, Anchor::middle, "ink");
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    const double share = std::clamp(s.points.front().second, 0.0, 1.0),
                 middle = kTop + row * (static_cast<double>(i) + 0.5);
    out += marker(s.contender, 8, middle, 3.4) +
           text_at(18, middle + 4, s.label, kLabelSize, Anchor::start, colour_class(s.contender));
    out += fmt::format(
        "<rect class=\"{}\" fill=\"currentColor\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
        "height=\"{:.1f}\" rx=\"2\"/>",
        colour_class(s.contender), left, middle - 0.33 * row, std::max(1.0, share * (right - left)), 0.66 * row);
    out += text_at(left + share * (right - left) + 6, middle + 4, fmt::format("{:.1f} %", 100 * share), kLabelSize);
  }
  return out + line("axis", left, kTop, left, end);
}

}  // namespace

std::string draw(const Chart& chart, double width, double height) {
  Chart complete = chart;
  std::erase_if(complete.series, [](const Series& s) { return s.points.empty(); });
  if (complete.series.empty())
    return heading(complete) + text_at(width / 2, height / 2, "not measured", 12, Anchor::middle, "faint");
  return heading(complete) + (complete.bars ? draw_bars(complete, width, height) : draw_lines(complete, width, height));
}

}  // namespace sq::compare
