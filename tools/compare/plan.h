// tools/compare/plan.h: the measurements that a comparison consists of, in order: first the cheap ones of every
// contender, then lengths from short to long, then training, so that a comparison that is stopped has compared
// something.
#pragma once

#include "tools/compare/store.h"
#include "tools/compare/train.h"

#include <functional>

namespace sq::compare {

struct Measurement {
  Key key;
  double work = 1;  // tokens that pass through a model, for the time left
  /// Gives the result; see measure.h, checks.h and train.h.
  std::function<Json(const Stop& stop, const OnStep& on_step)> run;
};

/// The contenders must outlive the plan.
std::vector<Measurement> make_plan(const Settings& settings, const std::vector<Contender>& contenders);

/// "dense forward, 1024 tokens".
std::string describe(const Key& key);
/// The figure that matters of a result: "12.3 ms", "accuracy 0.97".
std::string short_result(const Json& result);

}  // namespace sq::compare
