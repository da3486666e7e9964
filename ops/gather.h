// ops/gather.h: reading and adding at places given by an index tensor.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <algorithm>

namespace sq {

// Below, `axis` is the indexed axis of extent N (negative axes count from the end), a and b stand for the axes before
// and after it. Indices are i64 or i32 in 0 … N-1; repeated ones are allowed, and their gradients add up in order, so
// the bits do not depend on the number of threads. Every function throws Error on an index out of range (naming it), on
// an index tensor of a wrong shape or dtype, and on a wrong axis. Indices that lie on a GPU are not looked at by the
// host: there one out of range gives NaN (-1 in integers) where it reads, and nothing where it adds.

/// y[a,j,b] = x[a,index[j],b]. x of any dtype, index [n]. Result: x's shape with n in place of N.
/// Saves the index.  dx[a,i,b] = Σ_{j: index[j] = i} dy[a,j,b].
Tensor index_select(const Tensor& x, int axis, const Tensor& index);

/// y[a,j,b] = x[a,index[a,j,b],b] (NumPy's take_along_axis). x of any dtype; index has x's rank and, apart from `axis`,
/// x's extents or 1, which means the same index throughout. Result: x's shape with the index's extent along `axis`.
/// Saves the index.  dx = scatter_add(0, axis, index, dy).
Tensor gather(const Tensor& x, int axis, const Tensor& index);

/// y = x, then y[a,index[a,j,b],b] += source[a,j,b] for every (a,j,b). x and source of one float dtype; source has x's
/// extents apart from `axis`, and the index the shape of the source (or extents 1 as in gather). x is left unchanged.
/// Saves the index.  dx = dy,  dsource = gather(dy, axis, index).
Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source);

namespace kernel {

/// y[a,j,:] = x[a,index[j],:]
struct SelectRows {
  static constexpr std::string_view name = "index_select";
  static constexpr bool cpu_takes_halves = true;
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner, count;
    const T* x;                 // [outer, extent, inner]
    const std::int64_t* index;  // [count]
    T* y;                       // [outer, count, inner]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.outer * a.count * a.inner);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dx[a,i,:] = Σ_{j: index[j] = i} dy[a,j,:], or that added to what dx holds.
struct AddRows {
  static constexpr std::string_view name = "index_select_backward";
  static constexpr bool cpu_takes_halves = true;
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner, count;
    const T* dy;                // [outer, count, inner]
    const std::int64_t* index;  // [count]
    bool add;                   // false: dx is written, all of it
    T* dx;                      // [outer, extent, inner]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    const std::int64_t rows = a.add ? 2 * std::min(a.count, a.extent) : a.extent;
    return Work::moving<T>(a.outer * (a.count + rows) * a.inner);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// y[a,j,b] = x[a,index[a,j,b],b]
struct Gather {
  static constexpr std::string_view name = "gather";
  static constexpr bool cpu_takes_halves = true;
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner, count;
    const T* x;                 // [outer, extent, inner]
    const std::int64_t* index;  // [outer, count, inner]
    T* y;                       // [outer, count, inner]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.outer * a.count * a.inner);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// y[a,index[a,j,b],b] += source[a,j,b]
struct ScatterAdd {
  static constexpr std::string_view name = "scatter_add";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner, count;
    const T* source;            // [outer, count, inner]
    const std::int64_t* index;  // [outer, count, inner]
    T* y;                       // [outer, extent, inner]
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// Launch SelectRows (any dtype) and AddRows (floats; `add`: to what dx holds) for packed tensors; index [count].
void select_rows(const Tensor& x, std::int64_t outer, std::int64_t extent, std::int64_t inner, const Tensor& index,
                 Tensor& y);
void add_rows(const Tensor& dy, std::int64_t outer, std::int64_t extent, std::int64_t inner, const Tensor& index,
              bool add, Tensor& dx);

}  // namespace kernel
}  // namespace sq
