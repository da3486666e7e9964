// ops/rope.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// Rotary position embedding (Su et al. 2021) in the rotate-half layout: feature m pairs with feature m + D/2, and each
/// pair at position t turns by the angle t·f_m,  f_m = base^(-2m/D),  m = 0 … D/2-1:
///   y_m = x_m cos(t f_m) - x_{m+D/2} sin(t f_m),   y_{m+D/2} = x_{m+D/2} cos(t f_m) + x_m sin(t f_m).
/// x [B,H,T,D] of any float dtype and any strides; positions i64 or i32, [T] or [B,T], any values. Result [B,H,T,D],
/// row-major. Angles are formed in double and their cosine and sine rounded once, to x's dtype (f32 for 16-bit
/// floats); they depend on t, D and base alone.
/// Saves the cosines and sines.  dx turns dy by minus the angle, and has the memory order of x.
/// Throws Error when x has not four axes, D is odd, the positions do not fit or base is not a positive number.
Tensor rope(const Tensor& x, const Tensor& positions, double base = 10000);

namespace kernel {

/// The cosines and sines of t·f_m: width/2 cosines, then width/2 sines, for each position.
struct RopeTable {
  static constexpr std::string_view name = "rope_table";
  template <class T>
  struct Arguments {
    std::int64_t count, width;
    const std::int64_t* positions;  // [count]
    double base;
    T* table;  // [count, width]
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct Rope {
  static constexpr std::string_view name = "rope";
  /// Element steps between neighbours along B, H and T; along D it is 1.
  struct Steps {
    std::int64_t batch, head, position;
  };
  template <class T>
  struct Arguments {
    std::int64_t batch, heads, positions, width;
    const T* x;
    Steps x_steps;
    const Accumulator<T>* table;  // [1 or batch, positions, width], from RopeTable
    std::int64_t table_step;      // 0, or positions·width
    bool backward;                // turn by minus the angle
    T* y;
    Steps y_steps;
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.batch * a.heads * a.positions * a.width);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
