// tests/support/threads.h: results must not depend on the number of threads.
#pragma once

#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

namespace sq::test {

/// Runs `compute`, which returns tensors, with 1, 2 and 3 threads and demands the same bits.
inline void check_same_bits_for_any_thread_count(const std::function<std::vector<Tensor>()>& compute) {
  struct Restore {
    int threads = cpu::thread_count();
    ~Restore() { cpu::set_thread_count(threads); }
  } restore;
  cpu::set_thread_count(1);
  const std::vector<Tensor> expected = compute();
  for (const int count : {2, 3}) {
    CAPTURE(count);
    cpu::set_thread_count(count);
    const std::vector<Tensor> results = compute();
    REQUIRE(results.size() == expected.size());
    for (std::size_t i = 0; i < results.size(); ++i) {
      CAPTURE(i);
      CHECK(bit_equal(results[i], expected[i]));
    }
  }
}

}  // namespace sq::test
