// ops/cpu/reduce.cpp: rows (inner = 1) are reduced in vectors along the row; otherwise tiles of neighbouring columns
// are reduced together, row by row. Long sums are cut into blocks that depend on the shape alone; the partial sums are
// added in block order, in double.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/reduce.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/reduce.h"

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

constexpr std::int64_t kRowBlock = 1 << 12;    // elements of a row that one partial sum covers
constexpr std::int64_t kPiece = 1 << 10;       // elements of a row that are added up in T
constexpr std::int64_t kColumnTile = 1 << 10;  // columns whose running values fit into the first-level cache
constexpr std::int64_t kWork = 1 << 14;        // elements worth handing to a thread

/// Calls body(o, first_column, columns) for all tiles of columns of [outer, extent, inner].
template <class Body>
void for_column_tiles(std::int64_t outer, std::int64_t extent, std::int64_t inner, Body&& body) {
  const std::int64_t tiles = cpu::block_count(inner, kColumnTile);
  const std::int64_t size = std::max<std::int64_t>(1, extent * std::min(inner, kColumnTile));
  cpu::parallel_for(outer * tiles, kWork / size, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % tiles * kColumnTile;
      body(task / tiles, first, std::min(kColumnTile, inner - first));
    }
  });
}

/// Σ x_i. Pieces are added up in double: with vectors of four f32 a chain over a whole block would have 256 additions,
/// which may all round the same way.
template <class T>
T sum_in_pieces(const T* x, std::int64_t count) {
  double total = 0;
  for (std::int64_t i = 0; i < count; i += kPiece)
    total += static_cast<double>(sum(x + i, std::min(kPiece, count - i)));
  return static_cast<T>(total);
}

template <class T>
void sum_rows(const ReduceSum::Arguments<T>& a) {
  if (a.extent <= kRowBlock) {
    cpu::parallel_for(a.outer, kWork / std::max<std::int64_t>(a.extent, 1),
                      [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                        for (std::int64_t o = begin; o < end; ++o) a.y[o] = sum_in_pieces(a.x + o * a.extent, a.extent);
                      });
    return;
  }
  const std::int64_t blocks = cpu::block_count(a.extent, kRowBlock);
  Tensor partial = Tensor::empty({a.outer * blocks}, {.dtype = dtype_of<T>()});
  T* sums = partial.data<T>();
  cpu::parallel_for(a.outer * blocks, 1, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % blocks * kRowBlock;
      sums[task] = sum_in_pieces(a.x + task / blocks * a.extent + first, std::min(kRowBlock, a.extent - first));
    }
  });
  for (std::int64_t o = 0; o < a.outer; ++o) {
    double total = 0;
    for (std::int64_t block = 0; block < blocks; ++block) total += static_cast<double>(sums[o * blocks + block]);
    a.y[o] = static_cast<T>(total);
  }
}

/// y_c ← Σ_r x[r,c] for `columns` neighbouring columns; rows lie `stride` apart.
template <class T>
void sum_tile(const T* HWY_RESTRICT x, std::int64_t rows, std::int64_t stride, std::int64_t columns,
              T* HWY_RESTRICT y) {
  for (std::int64_t c = 0; c < columns; ++c) y[c] = 0;
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    const T *x0 = x + row * stride, *x1 = x0 + stride, *x2 = x1 + stride, *x3 = x2 + stride;
    for (std::int64_t c = 0; c < columns; ++c) y[c] += (x0[c] + x1[c]) + (x2[c] + x3[c]);
  }
  for (; row < rows; ++row)
    for (std::int64_t c = 0; c < columns; ++c) y[c] += x[row * stride + c];
}

template <class T>
void sum_columns(const ReduceSum::Arguments<T>& a) {
  const std::int64_t rows = std::clamp<std::int64_t>(kWork / a.inner, 64, 512);
  const std::int64_t blocks = std::max<std::int64_t>(1, cpu::block_count(a.extent, rows));
  // With several blocks of rows, each makes a row of partial sums.
  Tensor partial = blocks > 1 ? Tensor::empty({a.outer * blocks * a.inner}, {.dtype = dtype_of<T>()}) : Tensor();
  T* sums = blocks > 1 ? partial.data<T>() : a.y;
  for_column_tiles(a.outer * blocks, std::min(rows, a.extent), a.inner,
                   [&](std::int64_t task, std::int64_t first, std::int64_t columns) {
                     const std::int64_t o = task / blocks, row = task % blocks * rows;
                     sum_tile(a.x + (o * a.extent + row) * a.inner + first, std::min(rows, a.extent - row), a.inner,
                              columns, sums + task * a.inner + first);
                   });
  if (blocks == 1) return;
  for_column_tiles(a.outer, blocks, a.inner, [&](std::int64_t o, std::int64_t first, std::int64_t columns) HWY_ATTR {
    double total[kColumnTile] = {};
    for (std::int64_t block = 0; block < blocks; ++block) {
      const T* part = sums + (o * blocks + block) * a.inner + first;
      for (std::int64_t c = 0; c < columns; ++c) total[c] += static_cast<double>(part[c]);
    }
    for (std::int64_t c = 0; c < columns; ++c) a.y[o * a.inner + first + c] = static_cast<T>(total[c]);
  });
}

