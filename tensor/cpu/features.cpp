#include "tensor/cpu/features.h"

#include "tensor/cpu/threads.h"

#include <fmt/format.h>

#include <fstream>
#include <sched.h>

// Compiled once per vector target (foreach_target.h includes this file again); the rest follows under HWY_ONCE.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/features.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sq::cpu::HWY_NAMESPACE {
int vector_bits() {
  return static_cast<int>(8 * hwy::HWY_NAMESPACE::Lanes(hwy::HWY_NAMESPACE::ScalableTag<std::uint8_t>()));
}
}  // namespace sq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::cpu {
namespace {

HWY_EXPORT(vector_bits);

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.starts_with("model name") && colon != std::string::npos && colon + 2 < line.size())
      return line.substr(colon + 2);
  }
  return "unknown processor";
}

/// Sizes of the data caches of processor 0, from /sys: "48K" and the like.
void read_caches(CpuFeatures& features) {
  for (int index = 0;; ++index) {
    const std::string folder = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", index);
    std::ifstream level_file(folder + "level"), type_file(folder + "type"), size_file(folder + "size");
    int level = 0;
    std::string type;
    std::int64_t size = 0;
    char unit = ' ';
    if (!(level_file >> level) || !(type_file >> type) || !(size_file >> size)) return;
    size_file >> unit;
    if (unit == 'K') size *= 1024;
    if (unit == 'M') size *= 1024 * 1024;
    if (type == "Instruction") continue;
    if (level == 1) features.l1_bytes = size;
    if (level == 2) features.l2_bytes = size;
    if (level == 3) features.l3_bytes = size;
  }
}

CpuFeatures read_features() {
  CpuFeatures features;
  features.name = processor_name();
  features.physical_cores = physical_core_count();
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) features.logical_cores = CPU_COUNT(&allowed);
  read_caches(features);
  return features;
}

/// The best vector instructions among those our kernels are compiled for.
std::int64_t best_target() {
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return targets & -targets;  // a better target has a lower bit
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = read_features();
  return features;
}

std::string simd_name() {
  const std::int64_t target = best_target();
#if HWY_ARCH_X86
  if (target <= HWY_AVX3) return "AVX-512";  // or a later variant of it
#endif
  return hwy::TargetName(target);
}

int simd_bits() { return HWY_DYNAMIC_DISPATCH(vector_bits)(); }

}  // namespace sq::cpu
#endif  // HWY_ONCE
