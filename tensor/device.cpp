#include "tensor/device.h"

#include <charconv>

namespace sq {

std::string name(Device device) { return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index); }

Device parse_device(std::string_view text) {
  if (text == "cpu") return {};
  int index = 0;
  bool valid = text == "cuda";
  if (text.starts_with("cuda:")) {
    const std::string_view digits = text.substr(5);
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    valid = status == std::errc() && end == digits.data() + digits.size() && index >= 0;
  }
  require_input(valid, "device", "'{}' is not a device; use cpu, cuda or cuda:N", text);
  throw UsageError(fmt::format("device: '{}' is not available: this build has no CUDA; use cpu", text));
}

}  // namespace sq
