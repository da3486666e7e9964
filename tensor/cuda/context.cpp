#include "tensor/cuda/context.h"

#include "tensor/cuda/build.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace sq::cuda {

/// Pinned buffers in a ring: a buffer is filled again when the copy out of it is done.
class Staging {
 public:
  Staging() {
    for (Slot& slot : slots_) {
      slot.memory = static_cast<std::byte*>(allocate_pinned(kBytes));
      slot.done = create_event();
    }
  }
  ~Staging() {
    for (const Slot& slot : slots_) {
      free_pinned(slot.memory);
      destroy_event(slot.done);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void upload(Stream stream, std::byte* to, const std::byte* from, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    for (std::size_t begin = 0; begin < bytes; begin += kBytes) {
      const std::size_t count = std::min(kBytes, bytes - begin);
      Slot& slot = take();
      std::memcpy(slot.memory, from + begin, count);
      copy_to_device(stream, to + begin, slot.memory, count);
      record(slot.done, stream);
      slot.used = true;
    }
  }

  void download(Stream stream, std::byte* to, const std::byte* from, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    // While one piece is copied out of its buffer, the next comes from the device.
    Slot* before = nullptr;
    std::size_t before_begin = 0, before_count = 0;
    const auto finish = [&] {
      if (!before) return;
      wait(before->done);
      std::memcpy(to + before_begin, before->memory, before_count);
    };
    for (std::size_t begin = 0; begin < bytes; begin += kBytes) {
      const std::size_t count = std::min(kBytes, bytes - begin);
      Slot& slot = take();
      copy_to_host(stream, slot.memory, from + begin, count);
      record(slot.done, stream);
      slot.used = true;
      finish();
      before = &slot;
      before_begin = begin;
      before_count = count;
    }
    finish();
    synchronize(stream, "copy to host");
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
  struct Slot {
    std::byte* memory = nullptr;
    Event done = nullptr;
    bool used = false;
  };

  Slot& take() {
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % slots_.size();
    if (slot.used) wait(slot.done);
    return slot;
  }

  std::mutex mutex_;
  std::array<Slot, 4> slots_;
  std::size_t next_ = 0;
};

Context::Context(int device)
    : device_(device),
      properties_(device_properties(device)),
      stream_(create_stream(device)),
      allocator_(std::make_unique<CachingAllocator>(device)),
      staging_(std::make_unique<Staging>()) {}

Context::~Context() = default;

void Context::upload(void* to, const void* from, std::size_t bytes) const {
  staging_->upload(stream_, static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
}
void Context::download(void* to, const void* from, std::size_t bytes) const {
  staging_->download(stream_, static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
}

namespace {

constexpr std::size_t kMostDevices = 64;

}  // namespace

const Context& context(Device device) {
  struct Slot {
    std::once_flag once;
    Context* context = nullptr;  // never destroyed: tensors may outlive every other static object
  };
  static std::array<Slot, kMostDevices> slots;
  const int index = device.index;
  require(index >= 0 && index < std::min(device_count(), static_cast<int>(kMostDevices)), "cuda",
          "there is no device {}: {}", name(device),
          device_count() == 0 ? why_no_device() : fmt::format("GPUs found: {}", device_count()));
  Slot& slot = slots[static_cast<std::size_t>(index)];
  std::call_once(slot.once, [&] { slot.context = new Context(index); });
  use_device(index);
  return *slot.context;
}

void require_available(Device device) {
  require_input(device_count() > 0, "device", "'{}' is not available: {}", name(device), why_no_device());
  require_input(device.index < device_count(), "device",
                "'{}' is not available: GPUs found: {}, named cuda:0 … cuda:{}", name(device), device_count(),
                device_count() - 1);
}

}  // namespace sq::cuda