template <class T>
void reduce_sum(const ReduceSum::Arguments<T>& a) {
  if (a.inner == 1)
    sum_rows(a);
  else if (a.outer * a.inner > 0)
    sum_columns(a);
}

/// The first place of `value`, which is there; of any NaN when it is one.
template <class T>
std::int64_t find(const T* x, std::int64_t count, T value) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto wanted = hn::Set(d, value);
  const bool nan = std::isnan(value);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    if (!hn::AllFalse(d, nan ? hn::IsNaN(v) : hn::Eq(v, wanted))) break;
  }
  while (nan ? !std::isnan(x[i]) : x[i] != value) ++i;
  return i;
}

template <class T>
void arg_max(const ArgMax::Arguments<T>& a) {
  if (a.inner == 1) {
    cpu::parallel_for(a.outer, kWork / std::max<std::int64_t>(a.extent, 1),
                      [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                        for (std::int64_t o = begin; o < end; ++o) {
                          const T* x = a.x + o * a.extent;
                          const std::int64_t place = find(x, a.extent, maximum(x, a.extent));
                          a.index[o] = place;
                          a.y[o] = x[place];
                        }
                      });
    return;
  }
  for_column_tiles(a.outer, a.extent, a.inner, [&](std::int64_t o, std::int64_t first, std::int64_t columns) HWY_ATTR {
    const T* x = a.x + o * a.extent * a.inner + first;
    T* best = a.y + o * a.inner + first;
    std::int64_t* index = a.index + o * a.inner + first;
    for (std::int64_t c = 0; c < columns; ++c) {
      best[c] = x[c];
      index[c] = 0;
    }
    for (std::int64_t row = 1; row < a.extent; ++row)
      for (std::int64_t c = 0; c < columns; ++c) {
        const T value = x[row * a.inner + c];
        const bool better = value > best[c] || (std::isnan(value) && !std::isnan(best[c]));
        best[c] = better ? value : best[c];
        index[c] = better ? row : index[c];
      }
  });
}

template <class T>
void max_backward(const MaxBackward::Arguments<T>& a) {
  for_column_tiles(a.outer, a.extent, a.inner, [&](std::int64_t o, std::int64_t first, std::int64_t columns) HWY_ATTR {
    const std::int64_t* index = a.index + o * a.inner + first;
    const T* dy = a.dy + o * a.inner + first;
    T* dx = a.dx + o * a.extent * a.inner + first;
    for (std::int64_t row = 0; row < a.extent; ++row) std::fill_n(dx + row * a.inner, columns, T(0));
    for (std::int64_t c = 0; c < columns; ++c) dx[index[c] * a.inner + c] = dy[c];
  });
}

template <class T>
T log_sum_exp_row(const T* x, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const T shift = maximum(x, count);
  if (!std::isfinite(shift)) return shift;
  const auto offset = hn::Set(d, shift);
  return shift + std::log(sum_terms<T>(
                     count, [&](std::int64_t i) HWY_ATTR { return exp(d, hn::Sub(hn::LoadU(d, x + i), offset)); },
                     [&](std::int64_t i) HWY_ATTR { return std::exp(x[i] - shift); }));
}

/// The same for `columns` neighbouring columns; rows lie `stride` apart.
template <class T>
void log_sum_exp_tile(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, T* y) {
  using V = Lanes<T>;
  T shift[kColumnTile], total[kColumnTile];
  HWY_ALIGN T terms[kColumnTile];
  std::fill_n(shift, columns, -std::numeric_limits<T>::infinity());
  std::fill_n(total, columns, T(0));
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < columns; ++c) {
      const T value = x[row * stride + c];
      shift[c] = value > shift[c] || std::isnan(value) ? value : shift[c];
    }
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t c = 0; c < columns; ++c) terms[c] = x[row * stride + c] - shift[c];
    map(terms, terms, columns, [](auto v) HWY_ATTR { return exp(V(v)).v; });
    for (std::int64_t c = 0; c < columns; ++c) total[c] += terms[c];
  }
  for (std::int64_t c = 0; c < columns; ++c) y[c] = std::isfinite(shift[c]) ? shift[c] + std::log(total[c]) : shift[c];
}

