#include "tools/compare/figures.h"

#include "tools/compare/svg.h"

namespace sq::compare {
namespace {

/// A loss curve is shown from here on: before, it falls alike for all, and by so much that later differences vanish.
constexpr double kFirstShare = 0.1;

/// A line for each contender; its label tells the growth where that was fitted.
std::vector<Series> against_length(const Store& store, const std::string& work, const char* quantity) {
  std::vector<Series> series;
  const std::vector<std::string> mixers = values_of(store, "mixer");
  for (std::size_t i = 0; i < mixers.size(); ++i) {
    Series s{.contender = i, .label = mixers[i], .points = points(store, mixers[i], work, quantity)};
    if (const auto fit = fit_growth(s.points)) s.label += fmt::format("  N^{:.2f}", fit->exponent);
    series.push_back(std::move(s));
  }
  return series;
}

std::vector<Series> loss_curves(const Store& store) {
  std::vector<Series> series;
  const std::vector<std::string> mixers = values_of(store, "mixer");
  for (std::size_t i = 0; i < mixers.size(); ++i) {
    const Json* record = store.find({mixers[i], "text"});
    if (!record || !record->contains("curve")) continue;
    Series s{.contender = i, .label = mixers[i]};
    const double steps = number(record, "steps").value_or(0);
    for (const Json& point : (*record)["curve"])
      if (point[1].is_number() && point[0].get<double>() >= kFirstShare * steps)
        s.points.emplace_back(point[0].get<double>(), point[1].get<double>());
    if (const auto loss = number(record, "val_loss")) s.label += fmt::format("  {:.3f}", *loss);
    series.push_back(std::move(s));
  }
  return series;
}

std::vector<Series> accuracies(const Store& store, const std::string& task) {
  std::vector<Series> series;
  const std::vector<std::string> mixers = values_of(store, "mixer");
  for (std::size_t i = 0; i < mixers.size(); ++i)
    if (const auto accuracy = number(store.find({mixers[i], "task", 0, task}), "accuracy"))
      series.push_back({.contender = i, .label = mixers[i], .points = {{0, *accuracy}}});
  return series;
}

std::string steps_of(const Store& store, const char* work) {
  for (const Json& record : store.records())
    if (key_of(record).work == work)
      if (const auto steps = number(&record, "steps")) return fmt::format("{:.0f} steps", *steps);
  return "";
}

}  // namespace

std::vector<Chart> make_figures(const Store& store) {
  const std::string rows = store.settings().value("batch_size", std::int64_t{1}) == 1 ? "one sequence" : "one batch";
  const std::string tokens = "tokens N of a sequence", growth = "; N^… is fitted to the longer half";
  std::vector<Chart> charts{
      {.title = "Forward pass", .note = "median time, " + rows + growth, .x_label = tokens, .y_label = "time"},
      {.title = "Training step", .note = "forward, backward and AdamW, " + rows, .x_label = tokens, .y_label = "time"},
      {.title = "Decoding", .note = "time for one more token after N", .x_label = tokens, .y_label = "time per token"},
      {.title = "Memory of a training step",
       .note = "most bytes at once beyond parameters and optimizer",
       .x_label = tokens,
       .y_label = "memory",
       .y_unit = Unit::bytes},
      {.title = "Decoding state",
       .note = "bytes kept after N tokens, " + rows,
       .x_label = tokens,
       .y_label = "state",
       .y_unit = Unit::bytes}};
  charts[0].series = against_length(store, "forward", "ms");
  charts[1].series = against_length(store, "train_step", "ms");
  charts[2].series = against_length(store, "decode", "ms");
  charts[3].series = against_length(store, "train_step", "peak_bytes");
  charts[4].series = against_length(store, "decode", "state_bytes");
  charts.push_back({.title = "Loss on text",
                    .note = "smoothed training loss after the first tenth; numbers: on text kept back",
                    .x_label = "training steps",
                    .y_label = "nats per byte",
                    .x_unit = Unit::steps,
                    .y_unit = Unit::nats,
                    .logarithmic = false,
                    .markers = false,
                    .series = loss_curves(store)});
  for (const std::string& task : values_of(store, "task")) {  // name:key=value,…
    const std::size_t name = std::min(task.find(':'), task.size());
    std::string options = task.substr(std::min(name + 1, task.size()));
    std::replace(options.begin(), options.end(), ',', ' ');
    charts.push_back({.title = "Right answers: " + task.substr(0, name),
                      .note = options + (options.empty() ? "after " : ", after ") + steps_of(store, "task"),
                      .x_label = "accuracy on fresh samples",
                      .y_unit = Unit::share,
                      .bars = true,
                      .series = accuracies(store, task)});
  }
  std::erase_if(charts, [](const Chart& chart) {
    for (const Series& s : chart.series)
      if (!s.points.empty()) return false;
    return true;
  });
  return charts;
}

std::string figures_picture(const Store& store) {
  constexpr double kWidth = 560, kHeight = 330, kGap = 26;
  std::string body;
  const std::vector<Chart> charts = make_figures(store);
  for (std::size_t i = 0; i < charts.size(); ++i)
    body += fmt::format("<g transform=\"translate({:.0f} {:.0f})\">{}</g>\n",
                        kGap + static_cast<double>(i % 2) * (kWidth + kGap),
                        kGap + static_cast<double>(i / 2) * (kHeight + kGap), draw(charts[i], kWidth, kHeight));
  const auto rows = static_cast<double>((charts.size() + 1) / 2);
  return picture(2 * kWidth + 3 * kGap, rows * (kHeight + kGap) + kGap, "comparison of mixers", body, true);
}

}  // namespace sq::compare
