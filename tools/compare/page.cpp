#include "tools/compare/page.h"

#include "tools/compare/figures.h"
#include "tools/compare/svg.h"

#include <algorithm>
#include <set>

namespace sq::compare {
namespace {

using Cells = std::vector<std::string>;  // HTML

constexpr std::string_view kPageStyle =
    "body{margin:0 auto;padding:24px;max-width:1240px;font:15px/1.5 system-ui,'Segoe UI',sans-serif;background:#fff;"
    "color:#1b1f24}h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}p{margin:6px 0;max-width:80ch}"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:20px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}"
    "th,td{padding:4px 10px;border-bottom:1px solid #e4e7eb;text-align:right;white-space:nowrap}"
    "th{color:#59636e;font-weight:600}th:first-child,td:first-child{text-align:left}"
    "code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}.bad{color:#c22f4b;font-weight:600}"
    ".note{color:#59636e}svg.key{width:12px;height:12px;margin-right:6px;vertical-align:-1px}"
    "@media (prefers-color-scheme:dark){body{background:#14181d;color:#e8ebee}th,.note{color:#a3adb8}"
    "th,td{border-color:#2b323a}.bad{color:#ff7b8d}}";

std::string table(const Cells& head, const std::vector<Cells>& rows) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : head) out += "<th>" + cell + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const Cells& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + cell + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string name_cell(std::size_t contender, const std::string& name) {
  return "<svg class=\"key\" viewBox=\"0 0 12 12\">" + marker(contender, 6, 6, 4) + "</svg>" + escaped(name);
}

std::string cell(const std::optional<double>& value, Unit unit) { return value ? written(*value, unit) : "–"; }

/// What a record says instead of a number.
std::string excuse(const Json* record) {
  if (!record) return "–";
  if (record->contains("failed"))
    return "<span class=\"bad\">failed: " + escaped((*record)["failed"].get<std::string>()) + "</span>";
  if (record->contains("skipped")) return "<span class=\"note\">cannot decode</span>";
  return "";
}

std::string growth_cell(const std::optional<Growth>& fit) {
  if (!fit) return "<span class=\"note\">too few points</span>";
  return fmt::format("N<sup>{:.2f}</sup> ± {:.2f}<br><span class=\"note\">R² {:.3f}, {} points</span>", fit->exponent,
                     fit->error, fit->r_squared, fit->points);
}

std::string causality_cell(const Json* record) {
  if (const std::string text = excuse(record); !text.empty()) return text;
  const double moved = number(record, "moved").value_or(0), pairs = number(record, "pairs").value_or(0);
  if (moved == 0) return fmt::format("causal<br><span class=\"note\">0 of {:.0f}</span>", pairs);
  return fmt::format("<span class=\"bad\">{:.0f} of {:.0f} leak, by up to {:.2g}</span>", moved, pairs,
                     number(record, "max_change").value_or(0));
}

std::string steps_cell(const Json* record) {
  if (const std::string text = excuse(record); !text.empty()) return text;
  const std::string error = fmt::format("{:.1e}", number(record, "relative_error").value_or(0));
  return record->value("equal", false) ? error : "<span class=\"bad\">" + error + "</span>";
}

std::string summary_table(const Store& store) {
  Cells head{"mixer",        "parameters", "feed-forward", "causality",      "steps = forward",
             "forward time", "step time",  "decode time",  "forward memory", "step memory"};
  const std::vector<std::string> tasks = values_of(store, "task"), mixers = values_of(store, "mixer");
  const bool text = std::any_of(store.records().begin(), store.records().end(),
                                [](const Json& record) { return key_of(record).work == "text"; });
  if (text) head.push_back("loss");
  for (const std::string& task : tasks) head.push_back(escaped(task));
  std::vector<Cells> rows;
  for (std::size_t i = 0; i < mixers.size(); ++i) {
    const std::string& mixer = mixers[i];
    const Json* model = store.find({mixer, "model"});
    Cells row{name_cell(i, mixer)};
    row.push_back(cell(number(model, "parameters"), Unit::tokens) +
                  fmt::format("<br><span class=\"note\">{:+.1f} %</span>", 100 * number(model, "excess").value_or(0)));
    row.push_back(cell(number(model, "feed_forward_width"), Unit::tokens));
    row.push_back(causality_cell(store.find({mixer, "causality"})));
    row.push_back(steps_cell(store.find({mixer, "step_equals_forward"})));
    for (const GrowthKind& kind : kGrowths) row.push_back(growth_cell(growth(store, mixer, kind)));
    if (text) row.push_back(cell(number(store.find({mixer, "text"}), "val_loss"), Unit::nats));
    for (const std::string& task : tasks) {
      const Json* record = store.find({mixer, "task", 0, task});
      const auto accuracy = number(record, "accuracy");
      row.push_back(accuracy ? fmt::format("{:.1f} %", 100 * *accuracy) : excuse(record));
    }
    rows.push_back(std::move(row));
  }
  return table(head, rows);
}

