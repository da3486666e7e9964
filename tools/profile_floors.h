// tools/profile_floors.h: every kernel of a step against the least time that the machine's two ceilings allow it.
#pragma once

#include "tensor/profiler.h"
#include "tools/bench.h"

#include <map>

namespace sq::cli {

/// A kernel's floor is max(FLOPs / R, bytes / C), added up over its runs in a step: R is the matrix rate, C the rate of
/// copying 256 MiB. Both move on a shared machine, so they are measured before and after every step, and a step counts
/// with the mean of the two measurements around it. What is reported are medians over the steps.
class FloorTable {
 public:
  /// Measures the ceilings. Once before the first step, and after each.
  void measure_ceilings();
  /// What one step did; `measure_ceilings` must follow.
  void add_step(const Profiler& profiler);

  void print() const;
  /// [{"phase", "kernel", "calls", "ms", "floor_ms", "gap", "binds"}]: kernels whose work is counted, in the order in
  /// which a step first ends them.
  Json kernels() const;
  /// {"gflops", "gbytes_per_s"}: the medians of the ceilings.
  Json ceilings() const;

 private:
  struct Ceilings {
    double flops, bytes;  // a second
  };
  /// One kernel of one phase in one step.
  struct Sums {
    std::int64_t calls = 0;
    double seconds = 0, floor = 0, flop_seconds = 0, byte_seconds = 0;
  };
  struct Kernel {
    std::string_view phase, name;
    std::vector<Sums> steps;
  };

  void count(const ProfileEvent& event, const Ceilings& ceilings, std::size_t step);

  std::vector<Ceilings> ceilings_;
  std::vector<ProfileEvent> waiting_;  // of the step whose second measurement is to come
  std::vector<Kernel> kernels_;
  std::size_t steps_ = 0;
};

}  // namespace sq::cli
