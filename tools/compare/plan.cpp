#include "tools/compare/plan.h"

#include "tools/compare/checks.h"

namespace sq::compare {
namespace {

Json model_facts(const Contender& contender) {
  return {{"parameters", contender.parameters},
          {"excess", contender.excess()},
          {"feed_forward_width", contender.feed_forward_width},
          {"options", contender.mixer}};
}

using Measure = Json (*)(const Settings&, const Contender&, std::int64_t, const Stop&);

struct Kind {
  const char* work;
  Measure measure;
  double passes;  // of the model over the tokens, a backward pass counting two
};

}  // namespace

std::vector<Measurement> make_plan(const Settings& settings, const std::vector<Contender>& contenders) {
  std::vector<Measurement> plan;
  for (const Contender& c : contenders) {
    plan.push_back({{c.label, "model"}, 1, [&](const Stop&, const OnStep&) { return model_facts(c); }});
    plan.push_back({{c.label, "causality"}, 12 * 96, [&](const Stop& stop, const OnStep&) {
                      return check_causality(settings, c, stop);
                    }});
    plan.push_back({{c.label, "step_equals_forward"}, 200, [&](const Stop& stop, const OnStep&) {
                      return check_steps(settings, c, stop);
                    }});
  }
  const auto runs = static_cast<double>(settings.runs + 1);
  for (const std::int64_t n : settings.lengths)
    for (const Contender& c : contenders)
      for (const Kind& kind : {Kind{"forward", measure_forward, runs}, Kind{"train_step", measure_step, 3 * runs},
                               Kind{"decode", measure_decode, 1.5}})
        plan.push_back({{c.label, kind.work, n},
                        kind.passes * static_cast<double>(settings.batch_size * n),
                        [&settings, &c, n, measure = kind.measure](const Stop& stop, const OnStep&) {
                          return measure(settings, c, n, stop);
                        }});
  if (settings.train_steps > 0)
    for (const Contender& c : contenders)
      plan.push_back({{c.label, "text"},
                      3 * static_cast<double>(settings.train_steps * settings.train_batch_size * settings.context),
                      [&](const Stop& stop, const OnStep& step) { return train_on_text(settings, c, stop, step); }});
  if (settings.task_steps > 0)
    for (const std::string& text : settings.tasks)
      for (const Contender& c : contenders) {
        const TaskSpec spec = parse_task(text);
        plan.push_back({{c.label, "task", 0, spec.label},
                        3 * static_cast<double>(settings.task_steps * settings.task_batch_size * spec.length),
                        [&settings, &c, spec](const Stop& stop, const OnStep& step) {
                          return train_on_task(settings, c, spec, stop, step);
                        }});
      }
  return plan;
}

std::string describe(const Key& key) {
  std::string text = key.mixer + " " + key.work;
  for (char& c : text)
    if (c == '_') c = ' ';
  text.replace(0, key.mixer.size(), key.mixer);
  if (key.n > 0) text += fmt::format(", {} tokens", key.n);
  if (!key.task.empty()) text += " " + key.task;
  return text;
}

std::string short_result(const Json& result) {
  const auto number = [&](const char* key) { return result[key].is_number() ? result[key].get<double>() : 0.0; };
  if (result.contains("failed")) return "failed: " + result["failed"].get<std::string>();
  if (result.contains("skipped")) return result["skipped"].get<std::string>();
  if (result.contains("ms")) return fmt::format("{:.4g} ms", number("ms"));
  if (result.contains("accuracy")) return fmt::format("accuracy {:.3f}", number("accuracy"));
  if (result.contains("val_loss")) return fmt::format("validation loss {:.4f}", number("val_loss"));
  if (result.contains("moved")) return fmt::format("{:.0f} earlier outputs moved", number("moved"));
  if (result.contains("relative_error")) return fmt::format("relative error {:.1e}", number("relative_error"));
  return fmt::format("{:.0f} parameters", number("parameters"));
}

}  // namespace sq::compare