std::string time_cell(const Json* record) {
  if (const std::string text = excuse(record); !text.empty()) return text;
  const auto ms = [&](const char* key) { return cell(number(record, key), Unit::milliseconds); };
  return fmt::format("{} <span class=\"note\">{} – {}</span>", ms("ms"), ms("min_ms"), ms("max_ms"));
}

std::string details_table(const Store& store) {
  const std::vector<std::string> mixers = values_of(store, "mixer");
  std::set<std::int64_t> lengths;
  for (const Json& record : store.records())
    if (const std::int64_t n = key_of(record).n; n > 0) lengths.insert(n);
  std::vector<Cells> rows;
  for (const std::int64_t n : lengths)
    for (std::size_t i = 0; i < mixers.size(); ++i) {
      const Json *forward = store.find({mixers[i], "forward", n}), *step = store.find({mixers[i], "train_step", n}),
                 *decode = store.find({mixers[i], "decode", n});
      if (!forward && !step && !decode) continue;
      const auto flops = number(forward, "flops"), mixer_flops = number(forward, "mixer_flops");
      const auto giga = [](const std::optional<double>& f) { return f ? fmt::format("{:.4g}", *f * 1e-9) : "–"; };
      rows.push_back({name_cell(i, mixers[i]), fmt::format("{}", n), time_cell(forward), time_cell(step),
                      time_cell(decode), cell(number(forward, "peak_bytes"), Unit::bytes),
                      cell(number(step, "peak_bytes"), Unit::bytes), cell(number(decode, "state_bytes"), Unit::bytes),
                      cell(number(forward, "state_bytes"), Unit::bytes), giga(flops), giga(mixer_flops)});
    }
  return table({"mixer", "N", "forward", "training step", "decode, per token", "forward memory", "step memory",
                "state held", "state announced", "GFLOP forward", "GFLOP of mixers"},
               rows);
}

std::string settings_lines(const Store& store) {
  const Json& s = store.settings();
  const auto text = [&](const char* key) {
    const auto found = s.find(key);
    return found == s.end() ? "?" : escaped(found->is_string() ? found->get<std::string>() : found->dump());
  };
  std::string out = fmt::format(
      "<p>Width {}, {} layers, {} heads, {} sequence(s) at a time, {}. Measured on {}: {} threads, {}, device "
      "{}.</p>\n",
      text("hidden_size"), text("layers"), text("heads"), text("batch_size"), text("dtype"), text("cpu"),
      text("threads"), text("simd"), text("device"));
  for (const std::string& command : store.commands()) out += "<p><code>" + escaped(command) + "</code></p>\n";
  return out;
}

constexpr std::string_view kNotes =
    "<p>Every contender is the same small language model around another mixer. The feed-forward is as wide as makes "
    "the "
    "number of parameters meet that of 4·C² in each mixer; the percentage says how far it is off.</p>"
    "<p>Times are medians, smallest and largest behind them. Memory is the most bytes of tensors at once beyond those "
    "that were there before. Growth is a line through logarithms over the longer half of the lengths, at least three. "
    "Causality: tokens are changed and outputs before them compared bit by bit. Steps = forward: the largest "
    "difference "
    "of logits, read whole or token by token, over the largest logit. Accuracies are over samples never trained "
    "on.</p>\n";

}  // namespace

std::string report_page(const Store& store) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta name=\"color-scheme\" content=\"light dark\"><title>Comparison of mixers</title>\n<style>";
  out += kPageStyle;
  out += style_rules() + "</style></head><body>\n<h1>Comparison of mixers</h1>\n" + settings_lines(store);
  out += "<h2>Summary</h2>\n" + summary_table(store) + std::string(kNotes) + "<div class=\"figures\">\n";
  for (const Chart& chart : make_figures(store))
    out += picture(560, 330, chart.title, draw(chart, 560, 330), false) + "\n";
  return out + "</div>\n<h2>All lengths</h2>\n" + details_table(store) + "</body></html>\n";
}

}  // namespace sq::compare
