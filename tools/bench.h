// tools/bench.h: what all benchmarks share: timing, and one form of result.
#pragma once

#include "tensor/profiler.h"
#include "tools/cli.h"

#include <chrono>
#include <vector>

namespace sq::cli {

struct BenchOptions {
  Common common;
  std::int64_t runs = 10;
  std::int64_t warmup = 2;

  /// Throws UsageError unless runs >= 1 and warmup >= 0.
  void apply(const CLI::App& command);
};

void add_bench_flags(CLI::App& command, BenchOptions& options);

/// Milliseconds of single runs.
struct Timing {
  double median = 0, min = 0, max = 0;
};

/// Throws Error when there are none.
Timing summarise(std::vector<double> milliseconds);

/// Waits until the device that tensors are made on has done all it was given.
void wait_for_device();

/// Runs `work` warmup times, then runs times with the clock on, each to the end on the device.
template <class Function>
Timing measure(const BenchOptions& options, Function&& work) {
  for (std::int64_t i = 0; i < options.warmup; ++i) work();
  wait_for_device();
  std::vector<double> times;
  for (std::int64_t i = 0; i < options.runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    wait_for_device();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return summarise(std::move(times));
}

/// {"work", "ms", "min_ms", "max_ms", "gflops", "gbytes_per_s", "share_of_peak", "threads" or "device", …sizes}.
/// share_of_peak is the larger of the shares of the measured GEMM rate and the measured copy rate, whichever binds.
Json bench_result(const BenchOptions& options, const std::string& name, const Timing& timing, const Work& work,
                  const Json& sizes);
/// One line: JSON, or text for people.
void print_result(const BenchOptions& options, const Json& result);

/// The two measured ceilings, measured once: of this machine with the threads in use, in f32, or of the GPU that
/// tensors are made on, for products in `dtype`.
double peak_gflops(DType dtype);
double peak_gbytes_per_s();

// One benchmark each: bench_NAME.cpp.
void add_bench_gemm(CLI::App& bench);
void add_bench_ops(CLI::App& bench);
void add_bench_attention(CLI::App& bench);
void add_bench_train(CLI::App& bench);
void add_bench_decode(CLI::App& bench);

}  // namespace sq::cli
