// tools/compare/figures.h: the charts of a comparison.
#pragma once

#include "tools/compare/chart.h"
#include "tools/compare/summary.h"

namespace sq::compare {

/// Time of the forward pass, of a training step and of a decoded token, memory of a training step, state bytes, all
/// against the length; loss against steps; a chart of accuracies for each task. What was not measured is left out.
std::vector<Chart> make_figures(const Store& store);

/// All of them in two columns as one picture that stands alone.
std::string figures_picture(const Store& store);

}  // namespace sq::compare
