#include "tensor/memory.h"

#include "tensor/convert.h"
#include "tensor/cpu/strided.h"
#include "tensor/cuda/build.h"
#include "tensor/cuda/memory.h"
#include "tensor/profiler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

namespace sq {
namespace {

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, To>)
    return value;
  else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>)
    return whole_number<To>(static_cast<double>(value));
  else if constexpr (std::is_same_v<From, bf16> || std::is_same_v<From, f16>)
    return static_cast<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>)
    return To(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

template <class To, class From>
void copy_rows(Tensor& target, const Tensor& source) {
  To* out = target.data<To>();
  const From* in = source.data<From>();
  const cpu::StridedLoop<2> loop(target.shape(), {target.strides(), source.strides()});
  const std::int64_t to_step = loop.row_stride(0), from_step = loop.row_stride(1);
  loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
    To* to = out + offset[0];
    const From* from = in + offset[1];
    if (to_step == 1 && from_step == 1) {
      if constexpr (std::is_same_v<To, From>)
        std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(To));
      else
        for (std::int64_t i = 0; i < count; ++i) to[i] = convert<To>(from[i]);
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i * to_step] = convert<To>(from[i * from_step]);
    }
  });
}

/// So many bytes for each element.
Work moves(const Tensor& tensor, std::int64_t bytes) { return Work::moving<std::byte>(tensor.numel() * bytes); }

/// The axis before the last along which the elements of `source` are neighbors, while along the last they are not and
/// those of `target` are: a transposing copy. -1 where there is none.
int transposed_axis(const Tensor& target, const Tensor& source) {
  const int last = source.rank() - 1;
  if (last < 1 || target.dtype() != source.dtype() || target.strides()[last] != 1) return -1;
  if (source.size(last) < 2 || source.strides()[last] == 1) return -1;
  for (int axis = 0; axis < last; ++axis)
    if (source.strides()[axis] == 1 && source.size(axis) > 1) return axis;
  return -1;
}

/// Transposes the axes `axis` (rows of the target) and the last (its columns) in square blocks: every cache line of
/// either side is touched in one go. `Item` is an unsigned integer of the size of an element.
template <class Item>
void copy_transposed(Tensor& target, const Tensor& source, int axis) {
  constexpr std::int64_t kSize = sizeof(Item), kBlock = 64 / kSize;
  const int last = source.rank() - 1;
  const std::int64_t rows = source.size(axis), columns = source.size(last);
  const std::int64_t to_row = target.strides()[axis], from_column = source.strides()[last];
  const std::int64_t blocks = cpu::block_count(rows, kBlock);
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / (kBlock * columns));
  cpu::parallel_for(source.numel() / (rows * columns) * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    Item block[kBlock][kBlock], line[kBlock];
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task % blocks * kBlock, height = std::min(kBlock, rows - row);
      std::int64_t to = row * to_row, from = row;
      std::int64_t rest = task / blocks;  // numbers the places on all other axes
      for (int a = last - 1; a >= 0; --a) {
        if (a == axis) continue;
        to += rest % source.size(a) * target.strides()[a];
        from += rest % source.size(a) * source.strides()[a];
        rest /= source.size(a);
      }
      for (std::int64_t column = 0; column < columns; column += kBlock) {
        const std::int64_t width = std::min(kBlock, columns - column);
        for (std::int64_t c = 0; c < width; ++c)
          std::memcpy(block[c], source.bytes() + (from + (column + c) * from_column) * kSize,
                      static_cast<std::size_t>(height * kSize));
        for (std::int64_t r = 0; r < height; ++r) {
          for (std::int64_t c = 0; c < width; ++c) line[c] = block[c][r];
          std::memcpy(target.bytes() + (to + r * to_row + column) * kSize, line,
                      static_cast<std::size_t>(width * kSize));
        }
      }
    }
  });
}

void copy_transposed(Tensor& target, const Tensor& source, int axis) {
  switch (item_size(source.dtype())) {
    case 1:
      return copy_transposed<std::uint8_t>(target, source, axis);
    case 2:
      return copy_transposed<std::uint16_t>(target, source, axis);
    case 4:
      return copy_transposed<std::uint32_t>(target, source, axis);
    default:
      return copy_transposed<std::uint64_t>(target, source, axis);
  }
}

void fill_here(Tensor& target, double value) {
  visit(target.dtype(), [&]<class T>() {
    T* out = target.data<T>();
    const T filler = convert<T>(value);
    const cpu::StridedLoop<1> loop(target.shape(), {target.strides()});
    const std::int64_t step = loop.row_stride(0);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      for (std::int64_t i = 0; i < count; ++i) out[offset[0] + i * step] = filler;
    });
  });
}

void copy_here(Tensor& target, const Tensor& source) {
  const int axis = transposed_axis(target, source);
  if (axis >= 0 && source.numel() > 0)
    copy_transposed(target, source, axis);
  else
    visit(target.dtype(),
          [&]<class To>() { visit(source.dtype(), [&]<class From>() { copy_rows<To, From>(target, source); }); });
}

