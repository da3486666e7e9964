// subquad bench gemm: one matrix product [m,k] x [k,n].
#include "ops/cast.h"
#include "ops/matmul.h"
#include "tensor/cpu/blas.h"
#include "tensor/random.h"
#include "tools/bench.h"

#include <cmath>

namespace sq::cli {
namespace {

/// Compares a few elements with sums in f64.
void check_product(const Tensor& a, const Tensor& b, const Tensor& c) {
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  const auto x = a.to_vector<double>(), y = b.to_vector<double>(), z = c.to_vector<double>();
  for (std::uint64_t sample = 0; sample < 16; ++sample) {
    const auto i = random_below(1, 0, sample, static_cast<std::uint64_t>(m)),
               j = random_below(1, 1, sample, static_cast<std::uint64_t>(n));
    double sum = 0, scale = 1;
    for (std::size_t p = 0; p < static_cast<std::size_t>(k); ++p) {
      const double term = x[i * static_cast<std::size_t>(k) + p] * y[p * static_cast<std::size_t>(n) + j];
      sum += term;
      scale += std::abs(term);
    }
    const double got = z[i * static_cast<std::size_t>(n) + j];
    require(std::abs(got - sum) <= 1e-2 * scale, "bench gemm", "element ({},{}) is {} instead of {}", i, j, got, sum);
  }
}

}  // namespace

void add_bench_gemm(CLI::App& bench) {
  struct Options {
    BenchOptions bench;
    std::int64_t m = 1024, n = 768, k = 768;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("gemm", "a matrix product [m,k] x [k,n]");
  command->add_option("--m", o->m, "rows")->capture_default_str();
  command->add_option("--n", o->n, "columns")->capture_default_str();
  command->add_option("--k", o->k, "inner size")->capture_default_str();
  add_bench_flags(*command, o->bench);
  command->callback([o, command] {
    o->bench.apply(*command);
    require_input(o->m >= 1 && o->n >= 1 && o->k >= 1, "bench gemm", "sizes {} x {} x {} must be at least 1", o->m,
                  o->n, o->k);
    const TensorOptions options = o->bench.common.options();
    const Tensor a = randn({o->m, o->k}, options), b = randn({o->k, o->n}, options);
    check_product(a, b, matmul(a, b));
    const Timing timing = measure(o->bench, [&] { matmul(a, b); });
    const auto m = static_cast<double>(o->m), n = static_cast<double>(o->n), k = static_cast<double>(o->k);
    const Work work{.flops = 2 * m * n * k,
                    .bytes = static_cast<double>(item_size(a.dtype())) * (m * k + k * n + m * n)};
    print_result(o->bench, bench_result(o->bench, "gemm", timing, work,
                                        {{"m", o->m},
                                         {"n", o->n},
                                         {"k", o->k},
                                         {"dtype", name(a.dtype())},
                                         {"backend", cpu::name(cpu::gemm_backend(o->m * o->n * o->k))}}));
  });
}

}  // namespace sq::cli
