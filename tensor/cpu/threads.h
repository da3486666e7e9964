// tensor/cpu/threads.h: the one way in which kernels use several cores.
#pragma once

#include "tensor/cpu/denormals.h"

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace sq::cpu {

/// Threads used by kernels: the physical cores this process may run on, unless set.
int thread_count();
/// Throws Error when count < 1.
void set_thread_count(int count);
/// Physical cores available to this process (hyper-threads of one core count once).
int physical_core_count();

/// Calls body(begin, end) for the blocks [0,grain), [grain,2·grain), … of [0,count). The blocks depend on `count` and
/// `grain` only, never on the number of threads, so sums formed per block and added in block order always give the same
/// bits. Denormals are flushed to zero inside. Calls made from inside a body run on the calling thread.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, Body&& body) {
  if (count <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t blocks = (count + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<std::int64_t>(thread_count(), blocks));
  if (threads == 1 || omp_in_parallel()) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < blocks; ++i) body(i * grain, std::min(count, (i + 1) * grain));
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel num_threads(threads)
  {
    const FlushDenormals flush;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < blocks; ++i) {
      try {
        body(i * grain, std::min(count, (i + 1) * grain));
      } catch (...) {
#pragma omp critical(subquad_parallel_for)
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// Number of blocks that parallel_for makes, for arrays of partial results.
constexpr std::int64_t block_count(std::int64_t count, std::int64_t grain) { return (count + grain - 1) / grain; }

}  // namespace sq::cpu
