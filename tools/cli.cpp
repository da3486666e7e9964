#include "tools/cli.h"

#include "tensor/cpu/threads.h"
#include "tensor/random.h"
#include "tensor/storage.h"

namespace sq::cli {

void add_common(CLI::App& command, Common& common) {
  const std::string group = "Common flags";
  command.add_option("--device", common.device, "cpu, cuda or cuda:N")->capture_default_str()->group(group);
  command.add_option("--dtype", common.dtype, "f32, bf16 or f16")->capture_default_str()->group(group);
  command.add_option("--gpu-memory", common.gpu_memory, "most that tensors may take of a GPU's memory, such as 16GB")
      ->transform(CLI::AsSizeValue(false))
      ->group(group);
  command.add_option("--threads", common.threads, "threads of the kernels; default: the physical cores")->group(group);
  command.add_option("--seed", common.seed, "seed of all random numbers")->capture_default_str()->group(group);
  command.add_flag("--quiet", common.quiet, "no progress and no remarks on stderr")->group(group);
  command.add_flag("--json", common.json, "results as JSON, one object a line")->group(group);
}

void Common::apply(const CLI::App& command) {
  const Device where = options().device;
  use_device_.reset();
  use_device_.emplace(where);
  if (command.count("--gpu-memory") > 0) {
    require_input(where.is_cuda(), "--gpu-memory", "there is no GPU in use; give --device cuda too");
    set_memory_limit(where, gpu_memory);
  }
  require_input(seed >= 0, "--seed", "{} is negative; use 0 or more", seed);
  if (command.count("--threads") > 0) {
    require_input(threads >= 1 && threads <= 4096, "--threads", "{} is not a number of threads; use 1 to 4096",
                  threads);
    cpu::set_thread_count(static_cast<int>(threads));
  }
  default_generator() = Generator(static_cast<std::uint64_t>(seed));
}

TensorOptions Common::options() const {
  const DType type = parse_dtype(dtype);
  require_input(type == DType::f32 || is_half(type), "--dtype", "'{}' is not offered here; use f32, bf16 or f16",
                dtype);
  return {type, parse_device(device)};
}

void print_line(const Json& object) {
  fmt::print("{}\n", object.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);
}

}  // namespace sq::cli
