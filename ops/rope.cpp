#include "ops/rope.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/sum_dtype.h"
#include "tensor/cpu/threads.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sq {
namespace {

/// cos and sin of t·f_m for every m, by angle addition: with t = 64·high + low, the values for the 64 possible low and
/// for each high that occurs are combined by one complex product in double. Consecutive positions share their high, so
/// T positions cost about 64 + T/64 rows of library calls instead of T.
class AngleTable {
 public:
  AngleTable(const std::int64_t* positions, std::int64_t count, std::int64_t pairs, double base)
      : positions_(positions), count_(count), pairs_(pairs), low_(static_cast<std::size_t>(2 * kLow * pairs)) {
    for (std::int64_t m = 0; m < pairs; ++m)
      frequencies_.push_back(std::pow(base, -static_cast<double>(m) / static_cast<double>(pairs)));
    std::vector<std::uint8_t> used(kLow);
    for (std::int64_t i = 0; i < count; ++i) used[static_cast<std::size_t>(positions[i] & (kLow - 1))] = 1;
    // The rows of a few positions are not worth waking a thread.
    cpu::parallel_for(kLow, count <= 8 ? kLow : 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t low = begin; low < end; ++low)
        if (used[static_cast<std::size_t>(low)]) turn(low, low_.data() + 2 * low * pairs_);
    });
  }

  /// Rows of `pairs` cosines and `pairs` sines, rounded to T, one for each position.
  template <class T>
  void write(T* out) const {
    cpu::parallel_for(count_, kLow, [&](std::int64_t begin, std::int64_t end) {
      std::vector<double> high_row(static_cast<std::size_t>(2 * pairs_));
      const double *ch = high_row.data(), *sh = ch + pairs_;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t low = positions_[i] & (kLow - 1), high = positions_[i] - low;
        if (i == begin || high != positions_[i - 1] - (positions_[i - 1] & (kLow - 1))) turn(high, high_row.data());
        const double *cl = low_.data() + 2 * low * pairs_, *sl = cl + pairs_;
        T *cosine = out + 2 * i * pairs_, *sine = cosine + pairs_;
        for (std::int64_t m = 0; m < pairs_; ++m) {
          cosine[m] = static_cast<T>(ch[m] * cl[m] - sh[m] * sl[m]);
          sine[m] = static_cast<T>(sh[m] * cl[m] + ch[m] * sl[m]);
        }
      }
    });
  }

 private:
  static constexpr std::int64_t kLow = 64;

  void turn(std::int64_t position, double* row) const {
    for (std::int64_t m = 0; m < pairs_; ++m) {
      const double angle = static_cast<double>(position) * frequencies_[static_cast<std::size_t>(m)];
      row[m] = std::cos(angle);
      row[pairs_ + m] = std::sin(angle);
    }
  }

  const std::int64_t* positions_;
  std::int64_t count_, pairs_;
  std::vector<double> frequencies_, low_;
};

/// An uninitialised tensor whose axes lie in memory in the same order as those of a tensor with `strides`; the last
/// axis stays innermost.
Tensor empty_in_order(const Shape& shape, const Shape& strides, TensorOptions options) {
  std::vector<int> order;
  for (int axis = 0; axis < shape.rank(); ++axis) order.push_back(axis);
  std::stable_sort(order.begin(), order.end() - 1, [&](int a, int b) { return strides[a] > strides[b]; });
  Shape result = shape;
  std::int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    result[order[static_cast<std::size_t>(i)]] = step;
    step *= shape[order[static_cast<std::size_t>(i)]];
  }
  return Tensor::empty(shape, options).alias(shape, result, 0);
}

/// y ← x turned by the angles of `table`, or back.
void turn(const Tensor& x, const Tensor& table, bool backward, Tensor& y) {
  const Tensor input = x.size(-1) <= 1 || x.strides()[3] == 1 ? x : packed(x);
  const auto steps = [](const Tensor& t) {
    return kernel::Rope::Steps{t.strides()[0], t.strides()[1], t.strides()[2]};
  };
  const Shape& shape = x.shape();
  visit_float(x, "rope", [&]<class T>() {
    launch<kernel::Rope>(x.device(),
                         kernel::Rope::Arguments<T>{.batch = shape[0],
                                                    .heads = shape[1],
                                                    .positions = shape[2],
                                                    .width = shape[3],
                                                    .x = input.data<T>(),
                                                    .x_steps = steps(input),
                                                    .table = table.data<Accumulator<T>>(),
                                                    .table_step = table.size(0) == 1 ? 0 : shape[2] * shape[3],
                                                    .backward = backward,
                                                    .y = y.data<T>(),
                                                    .y_steps = steps(y)});
  });
}

}  // namespace

template <class T>
void kernel::RopeTable::cpu(const Arguments<T>& a) {
  AngleTable(a.positions, a.count, a.width / 2, a.base).write(a.table);
}

Tensor rope(const Tensor& x, const Tensor& positions, double base) {
  require(x.rank() == 4 && is_float(x.dtype()), "rope", "x must be floats [B,H,T,D], not {}", x);
  require(x.size(3) % 2 == 0, "rope", "the head width {} of {} is odd; features turn in pairs", x.size(3), x);
  require(positions.dtype() == DType::i64 || positions.dtype() == DType::i32, "rope",
          "positions must be i64 or i32, not {}", positions);
  require(positions.shape() == Shape{x.size(2)} || positions.shape() == Shape{x.size(0), x.size(2)}, "rope",
          "positions {} must be [T] or [B,T] for x {}", positions, x);
  require(std::isfinite(base) && base > 0, "rope", "base {} is not a positive number", base);
  if (computes_in_f32(x)) return cast(rope(cast(x, DType::f32), positions, base), x.dtype());

  const Tensor places = positions.dtype() == DType::i64 ? packed(positions) : packed_copy(positions, DType::i64);
  Tensor table =
      Tensor::empty({positions.rank() == 1 ? 1 : x.size(0), x.size(2), x.size(3)}, {sum_dtype(x.dtype()), x.device()});
  visit_float(table.dtype(), "rope", [&]<class T>() {
    launch<kernel::RopeTable>(x.device(), kernel::RopeTable::Arguments<T>{.count = places.numel(),
                                                                          .width = x.size(3),
                                                                          .positions = places.data<std::int64_t>(),
                                                                          .base = base,
                                                                          .table = table.data<T>()});
  });
  Tensor y = Tensor::empty_like(x);
  turn(x, table, false, y);
  return record("rope", {x}, y, {table}, [strides = x.strides()](const Saved& saved, const Tensor& dy) -> Gradients {
    Tensor dx = empty_in_order(dy.shape(), strides, dy.options());
    turn(dy, saved[0], true, dx);
    return {dx};
  });
}

}  // namespace sq
