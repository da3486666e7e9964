// tensor/cpu/threads.h: the one way in which kernels use several cores.
#pragma once

#include "tensor/cpu/denormals.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace sq::cpu {

/// Threads used by kernels: the physical cores this process may run on, unless set.
int thread_count();
/// Throws Error when count < 1.
void set_thread_count(int count);
/// Physical cores available to this process (hyper-threads of one core count once).
int physical_core_count();

/// Number of blocks that parallel_for makes, for arrays of partial results.
constexpr std::int64_t block_count(std::int64_t count, std::int64_t grain) {
  grain = std::max<std::int64_t>(grain, 1);
  return count <= 0 ? 0 : (count + grain - 1) / grain;
}

namespace detail {
/// True on a thread that is inside a parallel_for body or a block of run_blocks.
bool in_parallel_loop();
/// Calls block(context, i) for i in [0, blocks), shared among the calling thread and the workers (see threads.cpp).
void run_blocks(std::int64_t blocks, int threads, void (*block)(void* context, std::int64_t index), void* context);
}  // namespace detail

/// Calls body(begin, end) for the blocks [0,grain), [grain,2·grain), … of [0,count). The blocks depend on `count` and
/// `grain` only, never on the number of threads, so sums formed per block and added in block order always give the same
/// bits. Denormals are flushed to zero inside. Calls made from inside a body run on the calling thread.
/// When bodies throw, the exception of the first failing block arrives here, and later blocks may not have run.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, Body&& body) {
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t blocks = block_count(count, grain);
  const int threads = static_cast<int>(std::min<std::int64_t>(thread_count(), blocks));
  const auto run = [&](std::int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); };
  if (threads <= 1 || detail::in_parallel_loop()) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < blocks; ++i) run(i);
    return;
  }
  detail::run_blocks(
      blocks, threads, [](void* context, std::int64_t i) { (*static_cast<decltype(&run)>(context))(i); },
      const_cast<void*>(static_cast<const void*>(&run)));
}

}  // namespace sq::cpu
