// ops/dispatch.h: from an operation to the kernel of the tensor's device.
//
// A kernel is a struct with a name, its arguments (plain pointers and sizes) and one static function per device:
//
//   struct RmsNormForward {
//     static constexpr std::string_view name = "rms_norm";
//     template <class T> struct Arguments { … };
//     template <class T> static void cpu(const Arguments<T>&);                         // ops/cpu/rms_norm.cpp
//     template <class T> static void cuda(const cuda::Context&, const Arguments<T>&);  // ops/cuda/rms_norm.cu
//   };
//
// A device function that is declared but not written is a link error; there is no table to keep and nothing to
// register. CPU functions exist for f32 and f64, CUDA functions for bf16 and f16 too. A kernel whose CPU function takes
// 16-bit floats as well says so: static constexpr bool cpu_takes_halves = true. For profiles a kernel may also state
// what it has to do at least, and a closer name than the struct's:
//
//     static Work work(const auto& a) { return {.flops = …, .bytes = …}; }
//     static std::string_view label(const auto& a);
#pragma once

#include "tensor/cuda/build.h"
#include "tensor/cuda/context.h"
#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <type_traits>
#include <utility>

namespace sq {

namespace detail {

template <class Kernel, class Arguments>
std::string_view kernel_label(const Arguments& arguments) {
  if constexpr (requires { Kernel::label(arguments); })
    return Kernel::label(arguments);
  else
    return Kernel::name;
}

template <class Kernel, class Arguments>
Work kernel_work(const Arguments& arguments) {
  if constexpr (requires { Kernel::work(arguments); })
    return Kernel::work(arguments);
  else
    return {};
}

/// Whether Kernel has a function for T on the device.
template <class Kernel, class T>
concept RunsOnCpu = !(std::is_same_v<T, bf16> || std::is_same_v<T, f16>) || requires {
  requires Kernel::cpu_takes_halves;
};
template <class Kernel, class Arguments>
concept RunsOnCuda = cuda::kBuilt && requires(const cuda::Context& context, const Arguments& arguments) {
  Kernel::cuda(context, arguments);
};

}  // namespace detail

/// Runs Kernel's function for `device`. Throws Error naming the kernel when this build has none for it.
template <class Kernel, template <class> class Arguments, class T>
void launch(Device device, const Arguments<T>& arguments) {
  if (device.is_cuda()) {
    if constexpr (detail::RunsOnCuda<Kernel, Arguments<T>>) {
      const cuda::Context& context = cuda::context(device);
      const KernelSpan span(detail::kernel_label<Kernel>(arguments),
                            [&] { return detail::kernel_work<Kernel>(arguments); });
      Kernel::cuda(context, arguments);
      if (Profiler::current()) context.synchronize(Kernel::name);  // a span shall hold the work, not the call for it
      return;
    }
    throw Error(fmt::format("{}: there is no kernel for device {} in this build; move the tensors to cpu", Kernel::name,
                            name(device)));
  }
  if constexpr (detail::RunsOnCpu<Kernel, T>) {
    const KernelSpan span(detail::kernel_label<Kernel>(arguments),
                          [&] { return detail::kernel_work<Kernel>(arguments); });
    Kernel::cpu(arguments);
  } else {
    throw Error(fmt::format("{}: dtype {} is not computed with on the cpu", Kernel::name, name(dtype_of<T>())));
  }
}

/// Calls f.template operator()<T>() with the element type in which kernels of x's device take x: f32 or f64; on a GPU
/// also bf16 and f16. Throws Error naming `op` for every other dtype.
template <class F>
decltype(auto) visit_float(const Tensor& x, std::string_view op, F&& f) {
  if constexpr (cuda::kBuilt) {
    if (x.device().is_cuda() && x.dtype() == DType::bf16) return f.template operator()<bf16>();
    if (x.device().is_cuda() && x.dtype() == DType::f16) return f.template operator()<f16>();
  }
  return visit_float(x.dtype(), op, std::forward<F>(f));
}

/// 16-bit floats are stored, not computed with, on the CPU: an operation casts them to f32 and its result back.
inline bool computes_in_f32(const Tensor& x) { return is_half(x.dtype()) && x.device().is_cpu(); }

/// Throws Error unless all tensors have the dtype and device of the first.
inline void require_same_kind(std::string_view op, std::initializer_list<Tensor> tensors) {
  const Tensor& first = *tensors.begin();
  for (const Tensor& other : tensors)
    require(other.dtype() == first.dtype() && other.device() == first.device(), op,
            "{} and {} differ in dtype or device; cast or move one of them", first, other);
}

}  // namespace sq
