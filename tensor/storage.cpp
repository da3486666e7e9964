#include "tensor/storage.h"

#include "tensor/cpu/system_memory.h"
#include "tensor/cuda/build.h"
#include "tensor/cuda/context.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

// Functions of AddressSanitizer; null in programs that are built without it.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*,
                                               std::size_t);  // NOLINT(bugprone-reserved-identifier)
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*,
                                                 std::size_t);  // NOLINT(bugprone-reserved-identifier)
}

namespace sq {
namespace {

constexpr std::size_t kAlignment = 64;

/// Under AddressSanitizer only the first `usable` bytes of a block may be touched: none while it waits in the cache,
/// then those that were asked for, not the rest of its size class.
void set_usable(std::byte* block, std::size_t usable, std::size_t size) {
  if (__asan_poison_memory_region == nullptr) return;
  __asan_unpoison_memory_region(block, usable);
  __asan_poison_memory_region(block + usable, size - usable);
}

/// Rounds a request up to its size class: multiples of 64 bytes up to 1 KiB, above that eight classes per power of two.
/// Requests of one class share blocks; at most an eighth of a block is unused.
std::size_t size_class(std::size_t bytes) {
  const std::size_t step = bytes <= 1024 ? kAlignment : std::bit_floor(bytes - 1) / 8;
  return std::max((bytes + step - 1) / step * step, kAlignment);
}

/// Free blocks by size class. One per process; the mutex is held for a few instructions only.
class BlockCache {
 public:
  static BlockCache& instance() {
    static auto* cache = new BlockCache;  // never destroyed: tensors may outlive every other static object
    return *cache;
  }

  std::byte* take(std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    const std::lock_guard lock(mutex_);
    std::byte* block = nullptr;
    if (auto& free = free_[size]; !free.empty()) {
      block = free.back();
      free.pop_back();
      statistics_.cached -= size;
    } else {
      block = cpu::system_memory(size);
      if (!block && statistics_.cached > 0) {  // the cache itself may be what fills the memory
        release_locked();
        block = cpu::system_memory(size);
      }
      require(block != nullptr, "memory", "cannot allocate {} bytes; {} bytes are in use", size, statistics_.in_use);
      ++statistics_.system_allocations;
    }
    statistics_.in_use += size;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    set_usable(block, bytes, size);
    if (poison_) std::memset(block, 0xFF, bytes);
    return block;
  }

  void give_back(std::byte* block, std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    const std::lock_guard lock(mutex_);
    set_usable(block, 0, size);
    free_[size].push_back(block);
    statistics_.in_use -= size;
    statistics_.cached += size;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_locked();
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }

  void set_poison(bool on) {
    const std::lock_guard lock(mutex_);
    poison_ = on;
  }
  bool poisons() {
    const std::lock_guard lock(mutex_);
    return poison_;
  }

 private:
  void release_locked() {
    for (auto& [size, blocks] : free_)
      for (std::byte* block : blocks) std::free(block);
    free_.clear();
    statistics_.cached = 0;
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<std::byte*>> free_;
  MemoryStatistics statistics_;
  bool poison_ = false;
};

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  require(device.is_cpu() || cuda::kBuilt, "memory", "device {} is not available in this build", name(device));
  require(bytes <= std::size_t{1} << 62, "memory", "cannot allocate {} bytes", bytes);
  if constexpr (cuda::kBuilt) {
    if (device.is_cuda()) {
      const cuda::Context& context = cuda::context(device);
      std::shared_ptr<Storage> storage(new Storage(context.allocator().take(bytes), bytes, device));
      if (BlockCache::instance().poisons()) cuda::fill_bytes(context.stream(), storage->data(), 0xFF, bytes);
      return storage;
    }
  }
  return std::shared_ptr<Storage>(new Storage(BlockCache::instance().take(bytes), bytes, device));
}

std::shared_ptr<Storage> Storage::wrap(const void* data, std::size_t bytes, std::shared_ptr<const void> owner) {
  auto* start = const_cast<std::byte*>(static_cast<const std::byte*>(data));
  std::shared_ptr<Storage> storage(new Storage(start, bytes, Device{}));
  storage->owner_ = std::move(owner);
  return storage;
}

Storage::~Storage() {
  if (owner_) return;
  if constexpr (cuda::kBuilt) {
    if (device_.is_cuda()) {
      cuda::context(device_).allocator().give_back(data_);
      return;
    }
  }
  BlockCache::instance().give_back(data_, bytes_);
}

MemoryStatistics memory_statistics(Device device) {
  if constexpr (cuda::kBuilt)
    if (device.is_cuda()) return cuda::context(device).allocator().statistics();
  return BlockCache::instance().statistics();
}
void reset_peak_memory(Device device) {
  if constexpr (cuda::kBuilt)
    if (device.is_cuda()) return cuda::context(device).allocator().reset_peak();
  BlockCache::instance().reset_peak();
}
void release_cached_memory(Device device) {
  if constexpr (cuda::kBuilt) {
    if (device.is_cuda()) {
      cuda::context(device).synchronize("memory");
      return cuda::context(device).allocator().release();
    }
  }
  BlockCache::instance().release();
}
void set_memory_limit(Device device, std::size_t bytes) {
  require(device.is_cuda() && cuda::kBuilt, "memory", "a limit can be set for a GPU only, not for {}", name(device));
  if constexpr (cuda::kBuilt) cuda::context(device).allocator().set_limit(bytes);
}
void set_memory_poison(bool on) { BlockCache::instance().set_poison(on); }

}  // namespace sq
