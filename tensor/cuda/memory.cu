// tensor/cuda/memory.cu: one thread an element, its place found by dividing; where everything lies in one row, the
// driver's own copy, or 16 bytes a thread.
#include "tensor/convert.h"
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/memory.h"

namespace sq::cuda {
namespace {

constexpr int kThreads = 256;

Grid one_each(std::int64_t count) { return {.blocks = blocks_for(count, kThreads), .threads = kThreads}; }

template <class To, class From>
__device__ inline To convert(From value) {
  if constexpr (std::is_same_v<From, To>)
    return value;
  else if constexpr (std::is_same_v<From, bf16> || std::is_same_v<From, f16>)
    return convert<To>(widen(value));
  else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>)
    return narrow<To>(static_cast<float>(value));
  else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>)
    return whole_number<To>(static_cast<double>(value));
  else
    return static_cast<To>(value);
}

template <class Item>
__global__ void fill_kernel(Walk<1> walk, std::int64_t count, Item* out, Item value) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t at[1];
  walk.locate(i, at);
  out[at[0]] = value;
}

template <class Item>
__global__ void copy_kernel(Walk<2> walk, std::int64_t count, Item* out, const Item* in) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t at[2];
  walk.locate(i, at);
  out[at[0]] = in[at[1]];
}

/// `to` names the type of `out`; a branch that all threads take alike costs less than 42 kernels.
template <class From>
__global__ void convert_kernel(Walk<2> walk, std::int64_t count, void* out, DType to, const From* in) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t at[2];
  walk.locate(i, at);
  const From value = in[at[1]];
  const auto write = [&](auto example) {
    static_cast<decltype(example)*>(out)[at[0]] = convert<decltype(example)>(value);
  };
  switch (to) {
    case DType::f32:
      return write(float());
    case DType::f64:
      return write(double());
    case DType::bf16:
      static_cast<bf16*>(out)[at[0]].bits = convert<bf16>(value).bits;
      return;
    case DType::f16:
      static_cast<f16*>(out)[at[0]].bits = convert<f16>(value).bits;
      return;
    case DType::i32:
      return write(std::int32_t());
    case DType::i64:
      return write(std::int64_t());
    case DType::u8:
      return write(std::uint8_t());
  }
}

/// Between f32 and a 16-bit float, both in one row: four elements a thread.
template <class To, class From>
__global__ void convert_packed_kernel(std::int64_t count, To* out, const From* in) {
  constexpr int kWidth = 4;
  const std::int64_t first = global_index() * kWidth;
  if (first + kWidth <= count) {
    const auto from = Pack<From, kWidth>::load(in + first);
    Pack<To, kWidth> to;
    for (int i = 0; i < kWidth; ++i) to.items[i] = convert<To>(from.items[i]);
    to.store(out + first);
  } else {
    for (std::int64_t i = first; i < count; ++i) out[i] = convert<To>(in[i]);
  }
}

template <class T>
__global__ void accumulate_kernel(Walk<2> walk, std::int64_t count, T* out, const T* in) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t at[2];
  walk.locate(i, at);
  out[at[0]] = narrow<T>(widen(out[at[0]]) + widen(in[at[1]]));
}

template <class T>
__global__ void accumulate_packed_kernel(std::int64_t count, T* out, const T* in) {
  constexpr int kWidth = kPack<T>;
  const std::int64_t first = global_index() * kWidth;
  if (first + kWidth <= count) {
    const auto term = Pack<T, kWidth>::load(in + first);
    auto sum = Pack<T, kWidth>::load(out + first);
    for (int i = 0; i < kWidth; ++i) sum.items[i] = narrow<T>(widen(sum.items[i]) + widen(term.items[i]));
    sum.store(out + first);
  } else {
    for (std::int64_t i = first; i < count; ++i) out[i] = narrow<T>(widen(out[i]) + widen(in[i]));
  }
}

/// `finite` is 1 before; threads that find something else all write the same 0.
template <class T>
__global__ void finite_kernel(Walk<1> walk, std::int64_t count, const T* in, std::int32_t* finite) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t at[1];
  walk.locate(i, at);
  const Wide<T> x = widen(in[at[0]]);
  if (!(x - x == 0)) *finite = 0;
}

template <class T>
__global__ void scale_and_add_rows_kernel(std::int64_t stride, std::int64_t m, std::int64_t n, T* c, std::int64_t ldc,
                                          Wide<T> beta, const T* bias) {
  const std::int64_t i = global_index();
  if (i >= m * n) return;
  T& element = c[block_index(1) * stride + i / n * ldc + i % n];
  const Wide<T> scaled = beta == 0 ? 0 : beta * widen(element);
  element = narrow<T>(bias ? scaled + widen(bias[i % n]) : scaled);
}

template <class Item>
void copy_items(const Context& context, Tensor& target, const Tensor& source) {
  const Walk<2> walk(target.shape(), {target.strides(), source.strides()});
  launch_kernel(context, "copy", copy_kernel<Item>, one_each(target.numel()), walk, target.numel(),
                reinterpret_cast<Item*>(target.bytes()), reinterpret_cast<const Item*>(source.bytes()));
}

/// Calls f with an unsigned integer of the size of an element.
template <class F>
void visit_item(DType dtype, F&& f) {
  switch (item_size(dtype)) {
    case 1:
      return f(std::uint8_t());
    case 2:
      return f(std::uint16_t());
    case 4:
      return f(std::uint32_t());
    default:
      return f(std::uint64_t());
  }
}

