// ops/cpu/versions.h: one kernel source compiled for several instruction sets.
//
// Highway includes a kernel file once per instruction set (SSE4, AVX2, AVX-512 on x86-64), each time in a namespace of
// its own. Such a namespace exports one function per kernel that returns the versions it compiled; at the first call
// Highway picks the best set the processor has. See ops/cpu/rms_norm.cpp for the whole pattern.
#pragma once

#include <type_traits>

namespace sq::kernel {

/// A kernel compiled for f32 and f64.
template <class Kernel>
struct Versions {
  void (*f32)(const typename Kernel::template Arguments<float>&);
  void (*f64)(const typename Kernel::template Arguments<double>&);

  void operator()(const typename Kernel::template Arguments<float>& a) const { f32(a); }
  void operator()(const typename Kernel::template Arguments<double>& a) const { f64(a); }
};

}  // namespace sq::kernel
