#include "ops/matmul.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/half_linear.h"
#include "ops/reduce.h"
#include "ops/sum_dtype.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {

template <class T>
Work kernel::MatrixProduct::work(const Arguments<T>& a) {
  double products = 1, as = 1, bs = 1;  // a matrix that a level repeats is one
  for (int i = 0; i < a.level_count; ++i) {
    const Level& level = a.levels[static_cast<std::size_t>(i)];
    const auto count = static_cast<double>(level.count);
    products *= count;
    if (level.stride_a != 0) as *= count;
    if (level.stride_b != 0) bs *= count;
  }
  const auto m = static_cast<double>(a.m), n = static_cast<double>(a.n), k = static_cast<double>(a.k);
  return {.flops = 2 * products * m * n * k,
          .bytes = sizeof(T) * (as * m * k + bs * k * n) + (a.c ? sizeof(*a.c) : sizeof(T)) * products * m * n};
}

namespace {

using kernel::MatrixProduct;

/// The last two axes of a tensor as the product reads them.
struct Matrix {
  Tensor tensor;
  std::int64_t leading = 1;  // elements from one stored row to the next
  bool transposed = false;
};

Matrix as_matrix(const Tensor& x) {
  const int row_axis = x.rank() - 2, column_axis = x.rank() - 1;
  const std::int64_t rows = x.shape()[row_axis], columns = x.shape()[column_axis];
  const std::int64_t row_step = x.strides()[row_axis], column_step = x.strides()[column_axis];
  if ((columns <= 1 || column_step == 1) && (rows <= 1 || row_step >= columns))
    return {x, std::max<std::int64_t>(rows <= 1 ? columns : row_step, 1), false};
  if ((rows <= 1 || row_step == 1) && (columns <= 1 || column_step >= rows))
    return {x, std::max<std::int64_t>(columns <= 1 ? rows : column_step, 1), true};
  return {packed_copy(x), std::max<std::int64_t>(columns, 1), false};
}

/// The shape of a product and the levels of its batch, neighbouring axes merged where all operands step evenly.
struct Batch {
  Shape shape;  // of the result
  std::array<MatrixProduct::Level, Shape::kMaxRank> levels;
  int count = 0;
};

/// The axes before the last two, broadcast.
Shape batch_shape(const Tensor& a, const Tensor& b, std::string_view op) {
  const auto leading = [](const Tensor& x) { return Shape(std::span(x.shape().begin(), x.shape().end() - 2)); };
  return broadcast(leading(a), leading(b), op);
}

std::int64_t batch_stride(const Tensor& x, int axis, int batch_rank) {
  axis -= batch_rank - (x.rank() - 2);
  return axis < 0 || x.shape()[axis] == 1 ? 0 : x.strides()[axis];
}

Batch plan(const Tensor& a, const Tensor& b, std::int64_t m, std::int64_t n, std::string_view op) {
  Batch batch;
  batch.shape = a.rank() == 2 && b.rank() == 2 ? Shape() : batch_shape(a, b, op);
  const int rank = batch.shape.rank();
  Shape result = batch.shape;
  result.push_back(m);
  result.push_back(n);
  const Shape steps = contiguous_strides(result);
  for (int axis = 0; axis < rank; ++axis) {
    if (result[axis] == 1) continue;
    MatrixProduct::Level level{result[axis], batch_stride(a, axis, rank), batch_stride(b, axis, rank), steps[axis]};
    if (batch.count > 0) {
      const MatrixProduct::Level& outer = batch.levels[static_cast<std::size_t>(batch.count) - 1];
      if (outer.stride_a == level.stride_a * level.count && outer.stride_b == level.stride_b * level.count &&
          outer.stride_c == level.stride_c * level.count) {
        level.count *= outer.count;
        --batch.count;
      }
    }
    batch.levels[static_cast<std::size_t>(batch.count++)] = level;
  }
  batch.shape = result;
  return batch;
}

/// Where all matrices of a level share one B and their rows of A follow each other evenly, the level is more rows.
template <class T>
void fold_rows(MatrixProduct::Arguments<T>& p) {
  while (p.level_count > 0 && !p.transpose_a) {
    const MatrixProduct::Level& level = p.levels[static_cast<std::size_t>(p.level_count) - 1];
    const bool even = p.m == 1 ? level.stride_a >= std::max<std::int64_t>(p.k, 1) : level.stride_a == p.m * p.lda;
    if (level.stride_b != 0 || !even || p.m == 0) return;
    if (p.m == 1) p.lda = level.stride_a;
    p.m *= level.count;
    --p.level_count;
  }
}

/// The dtype that products of `x` come in. On the CPU it is the one in which they are summed, and a cast follows.
DType product_dtype(const Tensor& x) { return x.device().is_cuda() ? x.dtype() : sum_dtype(x.dtype()); }

/// A·B + bias as product_dtype has it; so is the bias. No gradients.
Tensor product(const Tensor& a, const Tensor& b, const Tensor& bias, std::string_view op) {
  const Matrix left = as_matrix(a), right = as_matrix(b);
  const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const Batch batch = plan(left.tensor, right.tensor, m, n, op);
  Tensor c = Tensor::empty(batch.shape, {product_dtype(a), a.device()});
  if (c.numel() == 0) return c;
  const auto multiply = [&]<class T>() {
    using C = Accumulator<T>;
    const bool rounds = c.dtype() != dtype_of<C>();
    MatrixProduct::Arguments<T> arguments{.m = m,
                                          .n = n,
                                          .k = k,
                                          .a = left.tensor.data<T>(),
                                          .lda = left.leading,
                                          .transpose_a = left.transposed,
                                          .b = right.tensor.data<T>(),
                                          .ldb = right.leading,
                                          .transpose_b = right.transposed,
                                          .c = rounds ? nullptr : c.data<C>(),
                                          .bias = bias.defined() && !rounds ? bias.data<C>() : nullptr,
                                          .rounded = rounds ? c.data<T>() : nullptr,
                                          .rounded_bias = bias.defined() && rounds ? bias.data<T>() : nullptr,
                                          .levels = batch.levels,
                                          .level_count = batch.count};
    fold_rows(arguments);
    launch<MatrixProduct>(a.device(), arguments);
  };
  if (a.dtype() == DType::bf16)
    multiply.template operator()<bf16>();
  else if (a.dtype() == DType::f16)
    multiply.template operator()<f16>();
  else
    visit_float(a.dtype(), op, multiply);
  return c;
}

/// The last two axes exchanged, without history.
Tensor transposed(const Tensor& x) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[x.rank() - 2], shape[x.rank() - 1]);
  std::swap(strides[x.rank() - 2], strides[x.rank() - 1]);
  return x.alias(shape, strides, 0);
}

