// ops/cpu/multinomial.cpp: rows in parallel, each row twice: once for its sum, once up to the drawn index.
#include "ops/multinomial.h"

#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>

namespace sq::kernel {
namespace {

constexpr std::int64_t kWork = 1 << 14;  // elements worth handing to a thread

/// The first index at which the running sum exceeds u·Σ; -1 when the row is no distribution.
template <class T>
std::int64_t draw(const T* p, std::int64_t columns, double u) {
  double total = 0;
  bool valid = true;
  for (std::int64_t c = 0; c < columns; ++c) {
    total += static_cast<double>(p[c]);
    valid &= p[c] >= 0;
  }
  if (!valid || !(total > 0) || !std::isfinite(total)) return -1;
  const double goal = u * total;
  double running = 0;
  std::int64_t last = -1;  // the last index of positive probability: what rounding may leave over belongs to it
  for (std::int64_t c = 0; c < columns; ++c) {
    if (!(p[c] > 0)) continue;
    last = c;
    running += static_cast<double>(p[c]);
    if (running > goal) break;
  }
  return last;
}

}  // namespace

template <class T>
void Multinomial::cpu(const Arguments<T>& a) {
  cpu::parallel_for(a.rows, kWork / std::max<std::int64_t>(a.columns, 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto words = philox(a.seed, a.stream, static_cast<std::uint64_t>(row));
      const std::uint64_t bits = (static_cast<std::uint64_t>(words[1]) << 32) | words[0];
      a.index[row] = draw(a.probabilities + row * a.columns, a.columns, static_cast<double>(bits >> 11) * 0x1p-53);
    }
  });
}
template void Multinomial::cpu(const Arguments<float>&);
template void Multinomial::cpu(const Arguments<double>&);

}  // namespace sq::kernel
