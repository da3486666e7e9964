#include "tensor/profile_report.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <numeric>

namespace sq {
namespace {

double seconds_of(const ProfileEvent& event) { return static_cast<double>(event.end - event.begin) * 1e-9; }

void add(double& sum, double term) { sum = sum < 0 || term < 0 ? Work::kUnknown : sum + term; }

PhaseTotal& phase_total(ProfileReport& report, std::string_view name) {
  const auto found = std::find_if(report.phases.begin(), report.phases.end(),
                                  [&](const PhaseTotal& phase) { return phase.name == name; });
  return found != report.phases.end() ? *found : report.phases.emplace_back(PhaseTotal{.name = name});
}

std::string_view kind_name(SpanKind kind) {
  switch (kind) {
    case SpanKind::phase:
      return "phase";
    case SpanKind::node:
      return "backward of an operation";
    case SpanKind::kernel:
      return "kernel";
  }
  return "";
}

nlohmann::ordered_json rates(const ProfileEvent& event) {
  nlohmann::ordered_json rates = nlohmann::ordered_json::object();
  const double nanoseconds = std::max(1.0, static_cast<double>(event.end - event.begin));
  if (event.work.flops >= 0) rates["GFLOP/s"] = event.work.flops / nanoseconds;
  if (event.work.bytes >= 0) rates["GB/s"] = event.work.bytes / nanoseconds;
  return rates;
}

}  // namespace

double ProfileReport::seconds() const {
  return std::accumulate(phases.begin(), phases.end(), 0.0,
                         [](double sum, const PhaseTotal& phase) { return sum + phase.seconds; });
}

double ProfileReport::kernel_seconds() const {
  return std::accumulate(phases.begin(), phases.end(), 0.0,
                         [](double sum, const PhaseTotal& phase) { return sum + phase.kernel_seconds; });
}

std::int64_t ProfileReport::kernel_calls() const {
  return std::accumulate(kernels.begin(), kernels.end(), std::int64_t{0},
                         [](std::int64_t sum, const KernelTotal& kernel) { return sum + kernel.calls; });
}

ProfileReport summarise(const Profiler& profiler) {
  ProfileReport report;
  std::map<std::pair<std::string_view, std::string_view>, KernelTotal> kernels;
  for (const ProfileEvent& event : profiler.events()) {
    if (event.phase.empty() || event.kind == SpanKind::node) continue;
    PhaseTotal& phase = phase_total(report, event.phase);
    if (event.kind == SpanKind::phase) {
      phase.seconds += seconds_of(event);
      continue;
    }
    phase.kernel_seconds += seconds_of(event);
    KernelTotal& total = kernels[{event.phase, event.name}];
    total.phase = event.phase;
    total.name = event.name;
    ++total.calls;
    total.seconds += seconds_of(event);
    add(total.work.flops, event.work.flops);
    add(total.work.bytes, event.work.bytes);
  }
  for (const PhaseTotal& phase : report.phases) {
    const auto first = report.kernels.size();
    for (const auto& [key, total] : kernels)
      if (key.first == phase.name) report.kernels.push_back(total);
    std::stable_sort(report.kernels.begin() + static_cast<std::ptrdiff_t>(first), report.kernels.end(),
                     [](const KernelTotal& a, const KernelTotal& b) { return a.seconds > b.seconds; });
  }
  return report;
}

std::string chrome_trace(const Profiler& profiler) {
  using Json = nlohmann::ordered_json;
  Json events = Json::array();
  events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", 1}, {"tid", 1}, {"args", {{"name", "subquad"}}}});
  for (const ProfileEvent& event : profiler.events()) {
    Json line{{"ph", "X"},
              {"name", event.name},
              {"cat", kind_name(event.kind)},
              {"pid", 1},
              {"tid", 1},
              {"ts", static_cast<double>(event.begin) * 1e-3},
              {"dur", static_cast<double>(event.end - event.begin) * 1e-3}};
    if (event.kind == SpanKind::kernel) line["args"] = rates(event);
    events.push_back(std::move(line));
  }
  return Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump();
}

}  // namespace sq
