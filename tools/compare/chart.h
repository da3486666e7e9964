// tools/compare/chart.h: line and bar charts as SVG.
#pragma once

#include "tools/compare/axis.h"

#include <string>
#include <utility>
#include <vector>

namespace sq::compare {

/// One contender's line, or bar.
struct Series {
  std::size_t contender = 0;                           // gives colour and marker
  std::string label;                                   // stands at the line's end
  std::vector<std::pair<double, double>> points = {};  // (x, y), ascending; a bar has one, its length is y
};

struct Chart {
  std::string title = {}, note = {};  // the note in smaller letters below the title
  std::string x_label = {}, y_label = {};
  Unit x_unit = Unit::tokens, y_unit = Unit::milliseconds;
  bool logarithmic = true;  // both axes; otherwise neither
  bool bars = false;        // horizontal bars from 0 to 1
  bool markers = true;
  std::vector<Series> series = {};
};

/// The chart as elements inside a box of such a size, its upper left corner at (0,0). A line's label stands to the
/// right of its end, moved up or down where labels would overlap, joined to the end by a thin line.
std::string draw(const Chart& chart, double width, double height);

}  // namespace sq::compare
