// subquad bench: how fast the parts run here. A result is checked before it is timed.
#include "tools/bench.h"

#include "autograd/grad_mode.h"
#include "ops/matmul.h"
#include "tensor/cpu/measure.h"
#include "tensor/cpu/threads.h"
#include "tensor/cuda/build.h"
#include "tensor/cuda/context.h"
#include "tensor/memory.h"
#include "tensor/random.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace sq::cli {

void BenchOptions::apply(const CLI::App& command) {
  common.apply(command);
  require_input(runs >= 1, "--runs", "{} is not a number of runs; use 1 or more", runs);
  require_input(warmup >= 0, "--warmup", "{} is negative", warmup);
}

void add_bench_flags(CLI::App& command, BenchOptions& options) {
  command.add_option("--runs", options.runs, "timed runs; the median is reported")->capture_default_str();
  command.add_option("--warmup", options.warmup, "runs before that")->capture_default_str();
  add_common(command, options.common);
}

Timing summarise(std::vector<double> milliseconds) {
  require(!milliseconds.empty(), "bench", "there is nothing to summarise");
  std::sort(milliseconds.begin(), milliseconds.end());
  const std::size_t n = milliseconds.size();
  return {(milliseconds[(n - 1) / 2] + milliseconds[n / 2]) / 2, milliseconds.front(), milliseconds.back()};
}

void wait_for_device() {
  if constexpr (cuda::kBuilt)
    if (default_device().is_cuda()) cuda::context(default_device()).synchronize("bench");
}

namespace {

/// Seconds of the fastest of some runs on the GPU that tensors are made on.
template <class Function>
double best_seconds_on_gpu(Function&& work) {
  BenchOptions options;
  options.runs = 12;
  options.warmup = 0;
  return 1e-3 * measure(options, work).min;
}

double measure_peak_gflops(DType dtype) {
  if (default_device().is_cpu()) return cpu::measure_gemm_gflops(1024, 768, 768, 10);
  const NoGrad unrecorded;
  constexpr std::int64_t n = cuda::kEmulated ? 256 : 8192;
  const Tensor a = randn({n, n}, {.dtype = dtype}), b = randn({n, n}, {.dtype = dtype});
  return 2e-9 * std::pow(static_cast<double>(n), 3) / best_seconds_on_gpu([&] { matmul(a, b); });
}

double measure_peak_gbytes_per_s() {
  if (default_device().is_cpu()) return cpu::measure_copy_bandwidth();
  constexpr std::int64_t bytes = std::int64_t{1} << (cuda::kEmulated ? 20 : 30);
  const Tensor from = Tensor::zeros({bytes / 4});
  Tensor to = Tensor::empty_like(from);
  return 2e-9 * static_cast<double>(bytes) / best_seconds_on_gpu([&] { copy_(to, from); });
}

}  // namespace

double peak_gflops(DType dtype) {
  static std::map<DType, double> measured;
  const auto [place, fresh] = measured.try_emplace(dtype);
  if (fresh) place->second = measure_peak_gflops(dtype);
  return place->second;
}

double peak_gbytes_per_s() {
  static const double value = measure_peak_gbytes_per_s();
  return value;
}

Json bench_result(const BenchOptions& options, const std::string& name, const Timing& timing, const Work& work,
                  const Json& sizes) {
  const double seconds = timing.median / 1e3;
  const double gflops = work.flops / seconds / 1e9, gbytes = work.bytes / seconds / 1e9;
  const double peak = peak_gflops(options.common.options().dtype);
  Json result{{"work", name},
              {"ms", timing.median},
              {"min_ms", timing.min},
              {"max_ms", timing.max},
              {"gflops", gflops},
              {"gbytes_per_s", gbytes},
              {"share_of_peak", std::max(gflops / peak, gbytes / peak_gbytes_per_s())}};
  if (default_device().is_cpu())
    result["threads"] = cpu::thread_count();
  else
    result["device"] = sq::name(default_device());
  for (const auto& [key, value] : sizes.items()) result[key] = value;
  return result;
}

void print_result(const BenchOptions& options, const Json& result) {
  if (options.common.json) return print_line(result);
  std::string sizes;
  for (const auto& [key, value] : result.items()) {
    static const std::vector<std::string> shown{"work",   "ms",           "min_ms",       "max_ms",
                                                "gflops", "gbytes_per_s", "share_of_peak"};
    if (std::find(shown.begin(), shown.end(), key) == shown.end())
      sizes += fmt::format(" {}={}", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  fmt::print("{:<28} {:>10.3f} ms ({:.3f} to {:.3f}) {:>8.1f} GFLOP/s {:>7.1f} GB/s {:>4.0f}% of peak {}\n",
             result["work"].get<std::string>(), result["ms"].get<double>(), result["min_ms"].get<double>(),
             result["max_ms"].get<double>(), result["gflops"].get<double>(), result["gbytes_per_s"].get<double>(),
             100 * result["share_of_peak"].get<double>(), sizes);
  std::fflush(stdout);
}

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "time matrix products, operations, attention, training and decoding");
  bench->require_subcommand(1);
  add_bench_gemm(*bench);
  add_bench_ops(*bench);

  add_bench_attention(*bench);
  add_bench_train(*bench);
  add_bench_decode(*bench);
}

}  // namespace sq::cli
