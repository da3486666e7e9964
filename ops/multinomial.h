// ops/multinomial.h
#pragma once

#include "tensor/random.h"

namespace sq {

/// One index per row, drawn with chances proportional to the row: probabilities [B,V] of any float dtype, not negative,
/// not necessarily adding up to 1. Result i64 [B]. Row b takes the first index at which the running sum of the row
/// exceeds u·Σ row, where u in [0,1) has the 53 upper bits of Philox block b of the stream that the call takes from
/// `generator` (inverse of the distribution function); sums in f64. An index of probability 0 is never drawn.
/// Throws Error when a row has no columns, a negative, infinite or NaN entry, or adds up to 0. No gradient.
Tensor multinomial(const Tensor& probabilities, Generator& generator = default_generator());

namespace kernel {

struct Multinomial {
  static constexpr std::string_view name = "multinomial";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    std::uint64_t seed, stream;
    const T* probabilities;  // [rows, columns]
    std::int64_t* index;     // [rows]; -1 for a row that is no distribution
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
