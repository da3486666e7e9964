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

#include "tensor/cpu/gemm_blocked.h"

#include "tensor/cpu/gemm_kernels.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/threads.h"

#include <algorithm>

namespace sq::cpu {
namespace {

constexpr std::int64_t kDepth = 256;                       // 256 × 32 floats are 32 KiB
constexpr std::int64_t kMaxRows = 504, kMaxColumns = 256;  // of a block of C
constexpr std::int64_t kWorthATask = 1 << 17;              // multiply-adds; about a microsecond

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return divide_up(a, b) * b; }

/// The blocks into which one product is cut.
struct Partition {
  std::int64_t rows, columns, depth;              // of a block; the last ones may be smaller
  std::int64_t row_blocks, column_blocks, tasks;  // tasks: over the whole batch
};

/// Blocks are as large as the caches allow, but small enough to occupy the threads evenly.
Partition partition(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t matrices, std::int64_t tile_rows,
                    std::int64_t tile_columns) {
  Partition p;
  p.depth = round_up(divide_up(k, divide_up(k, kDepth)), 16);
  p.rows = std::min(m, kMaxRows);
  p.columns = std::min(n, kMaxColumns);
  const std::int64_t wanted = 4 * thread_count();
  while (matrices * divide_up(m, p.rows) * divide_up(n, p.columns) < wanted &&
         p.rows * p.columns * k >= 2 * kWorthATask) {
    std::int64_t& longer = p.rows >= p.columns ? p.rows : p.columns;
    const std::int64_t tile = p.rows >= p.columns ? tile_rows : tile_columns;
    if (longer <= tile) break;
    longer = divide_up(longer, 2);
  }
  p.rows = round_up(divide_up(m, divide_up(m, p.rows)), tile_rows);
  p.columns = round_up(divide_up(n, divide_up(n, p.columns)), tile_columns);
  p.row_blocks = divide_up(m, p.rows);
  p.column_blocks = divide_up(n, p.columns);
  p.tasks = matrices * p.row_blocks * p.column_blocks;
  return p;
}

template <class T>
struct TaskScratch {
  Scratch<T> a, b;
};
template <class T>
TaskScratch<T>& task_scratch() {
  thread_local TaskScratch<T> scratch;
  return scratch;
}

/// Fills in where the block kernel finds rows [row, row + block.rows) × [depth, depth + block.depth) of op(A).
template <class T, class A, class B>
void place_a(GemmBlock<T>& block, const GemmArguments<T, A, B>& g, const A* a, std::int64_t row, std::int64_t depth,
             std::int64_t tile_rows) {
  const bool transposed = g.transpose_a == Transpose::yes;
  const A* source = transposed ? a + depth * g.lda + row : a + row * g.lda + depth;
  if constexpr (std::is_same_v<A, T>) {
    // The kernel can read A where it lies. A stride that is a multiple of 1 KiB would map the rows of a tile onto a few
    // lines of the L1 cache, so such an A is copied.
    if (block.columns <= 2 * 32 || g.lda * static_cast<std::int64_t>(sizeof(T)) % 1024 != 0) {
      block.a = source;
      block.a_row = transposed ? 1 : g.lda;
      block.a_step = transposed ? g.lda : 1;
      block.a_panel = tile_rows * block.a_row;
      return;
    }
  }
  const PackKernels<T, A> pack = pack_kernels<T, A>();
  if (transposed) {
    T* target = task_scratch<T>().a.get(round_up(block.rows, tile_rows) * block.depth);
    for (std::int64_t i = 0; i < block.rows; i += tile_rows)
      pack.panel(source + i, g.lda, std::min(tile_rows, block.rows - i), block.depth, tile_rows,
                 target + i * block.depth);
    block.a = target;
    block.a_row = 1;
    block.a_step = tile_rows;
    block.a_panel = tile_rows * block.depth;
  } else {
    const std::int64_t stride = round_up(block.depth, 16) + 16;
    T* target = task_scratch<T>().a.get(block.rows * stride);
    pack.rows(source, g.lda, block.rows, block.depth, target, stride);
    block.a = target;
    block.a_row = stride;
    block.a_step = 1;
    block.a_panel = tile_rows * stride;
  }
}

/// The same for rows [depth, depth + block.depth) × columns [column, column + block.columns) of op(B).
template <class T, class A, class B>
void place_b(GemmBlock<T>& block, const GemmArguments<T, A, B>& g, const B* b, std::int64_t depth, std::int64_t column,
             std::int64_t tile_columns) {
  const PackKernels<T, B> pack = pack_kernels<T, B>();
  T* target = task_scratch<T>().b.get(round_up(block.columns, tile_columns) * block.depth);
  block.b = target;
  block.b_step = tile_columns;
  block.b_panel = tile_columns * block.depth;
  for (std::int64_t j = 0; j < block.columns; j += tile_columns) {
    const std::int64_t width = std::min(tile_columns, block.columns - j);
    if (g.transpose_b == Transpose::yes)
      pack.panel_transposed(b + (column + j) * g.ldb + depth, g.ldb, width, block.depth, tile_columns, target);
    else
      pack.panel(b + depth * g.ldb + column + j, g.ldb, width, block.depth, tile_columns, target);
    target += block.b_panel;
  }
}

}  // namespace

template <class T, class A, class B>
void gemm_blocked(const GemmArguments<T, A, B>& g) {
  const GemmKernels<T> kernels = gemm_kernels<T>();
  const Partition part =
      partition(g.m, g.n, g.k, g.batch.count * g.outer_batch.count, kernels.tile_rows, kernels.tile_columns);
  const std::int64_t task_size = std::min(part.rows, g.m) * std::min(part.columns, g.n) * g.k;
  const std::int64_t blocks_per_matrix = part.row_blocks * part.column_blocks;
  parallel_for(
      part.tasks, std::max<std::int64_t>(1, kWorthATask / task_size), [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t task = first; task < last; ++task) {
          const std::int64_t matrix = task / blocks_per_matrix, rest = task % blocks_per_matrix;
          const std::int64_t outer = matrix / g.batch.count, inner = matrix % g.batch.count;
          const std::int64_t row = rest % part.row_blocks * part.rows, column = rest / part.row_blocks * part.columns;
          const A* a = g.a + outer * g.outer_batch.stride_a + inner * g.batch.stride_a;
          const B* b = g.b + outer * g.outer_batch.stride_b + inner * g.batch.stride_b;
          T* c = g.c + outer * g.outer_batch.stride_c + inner * g.batch.stride_c;
          GemmBlock<T> block;
          block.rows = std::min(part.rows, g.m - row);
          block.columns = std::min(part.columns, g.n - column);
          block.c = c + row * g.ldc + column;
          block.ldc = g.ldc;
          block.alpha = g.alpha;
          block.beta = g.beta;
          block.bias = g.bias == nullptr ? nullptr : g.bias + column;
          for (std::int64_t depth = 0; depth < g.k; depth += part.depth) {
            block.depth = std::min(part.depth, g.k - depth);
            place_a(block, g, a, row, depth, kernels.tile_rows);
            place_b(block, g, b, depth, column, kernels.tile_columns);
            kernels.multiply(block);
            block.beta = 1;  // the following depth blocks add to C
            block.bias = nullptr;
          }
        }
      });
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
