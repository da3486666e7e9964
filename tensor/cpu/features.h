// tensor/cpu/features.h: what the processor can do.
#pragma once

#include <cstdint>
#include <string>

namespace sq::cpu {

struct CpuFeatures {
  std::string name;                                       // as the operating system calls it
  int logical_cores = 1, physical_cores = 1;              // those this process may run on
  std::int64_t l1_bytes = 0, l2_bytes = 0, l3_bytes = 0;  // data caches as one core sees them; 0 when unknown
};

/// Read once, at the first call.
const CpuFeatures& cpu_features();

/// The vector instructions that our kernels use on this CPU: "SSE4", "AVX2", "AVX-512", "NEON", …
std::string simd_name();
/// Width of a vector in bits.
int simd_bits();

}  // namespace sq::cpu