template <class T>
void log_sum_exp(const LogSumExp::Arguments<T>& a) {
  if (a.inner == 1)
    cpu::parallel_for(a.outer, kWork / 4 / std::max<std::int64_t>(a.extent, 1),
                      [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                        for (std::int64_t o = begin; o < end; ++o)
                          a.y[o] = log_sum_exp_row(a.x + o * a.extent, a.extent);
                      });
  else
    for_column_tiles(a.outer, a.extent, a.inner, [&](std::int64_t o, std::int64_t first, std::int64_t columns) {
      log_sum_exp_tile(a.x + o * a.extent * a.inner + first, a.extent, a.inner, columns, a.y + o * a.inner + first);
    });
}

/// dx = dy·e^(x-y), 0 where y = -∞
template <class T>
void log_sum_exp_backward(const LogSumExpBackward::Arguments<T>& a) {
  using V = Lanes<T>;
  constexpr T nothing = -std::numeric_limits<T>::infinity();
  if (a.inner == 1)
    cpu::parallel_for(a.outer, kWork / 4 / std::max<std::int64_t>(a.extent, 1),
                      [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                        for (std::int64_t o = begin; o < end; ++o) {
                          const T y = a.y[o], dy = a.y[o] == nothing ? T(0) : a.dy[o], shift = y == nothing ? T(0) : y;
                          map(a.x + o * a.extent, a.dx + o * a.extent, a.extent,
                              [&](auto v) HWY_ATTR { return (exp(V(v) - V(shift)) * V(dy)).v; });
                        }
                      });
  else
    for_column_tiles(a.outer, a.extent, a.inner,
                     [&](std::int64_t o, std::int64_t first, std::int64_t columns) HWY_ATTR {
                       const T *y = a.y + o * a.inner + first, *dy = a.dy + o * a.inner + first;
                       for (std::int64_t row = 0; row < a.extent; ++row) {
                         const std::int64_t start = (o * a.extent + row) * a.inner + first;
                         T* dx = a.dx + start;
                         for (std::int64_t c = 0; c < columns; ++c)
                           dx[c] = a.x[start + c] - (y[c] == nothing ? T(0) : y[c]);
                         map(dx, dx, columns, [](auto v) HWY_ATTR { return exp(V(v)).v; });
                         for (std::int64_t c = 0; c < columns; ++c) dx[c] *= y[c] == nothing ? T(0) : dy[c];
                       }
                     });
}

Versions<ReduceSum> reduce_sum_versions() { return {reduce_sum<float>, reduce_sum<double>}; }
Versions<ArgMax> arg_max_versions() { return {arg_max<float>, arg_max<double>}; }
Versions<MaxBackward> max_backward_versions() { return {max_backward<float>, max_backward<double>}; }
Versions<LogSumExp> log_sum_exp_versions() { return {log_sum_exp<float>, log_sum_exp<double>}; }
Versions<LogSumExpBackward> log_sum_exp_backward_versions() {
  return {log_sum_exp_backward<float>, log_sum_exp_backward<double>};
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(reduce_sum_versions);
HWY_EXPORT(arg_max_versions);
HWY_EXPORT(max_backward_versions);
HWY_EXPORT(log_sum_exp_versions);
HWY_EXPORT(log_sum_exp_backward_versions);

template <class T>
void ReduceSum::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(reduce_sum_versions)()(a);
}
template void ReduceSum::cpu(const Arguments<float>&);
template void ReduceSum::cpu(const Arguments<double>&);

template <class T>
void ArgMax::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(arg_max_versions)()(a);
}
template void ArgMax::cpu(const Arguments<float>&);
template void ArgMax::cpu(const Arguments<double>&);

template <class T>
void MaxBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(max_backward_versions)()(a);
}
template void MaxBackward::cpu(const Arguments<float>&);
template void MaxBackward::cpu(const Arguments<double>&);

template <class T>
void LogSumExp::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(log_sum_exp_versions)()(a);
}
template void LogSumExp::cpu(const Arguments<float>&);
template void LogSumExp::cpu(const Arguments<double>&);

template <class T>
void LogSumExpBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(log_sum_exp_backward_versions)()(a);
}
template void LogSumExpBackward::cpu(const Arguments<float>&);
template void LogSumExpBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