template <class To, class From>
bool convert_packed(const Context& context, Tensor& target, const Tensor& source) {
  if (target.dtype() != dtype_of<To>() || source.dtype() != dtype_of<From>()) return false;
  To* out = target.data<To>();
  const From* in = source.data<From>();
  if (!is_aligned<To, 4>(out) || !is_aligned<From, 4>(in)) return false;
  launch_kernel(context, "copy", convert_packed_kernel<To, From>, one_each(blocks_for(target.numel(), 4)),
                target.numel(), out, in);
  return true;
}

}  // namespace

void fill(const Context& context, Tensor& target, double value) {
  const std::int64_t count = target.numel();
  if (value == 0 && !std::signbit(value) && target.is_contiguous())
    return fill_bytes(context.stream(), target.bytes(), 0, static_cast<std::size_t>(count * item_size(target.dtype())));
  const Walk<1> walk(target.shape(), {target.strides()});
  visit(target.dtype(), [&]<class T>() {
    T number;
    if constexpr (std::is_integral_v<T>)
      number = whole_number<T>(value);
    else
      number = T(static_cast<Accumulator<T>>(value));
    visit_item(target.dtype(), [&](auto item) {
      if constexpr (sizeof(item) == sizeof(T))
        launch_kernel(context, "fill", fill_kernel<decltype(item)>, one_each(count), walk, count,
                      reinterpret_cast<decltype(item)*>(target.bytes()), std::bit_cast<decltype(item)>(number));
    });
  });
}

void copy(const Context& context, Tensor& target, const Tensor& source) {
  const std::int64_t count = target.numel();
  const bool rows = target.is_contiguous() && source.is_contiguous();
  if (target.dtype() == source.dtype()) {
    if (rows)
      return copy_on_device(context.stream(), target.bytes(), source.bytes(),
                            static_cast<std::size_t>(count * item_size(target.dtype())));
    return visit_item(target.dtype(), [&](auto item) { copy_items<decltype(item)>(context, target, source); });
  }
  if (rows &&
      (convert_packed<float, bf16>(context, target, source) || convert_packed<bf16, float>(context, target, source) ||
       convert_packed<float, f16>(context, target, source) || convert_packed<f16, float>(context, target, source)))
    return;
  const Walk<2> walk(target.shape(), {target.strides(), source.strides()});
  visit(source.dtype(), [&]<class From>() {
    launch_kernel(context, "copy", convert_kernel<From>, one_each(count), walk, count,
                  static_cast<void*>(target.bytes()), target.dtype(), source.data<From>());
  });
}

void copy_devices(Tensor& target, const Tensor& source, std::size_t bytes) {
  // The target's stream must not begin before the source is ready, nor the source's change it before it is read.
  const Context& from = context(source.device());
  from.synchronize("copy between devices");
  const Context& to = context(target.device());
  copy_between(to.stream(), target.bytes(), to.device(), source.bytes(), from.device(), bytes);
  to.synchronize("copy between devices");
}

void accumulate(const Context& context, Tensor& target, const Tensor& source) {
  const std::int64_t count = target.numel();
  const auto add = [&]<class T>() {
    T* out = target.data<T>();
    const T* in = source.data<T>();
    if (target.is_contiguous() && source.is_contiguous() && is_aligned(out) && is_aligned(in))
      return launch_kernel(context, "accumulate", accumulate_packed_kernel<T>, one_each(blocks_for(count, kPack<T>)),
                           count, out, in);
    const Walk<2> walk(target.shape(), {target.strides(), source.strides()});
    launch_kernel(context, "accumulate", accumulate_kernel<T>, one_each(count), walk, count, out, in);
  };
  visit(target.dtype(), [&]<class T>() {
    if constexpr (!std::is_integral_v<T>) add.template operator()<T>();
  });
}

template <class T>
void scale_and_add_rows(const Context& context, std::int64_t count, std::int64_t stride, std::int64_t m, std::int64_t n,
                        T* c, std::int64_t ldc, double beta, const T* bias) {
  for (std::int64_t first = 0; first < count; first += 65535) {
    Grid grid = one_each(m * n);
    grid.blocks_y = std::min<std::int64_t>(count - first, 65535);
    launch_kernel(context, "gemm_bias", scale_and_add_rows_kernel<T>, grid, stride, m, n, c + first * stride, ldc,
                  static_cast<Wide<T>>(beta), bias);
  }
}
template void scale_and_add_rows(const Context&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, float*,
                                 std::int64_t, double, const float*);
template void scale_and_add_rows(const Context&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, double*,
                                 std::int64_t, double, const double*);
template void scale_and_add_rows(const Context&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bf16*,
                                 std::int64_t, double, const bf16*);
template void scale_and_add_rows(const Context&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, f16*,
                                 std::int64_t, double, const f16*);

bool all_finite(const Context& context, const Tensor& tensor) {
  const std::int64_t count = tensor.numel();
  const Walk<1> walk(tensor.shape(), {tensor.strides()});
  const Buffer<std::int32_t> flag(context, 1);
  std::int32_t finite = 1;
  context.upload(flag.data(), &finite, sizeof(finite));
  visit(tensor.dtype(), [&]<class T>() {
    if constexpr (!std::is_integral_v<T>)
      launch_kernel(context, "all_finite", finite_kernel<T>, one_each(count), walk, count, tensor.data<T>(),
                    flag.data());
  });
  context.download(&finite, flag.data(), sizeof(finite));
  return finite != 0;
}

}  // namespace sq::cuda
