#include "tools/profile_floors.h"

#include "tensor/cpu/measure.h"

#include <algorithm>

namespace sq::cli {
namespace {

/// The median of field(x) over `all`.
template <class T, class Field>
double median(const std::vector<T>& all, Field&& field) {
  std::vector<double> values;
  for (const T& one : all) values.push_back(field(one));
  return summarise(std::move(values)).median;
}

}  // namespace

void FloorTable::measure_ceilings() {
  ceilings_.push_back({1e9 * cpu::measure_gemm_gflops(1024, 768, 768, 5), 1e9 * cpu::measure_copy_bandwidth(3)});
  if (waiting_.empty()) return;
  const Ceilings &after = ceilings_.back(), &before = ceilings_[ceilings_.size() - 2];
  const Ceilings around{(before.flops + after.flops) / 2, (before.bytes + after.bytes) / 2};
  for (const ProfileEvent& event : waiting_) count(event, around, steps_);
  waiting_.clear();
  ++steps_;
}

void FloorTable::add_step(const Profiler& profiler) { waiting_ = profiler.events(); }

void FloorTable::count(const ProfileEvent& event, const Ceilings& ceilings, std::size_t step) {
  const bool counted = event.work.flops >= 0 || event.work.bytes >= 0;
  if (event.kind != SpanKind::kernel || event.phase.empty() || !counted) return;
  auto kernel = std::find_if(kernels_.begin(), kernels_.end(),
                             [&](const Kernel& k) { return k.phase == event.phase && k.name == event.name; });
  if (kernel == kernels_.end())
    kernel = kernels_.insert(kernel, {.phase = event.phase, .name = event.name, .steps = {}});
  kernel->steps.resize(step + 1);
  Sums& sums = kernel->steps.back();
  const double flop_seconds = std::max(0.0, event.work.flops) / ceilings.flops;
  const double byte_seconds = std::max(0.0, event.work.bytes) / ceilings.bytes;
  ++sums.calls;
  sums.seconds += static_cast<double>(event.end - event.begin) * 1e-9;
  sums.floor += std::max(flop_seconds, byte_seconds);
  sums.flop_seconds += flop_seconds;
  sums.byte_seconds += byte_seconds;
}

Json FloorTable::kernels() const {
  Json result = Json::array();
  for (const Kernel& kernel : kernels_) {
    const Sums& last = kernel.steps.back();
    result.push_back({{"phase", kernel.phase},
                      {"kernel", kernel.name},
                      {"calls", last.calls},
                      {"ms", 1e3 * median(kernel.steps, [](const Sums& s) { return s.seconds; })},
                      {"floor_ms", 1e3 * median(kernel.steps, [](const Sums& s) { return s.floor; })},
                      {"gap", median(kernel.steps, [](const Sums& s) { return s.seconds / s.floor; })},
                      {"binds", last.flop_seconds > last.byte_seconds ? "FLOPs" : "bytes"}});
  }
  return result;
}

Json FloorTable::ceilings() const {
  return {{"gflops", 1e-9 * median(ceilings_, [](const Ceilings& c) { return c.flops; })},
          {"gbytes_per_s", 1e-9 * median(ceilings_, [](const Ceilings& c) { return c.bytes; })}};
}

void FloorTable::print() const {
  fmt::print("{:<10} {:<28} {:>6} {:>10} {:>10} {:>6}  {}\n", "phase", "kernel", "calls", "ms", "floor ms", "gap",
             "binds");
  for (const Json& kernel : kernels())
    fmt::print("{:<10} {:<28} {:>6} {:>10.3f} {:>10.3f} {:>6.2f}  {}\n", kernel["phase"].get<std::string>(),
               kernel["kernel"].get<std::string>(), kernel["calls"].get<std::int64_t>(), kernel["ms"].get<double>(),
               kernel["floor_ms"].get<double>(), kernel["gap"].get<double>(), kernel["binds"].get<std::string>());
  const Json measured = ceilings();
  fmt::print("ceilings, measured around each step: {:.1f} GFLOP/s, {:.1f} GB/s\n", measured["gflops"].get<double>(),
             measured["gbytes_per_s"].get<double>());
}

}  // namespace sq::cli
