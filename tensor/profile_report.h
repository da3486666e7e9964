// tensor/profile_report.h: what a Profiler saw, as a table and as a trace.
#pragma once

#include "tensor/profiler.h"

#include <filesystem>
#include <string>
#include <vector>

namespace sq {

/// All runs of the kernels of one name in one phase.
struct KernelTotal {
  std::string_view phase, name;
  std::int64_t calls = 0;
  double seconds = 0;
  Work work = {0, 0};  // of all runs; kUnknown when that of any is unknown
};

struct PhaseTotal {
  std::string_view name;
  double seconds = 0;
  double kernel_seconds = 0;
};

struct ProfileReport {
  std::vector<PhaseTotal> phases;    // in order of first end
  std::vector<KernelTotal> kernels;  // by phase, the longest first; what ran in no phase is left out

  /// Of all phases.
  double seconds() const;
  double kernel_seconds() const;
  std::int64_t kernel_calls() const;
};

ProfileReport summarise(const Profiler& profiler);

/// The events in the format of Chrome's trace viewer, which https://ui.perfetto.dev opens too: one complete event
/// ("ph": "X") for each span, times in microseconds, with GFLOP/s and GB/s of kernels where known.
std::string chrome_trace(const Profiler& profiler);

}  // namespace sq
