#include "tensor/cpu/measure.h"

#include "tensor/cpu/gemm.h"
#include "tensor/cpu/system_memory.h"
#include "tensor/cpu/threads.h"
#include "tensor/error.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

namespace sq::cpu {
namespace {

/// Seconds of the fastest of `runs` calls.
template <class Work>
double best_time(int runs, Work&& work) {
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

/// Memory of the kind that tensors get, filled.
template <class T>
std::unique_ptr<T[], Free> filled(std::int64_t count, T value) {
  std::unique_ptr<T[], Free> memory(reinterpret_cast<T*>(system_memory(static_cast<std::size_t>(count) * sizeof(T))));
  require(memory != nullptr, "measure", "cannot allocate {} values of {} bytes", count, sizeof(T));
  std::fill_n(memory.get(), count, value);
  return memory;
}

}  // namespace

double measure_gemm_gflops(std::int64_t m, std::int64_t n, std::int64_t k, int runs) {
  require(m >= 1 && n >= 1 && k >= 1 && runs >= 1, "measure_gemm", "m {}, n {}, k {} and runs {} must be at least 1", m,
          n, k, runs);
  const auto a = filled(m * k, 0.5f), b = filled(k * n, 0.25f), c = filled(m * n, 0.0f);
  GemmArguments<float> product;
  product.m = m, product.n = n, product.k = k;
  product.a = a.get(), product.lda = k;
  product.b = b.get(), product.ldb = n;
  product.c = c.get(), product.ldc = n;
  gemm(product);  // packing buffers and pages are there afterwards
  const double seconds = best_time(runs, [&] { gemm(product); });
  return 2e-9 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / seconds;
}

double measure_copy_bandwidth(int runs) {
  require(runs >= 1, "measure_copy", "runs {} must be at least 1", runs);
  constexpr std::int64_t kBytes = std::int64_t{256} << 20, kBlock = std::int64_t{1} << 20;
  const auto from = filled<char>(kBytes, 1), to = filled<char>(kBytes, 2);
  const double seconds = best_time(runs, [&] {
    parallel_for(kBytes, kBlock, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(to.get() + begin, from.get() + begin, static_cast<std::size_t>(end - begin));
    });
  });
  return 2e-9 * static_cast<double>(kBytes) / seconds;
}

}  // namespace sq::cpu
