// How to multiply matrices at the speed of the arithmetic units (the scheme of Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", ACM TOMS 2008).
//
// A product of two n×n matrices does 2n³ operations on 3n² numbers: each number is used n times, and the whole art is
// to use it often while it is close. From the inside out:
//   registers   A tile of C, 12×32 floats with AVX-512, is summed in registers (gemm_kernels.cpp).
//   L1 cache    The tile needs a panel of B, `depth` × 32. The same panel serves all tiles of its columns, one after
//               the other, so the depth is cut into blocks of at most kDepth to let the panel stay in L1.
//   L2 cache    A task computes one block of C, some hundred rows and columns, depth block after depth block. The part
//               of B for it is copied once into panels ("packed") and lies in L2 with the part of A.
//   cores       The blocks of C are shared among the threads. No two threads write the same element.
// Each element of C is summed over p = 0 … k−1 in order, in one register per depth block, whatever the shape of the
// blocks; the depth blocks depend on k alone. That is why the bits do not depend on the number of threads although the
// shape of the blocks does.

#include "tensor/cpu/gemm_kernels.h"
#include "tensor/cpu/gemm_paths.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/threads.h"

#include <algorithm>

namespace sq::cpu {
namespace {

constexpr std::int64_t kDepth = 256;           // 256 × 32 floats of B are 32 KiB
constexpr std::int64_t kRows = 120;            // 120 × 256 floats of A are 120 KiB
constexpr std::int64_t kColumns = 1024;        // 256 × 1024 floats of B are 1 MiB
constexpr std::int64_t kFewRows = 2 * kRows;   // up to here a task takes all rows
constexpr std::int64_t kFewColumns = 128;      // up to here A need not be packed
constexpr std::int64_t kSmallB = 1 << 16;      // elements that B may span to be used in place
constexpr std::int64_t kWorthATask = 1 << 17;  // multiply-adds; about a microsecond

/// Cuts `extent` into equal blocks of at most `limit`, in units of `unit`; gives their size.
std::int64_t even_blocks(std::int64_t extent, std::int64_t limit, std::int64_t unit) {
  return divide_up(divide_up(extent, divide_up(extent, limit)), unit) * unit;
}

/// Working memory: packed A of the running thread, packed B of the running thread or of all threads of a product.
template <class T>
struct GemmScratch {
  Scratch<T> a, b, shared_b;
};
template <class T>
GemmScratch<T>& gemm_scratch() {
  thread_local GemmScratch<T> scratch;
  return scratch;
}

/// Packs rows [depth, depth + count) × columns [first, first + columns) of op(B).
template <class T, class A, class B>
void pack_b(const GemmArguments<T, A, B>& g, std::int64_t depth, std::int64_t count, std::int64_t first,
            std::int64_t columns, std::int64_t panel_width, T* target) {
  const PackKernels<T, B> pack = pack_kernels<T, B>();
  if (g.transpose_b == Transpose::yes)
    pack.panels_transposed(g.b + first * g.ldb + depth, g.ldb, columns, count, panel_width, target);
  else
    pack.panels(g.b + depth * g.ldb + first, g.ldb, columns, count, panel_width, target);
}

/// Where the block kernel finds a part of B: panels of tile_columns columns, see GemmBlock.
template <class T>
struct PanelsOfB {
  const T* data;
  std::int64_t panel, step;
};

/// Points `block` to its rows of A where they lie, when that is as good as a packed copy: the copy would be used for
/// few columns only, and walking down a transposed A does not hit the same few lines of the L1 cache again and again.
template <class T, class A, class B>
bool use_a_in_place(GemmBlock<T>& block, const GemmArguments<T, A, B>& g, const A* a, std::int64_t tile_rows) {
  if constexpr (std::is_same_v<A, T>) {
    const bool transposed = g.transpose_a == Transpose::yes;
    if (block.columns > kFewColumns) return false;
    if (transposed && g.lda * static_cast<std::int64_t>(sizeof(T)) % 2048 == 0) return false;
    block.a = a;
    block.a_row = transposed ? 1 : g.lda;
    block.a_step = transposed ? g.lda : 1;
    block.a_panel = tile_rows * block.a_row;
    return true;
  }
  return false;
}

/// Multiplies rows [row, row + rows) of op(A) with columns [column, column + columns) of op(B), which `b` holds, for
/// the depth block [depth, depth + count): the rows in groups whose part of A fits the L2 cache.
template <class T, class A, class B>
void multiply_rows(const GemmArguments<T, A, B>& g, const GemmKernels<T>& kernels, std::int64_t row, std::int64_t rows,
                   std::int64_t column, std::int64_t columns, std::int64_t depth, std::int64_t count, PanelsOfB<T> b) {
  const PackKernels<T, A> pack = pack_kernels<T, A>();
  const bool transposed = g.transpose_a == Transpose::yes;
  GemmBlock<T> block;
  block.columns = columns;
  block.depth = count;
  block.b = b.data;
  block.b_step = b.step;
  block.b_panel = b.panel;
  block.ldc = g.ldc;
  block.alpha = g.alpha;
  block.beta = depth == 0 ? g.beta : T(1);  // the first depth block replaces or scales C, the others add to it
  block.bias = depth == 0 && g.bias != nullptr ? g.bias + column : nullptr;
  const std::int64_t step = even_blocks(rows, kRows, kernels.tile_rows);
  for (std::int64_t i = row; i < row + rows; i += step) {
    block.rows = std::min(step, row + rows - i);
    block.c = g.c + i * g.ldc + column;
    const A* a = transposed ? g.a + depth * g.lda + i : g.a + i * g.lda + depth;
    if (!use_a_in_place(block, g, a, kernels.tile_rows)) {
      T* packed = gemm_scratch<T>().a.get(step * count);
      (transposed ? pack.panels : pack.panels_transposed)(a, g.lda, block.rows, count, kernels.tile_rows, packed);
      block.a = packed;
      block.a_row = 1;
      block.a_step = kernels.tile_rows;
      block.a_panel = kernels.tile_rows * count;
    }
    kernels.multiply(block);
  }
}

/// Columns [column, column + width) of one product, by one thread.
template <class T, class A, class B>
void multiply_columns(const GemmArguments<T, A, B>& g, const GemmKernels<T>& kernels, std::int64_t column,
                      std::int64_t width, std::int64_t depth, T* packed_b) {
  for (std::int64_t p = 0; p < g.k; p += depth) {
    const std::int64_t count = std::min(depth, g.k - p);
    std::int64_t in_place = 0;  // columns of a small B that are read where they lie: whole vectors only
    if constexpr (std::is_same_v<B, T>) {
      if (g.transpose_b == Transpose::no && g.m <= kRows && count * g.ldb <= kSmallB) {
        in_place = width / kernels.lanes * kernels.lanes;
        multiply_rows(g, kernels, 0, g.m, column, in_place, p, count,
                      {g.b + p * g.ldb + column, kernels.tile_columns, g.ldb});
      }
    }
    if (in_place == width) continue;
    pack_b(g, p, count, column + in_place, width - in_place, kernels.tile_columns, packed_b);
    multiply_rows(g, kernels, 0, g.m, column + in_place, width - in_place, p, count,
                  {packed_b, kernels.tile_columns * count, kernels.tile_columns});
  }
}

/// Few rows, perhaps many matrices: a task takes all rows of some columns and packs the part of B that it alone needs.
template <class T, class A, class B>
void multiply_by_columns(const GemmArguments<T, A, B>& g, const GemmKernels<T>& kernels) {
  const std::int64_t matrices = g.batch.count * g.outer_batch.count;
  const std::int64_t wanted = divide_up(4 * thread_count(), matrices);  // tasks for one matrix
  const std::int64_t least = divide_up(kWorthATask, g.m * g.k);
  const std::int64_t limit = std::min(kColumns, std::max(least, divide_up(g.n, wanted)));
  const std::int64_t columns = even_blocks(g.n, std::max(limit, kernels.tile_columns), kernels.tile_columns);
  const std::int64_t depth = even_blocks(g.k, kDepth, 2);
  const std::int64_t tasks = divide_up(g.n, columns);
  const std::int64_t grain = std::max<std::int64_t>(1, kWorthATask / (g.m * g.k * std::min(columns, g.n)));
  parallel_for(matrices * tasks, grain, [&](std::int64_t first, std::int64_t last) {
    T* packed_b = gemm_scratch<T>().b.get(columns * depth);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t column = task % tasks * columns;
      multiply_columns(one_matrix(g, task / tasks), kernels, column, std::min(columns, g.n - column), depth, packed_b);
    }
  });
}

/// Many rows: the threads pack a part of B together, then share the blocks of C that need it.
template <class T, class A, class B>
void multiply_by_blocks(const GemmArguments<T, A, B>& g, const GemmKernels<T>& kernels) {
  const std::int64_t threads = thread_count();
  const std::int64_t chunk = even_blocks(g.n, kColumns * std::max<std::int64_t>(1, threads / 4), kernels.tile_columns);
  const std::int64_t depth = even_blocks(g.k, kDepth, 2);
  const std::int64_t even_share = std::clamp(divide_up(g.m, 4 * threads), 4 * kernels.tile_rows, kRows);
  const std::int64_t rows = even_blocks(g.m, even_share, kernels.tile_rows), row_blocks = divide_up(g.m, rows);
  const std::int64_t pack_grain = kernels.tile_columns;
  T* packed_b = gemm_scratch<T>().shared_b.get(chunk * depth);
  for (std::int64_t column = 0; column < g.n; column += chunk) {
    const std::int64_t width = std::min(chunk, g.n - column);
    const std::int64_t limit = std::max(divide_up(width, divide_up(4 * threads, row_blocks)), 4 * kernels.tile_columns);
    const std::int64_t columns = even_blocks(width, std::min(limit, kColumns), kernels.tile_columns);
    const std::int64_t column_blocks = divide_up(width, columns);
    for (std::int64_t p = 0; p < g.k; p += depth) {
      const std::int64_t count = std::min(depth, g.k - p);
      parallel_for(width, pack_grain, [&](std::int64_t first, std::int64_t last) {
        pack_b(g, p, count, column + first, last - first, kernels.tile_columns, packed_b + first * count);
      });
      parallel_for(row_blocks * column_blocks, 1, [&](std::int64_t task, std::int64_t) {
        const std::int64_t i = task / column_blocks * rows, j = task % column_blocks * columns;
        multiply_rows(g, kernels, i, std::min(rows, g.m - i), column + j, std::min(columns, width - j), p, count,
                      {packed_b + j * count, kernels.tile_columns * count, kernels.tile_columns});
      });
    }
  }
}

}  // namespace

template <class T, class A, class B>
void gemm_blocked(const GemmArguments<T, A, B>& g) {
  const GemmKernels<T> kernels = gemm_kernels<T>();
  if (g.m <= kFewRows) return multiply_by_columns(g, kernels);
  for (std::int64_t i = 0; i < g.batch.count * g.outer_batch.count; ++i) multiply_by_blocks(one_matrix(g, i), kernels);
}

template void gemm_blocked(const GemmArguments<double, double, double>&);
template void gemm_blocked(const GemmArguments<float, float, float>&);
template void gemm_blocked(const GemmArguments<float, float, bf16>&);
template void gemm_blocked(const GemmArguments<float, float, f16>&);
template void gemm_blocked(const GemmArguments<float, bf16, float>&);
template void gemm_blocked(const GemmArguments<float, bf16, bf16>&);
template void gemm_blocked(const GemmArguments<float, bf16, f16>&);
template void gemm_blocked(const GemmArguments<float, f16, float>&);
template void gemm_blocked(const GemmArguments<float, f16, bf16>&);
template void gemm_blocked(const GemmArguments<float, f16, f16>&);

}  // namespace sq::cpu
