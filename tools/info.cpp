// subquad info: what this machine is and what the library makes of it.
#include "models/presets.h"
#include "nn/mixers/registry.h"
#include "tensor/cpu/blas.h"
#include "tensor/cpu/features.h"
#include "tensor/cpu/measure.h"
#include "tensor/cpu/threads.h"
#include "tensor/cuda/build.h"
#include "tensor/cuda/context.h"
#include "tools/cli.h"
#include "train/data/tasks.h"

#include <fmt/ranges.h>

namespace sq::cli {
namespace {

Json gather_info() {
  const cpu::CpuFeatures& features = cpu::cpu_features();
  const cpu::OpenBlas& blas = cpu::openblas();
  Json info;
  info["version"] = SUBQUAD_VERSION;
  info["cpu"] = features.name;
  info["physical_cores"] = features.physical_cores;
  info["logical_cores"] = features.logical_cores;
  info["threads"] = cpu::thread_count();
  info["simd"] = cpu::simd_name();
  info["simd_bits"] = cpu::simd_bits();
  info["l1_bytes"] = features.l1_bytes;
  info["l2_bytes"] = features.l2_bytes;
  info["l3_bytes"] = features.l3_bytes;
  info["openblas"] = blas.linked ? Json(blas.version) : Json(nullptr);
  info["openblas_core"] = blas.linked ? Json(blas.core) : Json(nullptr);
  info["gemm"] = cpu::name(cpu::gemm_backend());
  info["gemm_reason"] = cpu::gemm_backend_reason();
  info["gemm_gflops"] = cpu::measure_gemm_gflops(1024, 768, 768, 10);
  info["copy_gbytes_per_s"] = cpu::measure_copy_bandwidth();
  info["cuda"] = cuda::kBuilt;
  info["cuda_driver"] = cuda::driver_version();
  info["gpus"] = Json::array();
  if constexpr (cuda::kBuilt)
    for (int gpu = 0; gpu < cuda::device_count(); ++gpu) {
      const cuda::DeviceProperties properties = cuda::device_properties(gpu);
      info["gpus"].push_back({{"name", properties.name},
                              {"compute_capability", fmt::format("{}.{}", properties.major, properties.minor)},
                              {"multiprocessors", properties.multiprocessors},
                              {"total_bytes", properties.total_bytes},
                              {"free_bytes", cuda::free_bytes(gpu)}});
    }
  for (const MixerEntry* entry : mixer_registry()) info["mixers"].push_back(entry->name);
  for (const TaskEntry& task : task_registry()) info["tasks"].push_back(task.name);
  for (const Preset& preset : presets()) info["presets"].push_back(preset.name);
  return info;
}

void print_for_people(const Json& info) {
  const auto line = [](std::string_view key, const std::string& value) { fmt::print("{:<10} {}\n", key, value); };
  const auto text = [&](const char* key) { return info[key].get<std::string>(); };
  line("version", text("version"));
  line("cpu", fmt::format("{}, {} physical of {} logical cores", text("cpu"), info["physical_cores"].get<int>(),
                          info["logical_cores"].get<int>()));
  line("simd", fmt::format("{}, {} bits", text("simd"), info["simd_bits"].get<int>()));
  line("threads", std::to_string(info["threads"].get<int>()));
  line("openblas", info["openblas"].is_null() ? "not in this build"
                                              : fmt::format("{}, which took this processor for '{}'", text("openblas"),
                                                            text("openblas_core")));
  line("gemm", text("gemm_reason"));
  line("measured", fmt::format("{:.0f} GFLOP/s (f32, 1024x768x768), copy {:.1f} GB/s",
                               info["gemm_gflops"].get<double>(), info["copy_gbytes_per_s"].get<double>()));
  if (info["gpus"].empty()) line("gpu", "none: " + cuda::why_no_device());
  for (const Json& gpu : info["gpus"])
    line("gpu",
         fmt::format("{}, compute capability {}, {:.1f} of {:.1f} GB free, driver {}", gpu["name"].get<std::string>(),
                     gpu["compute_capability"].get<std::string>(), gpu["free_bytes"].get<double>() * 1e-9,
                     gpu["total_bytes"].get<double>() * 1e-9, text("cuda_driver")));
  line("mixers", fmt::format("{}", fmt::join(info["mixers"].get<std::vector<std::string>>(), ", ")));
  line("tasks", fmt::format("{}", fmt::join(info["tasks"].get<std::vector<std::string>>(), ", ")));
  line("presets", fmt::format("{}", fmt::join(info["presets"].get<std::vector<std::string>>(), ", ")));
}

}  // namespace

void add_info(CLI::App& app) {
  auto common = std::make_shared<Common>();
  CLI::App* command = app.add_subcommand("info", "show processor, GPUs, threads, matrix library, mixers and presets");
  add_common(*command, *common);
  command->callback([common, command] {
    common->apply(*command);
    const Json info = gather_info();
    if (common->json)
      print_line(info);
    else
      print_for_people(info);
  });
}

}  // namespace sq::cli
