// tests/nn/mixers/contract_cases.h: the mixers that the contract is tested with, and what its tests share.
#pragma once

#include "tests/nn/mixers/mixer_cases.h"

#include <vector>

namespace sq::test {

/// Configurations that can decode, of every mixer of the registry; where contract_cases.cpp names none, its defaults.
std::vector<MixerCase> contract_cases();

template <class Check>
void for_each_case(Check&& check) {
  for (const MixerCase& c : contract_cases()) {
    CAPTURE(c.name());
    check(c);
  }
}

/// Rows begin … end-1 of every sequence, and one sequence of a batch; views.
Tensor positions_of(const Tensor& x, std::int64_t begin, std::int64_t end);
Tensor row_of(const Tensor& x, std::int64_t b);
void fill_nan(const Tensor& x, std::int64_t b, std::int64_t begin, std::int64_t end);
bool same_bits(const Tensor& a, const Tensor& b);

/// The sequence in steps of the given sizes, the last one repeated as needed.
Tensor in_steps(Mixer& mixer, const Tensor& x, const std::vector<std::int64_t>& sizes);
/// How far steps may lie from forward, in `dtype`.
inline double step_tolerance(DType dtype) { return dtype == DType::f64 ? 1e-10 : 2e-5; }

}  // namespace sq::test