void accumulate_here(Tensor& target, const Tensor& source) {
  visit(target.dtype(), [&]<class T>() {
    T* out = target.data<T>();
    const T* in = source.data<T>();
    const cpu::StridedLoop<2> loop(target.shape(), {target.strides(), source.strides()});
    const std::int64_t to_step = loop.row_stride(0), from_step = loop.row_stride(1);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      T* to = out + offset[0];
      const T* from = in + offset[1];
      for (std::int64_t i = 0; i < count; ++i)
        to[i * to_step] = static_cast<T>(Accumulator<T>(to[i * to_step]) + Accumulator<T>(from[i * from_step]));
    });
  });
}

/// Between the memories of two devices: both sides packed, of one dtype.
void transfer(Tensor& target, const Tensor& source) {
  const auto bytes = static_cast<std::size_t>(source.numel() * item_size(source.dtype()));
  if constexpr (cuda::kBuilt) {
    if (source.device().is_cpu())
      cuda::context(target.device()).upload(target.bytes(), source.bytes(), bytes);
    else if (target.device().is_cpu())
      cuda::context(source.device()).download(target.bytes(), source.bytes(), bytes);
    else
      cuda::copy_devices(target, source, bytes);
  }
}

/// What cannot be had in one transfer is converted where the source lies and spread where the target lies.
void copy_across(Tensor& target, const Tensor& source) {
  const Tensor sent = packed(source.dtype() == target.dtype() ? source : packed_copy(source, target.dtype()));
  if (target.is_contiguous()) return transfer(target, sent);
  Tensor arrived = Tensor::empty_like(target);
  transfer(arrived, sent);
  copy_(target, arrived);
}

/// Runs `there(context)` when the tensor is on a GPU, else `here()`.
template <class There, class Here>
void on_device(const Tensor& tensor, There&& there, Here&& here) {
  if constexpr (cuda::kBuilt) {
    if (tensor.device().is_cuda()) {
      const cuda::Context& context = cuda::context(tensor.device());
      there(context);
      if (Profiler::current()) context.synchronize();  // a span shall hold the work, not the call for it
      return;
    }
  }
  here();
}

}  // namespace

void fill_(Tensor& target, double value) {
  const KernelSpan span("fill", [&] { return moves(target, item_size(target.dtype())); });
  on_device(
      target, [&](const auto& context) { cuda::fill(context, target, value); }, [&] { fill_here(target, value); });
  target.mark_changed();
}

void copy_(Tensor& target, const Tensor& source) {
  require(target.shape() == source.shape(), "copy", "{} cannot be copied into {}", source, target);
  const KernelSpan span("copy", [&] { return moves(target, item_size(target.dtype()) + item_size(source.dtype())); });
  if (target.device() != source.device())
    copy_across(target, source);
  else
    on_device(
        target, [&](const auto& context) { cuda::copy(context, target, source); }, [&] { copy_here(target, source); });
  target.mark_changed();
}

void accumulate_(Tensor& target, const Tensor& source) {
  require(target.shape() == source.shape() && target.dtype() == source.dtype() && target.device() == source.device() &&
              is_float(target.dtype()),
          "accumulate", "{} cannot be added to {}", source, target);
  const KernelSpan span("accumulate", [&] { return moves(target, 3 * item_size(target.dtype())); });
  on_device(
      target, [&](const auto& context) { cuda::accumulate(context, target, source); },
      [&] { accumulate_here(target, source); });
  target.mark_changed();
}

Tensor packed_copy(const Tensor& source, DType dtype) {
  Tensor result = Tensor::empty(source.shape(), {dtype, source.device()});
  copy_(result, source);
  return result;
}

Tensor packed_copy(const Tensor& source) { return packed_copy(source, source.dtype()); }

Tensor moved(const Tensor& source, Device device) {
  if (source.device() == device) return source;
  Tensor result = Tensor::empty(source.shape(), {source.dtype(), device});
  copy_(result, source);
  return result;
}

Tensor packed(const Tensor& source) { return source.is_contiguous() ? source : packed_copy(source); }

bool all_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  if constexpr (cuda::kBuilt)
    if (tensor.device().is_cuda()) return cuda::all_finite(cuda::context(tensor.device()), tensor);
  std::atomic<bool> finite{true};
  visit(tensor.dtype(), [&]<class T>() {
    const T* in = tensor.data<T>();
    const cpu::StridedLoop<1> loop(tensor.shape(), {tensor.strides()});
    const std::int64_t step = loop.row_stride(0);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      bool good = true;
      for (std::int64_t i = 0; i < count; ++i) good &= std::isfinite(convert<double>(in[offset[0] + i * step]));
      if (!good) finite.store(false, std::memory_order_relaxed);
    });
  });
  return finite;
}

bool bit_equal(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor x = packed(moved(a, Device{})), y = packed(moved(b, Device{}));
  return std::memcmp(x.bytes(), y.bytes(), static_cast<std::size_t>(x.numel() * item_size(x.dtype()))) == 0;
}

}  // namespace sq
