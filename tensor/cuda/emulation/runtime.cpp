// tensor/cuda/emulation/runtime.cpp: a GPU without a GPU. Its memory is a range of addresses that a thread may touch
// only within a kernel or a copy (memory protection keys, which change hands in a few nanoseconds): host code that
// follows a device pointer faults, as it does with a real GPU. Processors without such keys let it pass.
#include "tensor/cuda/runtime.h"

#include "tensor/cuda/emulation/block.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>

namespace sq::cuda {

struct StreamHandle {};
struct EventHandle {
  std::chrono::steady_clock::time_point time;
};

namespace {

constexpr std::size_t kTotalBytes = std::size_t{16} << 30;  // reserved addresses; memory is taken as it is touched
constexpr std::size_t kPage = 4096;

/// The memory of the one emulated device: first fit, neighbours merged.
class Arena {
 public:
  static Arena& instance() {
    static auto* arena = new Arena;  // never destroyed: tensors may outlive every other static object
    return *arena;
  }

  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + kPage - 1) / kPage * kPage;
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      if (hole->second < size) continue;
      const auto [begin, length] = *hole;
      holes_.erase(hole);
      if (length > size) holes_.emplace(begin + size, length - size);
      used_.emplace(begin, size);
      const std::size_t end = static_cast<std::size_t>(begin - base_) + size;
      if (end > reached_) open_up_to(end);
      free_ -= size;
      return begin;
    }
    return nullptr;
  }

  void give_back(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto block = used_.find(static_cast<std::byte*>(memory));
    require(block != used_.end(), "cuda", "{} is not memory of the device", memory);
    auto [begin, size] = *block;
    used_.erase(block);
    free_ += size;
    madvise(begin, size, MADV_DONTNEED);
    const auto next = holes_.lower_bound(begin);
    if (next != holes_.end() && begin + size == next->first) {
      size += next->second;
      holes_.erase(next);
    }
    const auto after = holes_.lower_bound(begin);
    if (after != holes_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == begin) {
        before->second += size;
        return;
      }
    }
    holes_.emplace(begin, size);
  }

  /// Of the calling thread.
  void allow(bool on) const {
    if (key_ >= 0) pkey_set(key_, on ? 0 : PKEY_DISABLE_ACCESS);
  }
  bool is_guarded() const { return key_ >= 0; }

  bool holds(const void* memory, std::size_t bytes) const {
    const auto* begin = static_cast<const std::byte*>(memory);
    return begin >= base_ && begin + bytes <= base_ + kTotalBytes;
  }
  std::size_t free() {
    const std::lock_guard lock(mutex_);
    return free_;
  }

 private:
  Arena() {
    void* memory = mmap(nullptr, kTotalBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(memory != MAP_FAILED, "cuda emulation", "no {} bytes of addresses for the emulated device", kTotalBytes);
    base_ = static_cast<std::byte*>(memory);
    key_ = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    holes_.emplace(base_, kTotalBytes);
  }

  /// Makes memory of the addresses below `end`.
  void open_up_to(std::size_t end) {
    constexpr std::size_t kStep = std::size_t{64} << 20;
    end = std::min((end + kStep - 1) / kStep * kStep, kTotalBytes);
    const int status = key_ >= 0 ? pkey_mprotect(base_, end, PROT_READ | PROT_WRITE, key_)
                                 : mprotect(base_, end, PROT_READ | PROT_WRITE);
    require(status == 0, "cuda emulation", "the system refuses {} bytes for the emulated device", end);
    reached_ = end;
  }

  std::mutex mutex_;
  std::byte* base_;
  std::map<std::byte*, std::size_t> holes_, used_;
  std::size_t reached_ = 0;  // nothing was ever handed out behind
  std::size_t free_ = kTotalBytes;
  int key_ = -1;  // of the memory's protection; negative where there is none
};

void require_device(const void* memory, std::size_t bytes, std::string_view what) {
  require(bytes == 0 || Arena::instance().holds(memory, bytes), what, "{} is not memory of the device", memory);
}
void require_host(const void* memory, std::size_t bytes, std::string_view what) {
  require(bytes == 0 || !Arena::instance().holds(memory, bytes), what, "{} is memory of the device, not the host's",
          memory);
}

}  // namespace

namespace emulation {
namespace {
constinit thread_local int accesses = 0;  // DeviceAccess objects of this thread
}

DeviceAccess::DeviceAccess() {
  if (accesses++ == 0) Arena::instance().allow(true);
}
DeviceAccess::~DeviceAccess() {
  if (--accesses == 0) Arena::instance().allow(false);
}
bool guards_memory() { return Arena::instance().is_guarded(); }
}  // namespace emulation

int device_count() { return 1; }
std::string why_no_device() { return {}; }
std::string driver_version() { return "emulated"; }

DeviceProperties device_properties(int) {
  return {.name = "emulated GPU",
          .major = 9,
          .minor = 0,
          .multiprocessors = 4,
          .total_bytes = kTotalBytes,
          .shared_bytes = std::size_t{227} << 10};
}
std::size_t free_bytes(int) { return Arena::instance().free(); }
void use_device(int device) {
  require(device == 0, "cuda", "there is no device cuda:{}; the emulated one is cuda:0", device);
}

void* allocate_raw(int, std::size_t bytes) { return Arena::instance().take(bytes); }
void free_raw(int, void* memory) {
  if (memory) Arena::instance().give_back(memory);
}
void* allocate_pinned(std::size_t bytes) {
  void* memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  require(memory != nullptr, "cuda", "cannot allocate {} bytes of pinned host memory", bytes);
  return memory;
}
void free_pinned(void* memory) { std::free(memory); }

Stream create_stream(int) {
  static StreamHandle only;
  return &only;
}
void synchronize(Stream, std::string_view) {}

void copy_to_device(Stream, void* to, const void* from, std::size_t bytes) {
  require_device(to, bytes, "copy to device");
  require_host(from, bytes, "copy to device");
  const emulation::DeviceAccess access;
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_to_host(Stream, void* to, const void* from, std::size_t bytes) {
  require_device(from, bytes, "copy to host");
  require_host(to, bytes, "copy to host");
  const emulation::DeviceAccess access;
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_on_device(Stream, void* to, const void* from, std::size_t bytes) {
  require_device(from, bytes, "copy on device");
  require_device(to, bytes, "copy on device");
  const emulation::DeviceAccess access;
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_between(Stream stream, void* to, int, const void* from, int, std::size_t bytes) {
  copy_on_device(stream, to, from, bytes);
}
void fill_bytes(Stream, void* to, int value, std::size_t bytes) {
  require_device(to, bytes, "fill");
  const emulation::DeviceAccess access;
  if (bytes > 0) std::memset(to, value, bytes);
}

Event create_event() { return new EventHandle; }
void destroy_event(Event event) { delete event; }
void record(Event event, Stream) { event->time = std::chrono::steady_clock::now(); }
void wait(Event) {}
double elapsed_ms(Event first, Event second) {
  return std::chrono::duration<double, std::milli>(second->time - first->time).count();
}

}  // namespace sq::cuda