Tensor with_shape(const Tensor& x, const Shape& shape) { return x.shape() == shape ? x : reshape(x, shape); }

/// A·B, which is the gradient of `like`, in the memory order of `like`: whoever handed in a transposed view gets a
/// gradient that is row-major again once it is transposed back.
Tensor gradient_product(const Tensor& a, const Tensor& b, const Tensor& like) {
  const bool swapped = like.strides()[like.rank() - 2] == 1 && like.size(-2) > 1 && like.size(-1) > 1;
  return swapped ? transposed(product(transposed(b), transposed(a), {}, "matmul")) : product(a, b, {}, "matmul");
}

/// x as [rows, C].
Tensor as_rows(const Tensor& x) { return reshape(x, {x.size(-1) == 0 ? 0 : -1, x.size(-1)}); }

/// dB = Aᵀ·dC. When all share one B it is one product over all rows.
Tensor matmul_backward_b(const Tensor& a, const Tensor& dc, const Tensor& b) {
  const Shape& b_shape = b.shape();
  std::int64_t batch = 1;
  for (int axis = 0; axis + 2 < b_shape.rank(); ++axis) batch *= b_shape[axis];
  const bool shared = batch == 1 && a.shape().rank() > 2 && a.numel() > 0 && dc.numel() > 0 &&
                      a.numel() / a.size(-1) == dc.numel() / dc.size(-1);
  if (shared) return reshape(gradient_product(transposed(as_rows(a)), as_rows(dc), b), b_shape);
  return sum_to(gradient_product(transposed(a), dc, b), b_shape);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  require_same_kind("matmul", {a, b});
  require(is_float(a.dtype()), "matmul", "dtype {} is not supported; use a float dtype", name(a.dtype()));
  require(a.rank() >= 2 && b.rank() >= 2, "matmul", "{} x {}: both need at least two axes", a.shape(), b.shape());
  require(a.size(-1) == b.size(-2), "matmul", "{} x {}: inner sizes {} and {} differ", a.shape(), b.shape(), a.size(-1),
          b.size(-2));
  return record("matmul", {a, b}, cast(product(a, b, {}, "matmul"), a.dtype()), {a, b},
                [](const Saved& saved, const Tensor& dc) -> Gradients {
                  const Tensor &a = saved[0], &b = saved[1];
                  Gradients gradients(2);
                  if (saved.wants(0))
                    gradients[0] = cast(sum_to(gradient_product(dc, transposed(b), a), a.shape()), a.dtype());
                  if (saved.wants(1)) gradients[1] = cast(matmul_backward_b(a, dc, b), b.dtype());
                  return gradients;
                });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (x.dtype() == DType::f32 && is_half(weight.dtype())) return half_linear(x, weight, bias);
  require_same_kind("linear", {x, weight, bias.defined() ? bias : x});
  require(is_float(x.dtype()), "linear", "dtype {} is not supported; use a float dtype", name(x.dtype()));
  require(x.rank() >= 1 && weight.rank() == 2 && weight.size(1) == x.size(-1), "linear",
          "weight {}, which is [out,in], does not fit the last axis of {}", weight, x);
  const std::int64_t out = weight.size(0), in = weight.size(1);
  require(!bias.defined() || (bias.rank() == 1 && bias.size(0) == out), "linear", "bias {} does not fit weight {}",
          bias, weight);
  Shape rows_shape{1, in}, shape = x.shape();
  for (int axis = 0; axis + 1 < x.rank(); ++axis) rows_shape[0] *= shape[axis];
  shape[x.rank() - 1] = out;
  const Tensor rows = x.rank() == 2 ? x : reshape(detach(x), rows_shape);
  const Tensor offset = bias.defined() ? packed(cast(detach(bias), product_dtype(x))) : bias;
  const Tensor y = cast(with_shape(product(rows, transposed(weight), offset, "linear"), shape), x.dtype());
  return record("linear", {x, weight, bias}, y, {rows, weight},
                [rows_shape, out, from = x.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor &rows = saved[0], &weight = saved[1], upstream = with_shape(dy, {rows_shape[0], out});
                  Gradients gradients(3);
                  if (saved.wants(0))
                    gradients[0] = cast(with_shape(product(upstream, weight, {}, "linear"), from), dy.dtype());
                  if (saved.wants(1))
                    gradients[1] = cast(product(transposed(upstream), rows, {}, "linear"), dy.dtype());
                  if (saved.wants(2)) gradients[2] = sum_to(upstream, {out});
                  return gradients;
                });
}

}  // namespace sq
