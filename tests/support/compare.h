// tests/support/compare.h: what "equal" means in the tests, in one place.
#pragma once

#include "autograd/gradcheck.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tensor/tensor.h"
#include "tests/support/relative_error.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace sq::test {

/// How far two ways of computing the same values may differ, relative to the largest value: a few roundings of sums of
/// up to some thousand terms.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
      return 2e-5;
    case DType::f16:
      return 4e-3;
    case DType::bf16:
      return 3e-2;
    default:
      return 0;
  }
}

inline void check_close(const Tensor& a, const Tensor& b) {
  INFO("got ", to_string(a));
  INFO("want ", to_string(b));
  CHECK(relative_error(a, b) <= tolerance(a.dtype()));
}

/// A random f64 tensor marked as needing a gradient: an input for gradcheck.
inline Tensor variable(const Shape& shape, std::uint64_t seed = 7) {
  Generator generator(seed);
  Tensor t = randn(shape, {.dtype = DType::f64}, generator);
  set_requires_grad(t);
  return t;
}

inline void check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                            const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
  CHECK(gradcheck(function, inputs, options) == "");
}

/// Turns memory poison on for a scope, so that an element that a kernel forgets is a NaN.
struct Poison {
  Poison() { set_memory_poison(true); }
  ~Poison() { set_memory_poison(false); }
};

}  // namespace sq::test
