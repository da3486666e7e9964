// tensor/cpu/measure.h: the two ceilings of this machine, arithmetic and memory, as measured now.
#pragma once

#include <cstdint>

namespace sq::cpu {

/// 10⁹ floating-point operations per second of one f32 product [m,k]×[k,n] (2·m·n·k operations) with the GEMM and the
/// threads in use: the best of `runs` runs after one to warm up. Throws Error unless all arguments are ≥ 1.
double measure_gemm_gflops(std::int64_t m, std::int64_t n, std::int64_t k, int runs);

/// 10⁹ bytes per second, read and written together, of copying arrays much larger than the caches with the threads in
/// use: the best of `runs` runs. Throws Error unless runs ≥ 1.
double measure_copy_bandwidth(int runs = 5);

}  // namespace sq::cpu
