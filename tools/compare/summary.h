// tools/compare/summary.h: what the results of a comparison say, for tables and charts.
#pragma once

#include "tools/compare/fit.h"
#include "tools/compare/store.h"

namespace sq::compare {

/// Values of `text` in order of first appearance: the contenders ("mixer"), or the tasks ("task").
std::vector<std::string> values_of(const Store& store, const char* text);

/// The number of a record, if there is one.
std::optional<double> number(const Json* record, const char* key);

/// (length, quantity) of a contender, ascending: quantity "ms" of work "forward", …
std::vector<std::pair<double, double>> points(const Store& store, const std::string& mixer, const std::string& work,
                                              const char* quantity);

/// What is fitted: a name, the work and the quantity.
struct GrowthKind {
  const char* name;
  const char* work;
  const char* quantity;
};
inline constexpr GrowthKind kGrowths[]{{"growth_forward_time", "forward", "ms"},
                                       {"growth_step_time", "train_step", "ms"},
                                       {"growth_decode_time", "decode", "ms"},
                                       {"growth_forward_memory", "forward", "peak_bytes"},
                                       {"growth_step_memory", "train_step", "peak_bytes"}};

std::optional<Growth> growth(const Store& store, const std::string& mixer, const GrowthKind& kind);

/// One record for each fit: {"mixer", "work": name, "exponent", "exponent_error", "r_squared", "points"} or {…,
/// "skipped": "too few points"}.
std::vector<Json> growth_records(const Store& store);

}  // namespace sq::compare
