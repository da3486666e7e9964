// ops/dispatch.h: from an operation to the kernel of the tensor's device.
//
// A kernel is a struct with a name, its arguments (plain pointers and sizes) and one static function per device:
//
//   struct RmsNormForward {
//     static constexpr std::string_view name = "rms_norm";
//     template <class T> struct Arguments { … };
//     template <class T> static void cpu(const Arguments<T>&);    // ops/cpu/rms_norm.cpp
//   };
//
// A device function that is declared but not written is a link error; there is no table to keep and nothing to
// register. For profiles a kernel may also state what it has to do at least, and a closer name than the struct's:
//
//     static Work work(const auto& a) { return {.flops = …, .bytes = …}; }
//     static std::string_view label(const auto& a);
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

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

}  // namespace detail

/// Runs Kernel's function for `device`. Throws Error naming the kernel when this build has none for it.
template <class Kernel, template <class> class Arguments, class T>
void launch(Device device, const Arguments<T>& arguments) {
  require(device.is_cpu(), Kernel::name, "device {} is not available in this build", name(device));
  const KernelSpan span(detail::kernel_label<Kernel>(arguments),
                        [&] { return detail::kernel_work<Kernel>(arguments); });
  Kernel::cpu(arguments);
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
