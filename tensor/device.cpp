#include "tensor/device.h"

#include "tensor/cuda/context.h"

#include <charconv>
#include <utility>

namespace sq {
namespace {

constinit thread_local Device current_default = {};

}  // namespace

Device default_device() { return current_default; }
UseDevice::UseDevice(Device device) : before_(std::exchange(current_default, device)) {}
UseDevice::~UseDevice() { current_default = before_; }

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
  cuda::require_available(cuda_device(index));
  return cuda_device(index);
}

}  // namespace sq
