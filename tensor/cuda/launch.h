// tensor/cuda/launch.h: the one way to start a kernel.
#pragma once

#include "tensor/cuda/build.h"
#include "tensor/cuda/context.h"

#include <tuple>
#include <type_traits>

#ifdef __CUDACC__
#include "tensor/cuda/gpu/launch.h"
#else
#include "tensor/cuda/emulation/block.h"
#endif

namespace sq::cuda {

namespace detail {
inline void check_grid(std::string_view name, const Grid& grid, const Context& context) {
  require(grid.threads >= 32 && grid.threads <= 1024 && grid.threads % 32 == 0, name,
          "a block of {} threads; use a multiple of 32 up to 1024", grid.threads);
  require(grid.blocks <= 0x7fffffff && grid.blocks_y <= 65535 && grid.blocks_z <= 65535, name,
          "{} x {} x {} blocks are more than a launch may have", grid.blocks, grid.blocks_y, grid.blocks_z);
  require(grid.shared_bytes <= context.properties().shared_bytes, name,
          "{} bytes of shared memory are needed, {} has {}", grid.shared_bytes, context.properties().name,
          context.properties().shared_bytes);
}
}  // namespace detail

/// Gives kernel(arguments…) to the context's stream; `name` is what errors call it. A grid without blocks is nothing to
/// do. Throws Error when the grid asks for more than the device has.
template <class... Parameters, class... Arguments>
void launch_kernel(const Context& context, std::string_view name, void (*kernel)(Parameters...), const Grid& grid,
                   const Arguments&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument for each parameter");
  if (grid.blocks <= 0 || grid.blocks_y <= 0 || grid.blocks_z <= 0) return;
  detail::check_grid(name, grid, context);
  std::tuple<std::remove_cv_t<Parameters>...> values(arguments...);
#ifdef __CUDACC__
  use_device(context.device());
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {&value...};
        gpu::launch(name, reinterpret_cast<const void*>(kernel), grid, context.stream(), pointers);
      },
      values);
#else
  using Call = std::pair<decltype(kernel), decltype(values)*>;
  const Call call(kernel, &values);
  emulation::run({.name = name,
                  .grid = grid,
                  .body =
                      [](const void* data) {
                        std::apply(static_cast<const Call*>(data)->first, *static_cast<const Call*>(data)->second);
                      },
                  .arguments = &call});
#endif
}

/// Blocks of `per_block` that cover `count`.
constexpr std::int64_t blocks_for(std::int64_t count, std::int64_t per_block) {
  return (count + per_block - 1) / per_block;
}

}  // namespace sq::cuda
