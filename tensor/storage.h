// tensor/storage.h: a block of bytes shared by the tensors that view it, and the cache that blocks come from.
#pragma once

#include "tensor/device.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sq {

/// An owned block of memory, 64-byte aligned on the CPU. Blocks are returned to a cache when the last owner goes and
/// are handed out again, so that a training loop in steady state asks the system for nothing.
class Storage {
 public:
  /// Uninitialised memory; a GPU's is ready for what its stream does next. Throws Error saying how much was asked for
  /// when there is not enough.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, Device device);
  /// Memory owned by someone else (a mapped file); `owner` is kept alive. Such storage is read-only by convention.
  static std::shared_ptr<Storage> wrap(const void* data, std::size_t bytes, std::shared_ptr<const void> owner);

  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  std::byte* data() { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place changes; autograd compares it to refuse a backward pass over changed values.
  std::uint64_t version() const { return version_; }
  void mark_changed() { ++version_; }

 private:
  Storage(std::byte* data, std::size_t bytes, Device device) : data_(data), bytes_(bytes), device_(device) {}

  std::byte* data_;
  std::size_t bytes_;  // the size asked for; the block behind it may be larger
  Device device_;
  std::uint64_t version_ = 0;
  std::shared_ptr<const void> owner_;
};

/// What a device's block cache holds, in bytes, and how often it had to ask the system (the driver).
struct MemoryStatistics {
  std::size_t in_use = 0;                // bytes of live blocks
  std::size_t peak = 0;                  // largest `in_use` since the last reset_peak_memory()
  std::size_t cached = 0;                // bytes held for reuse
  std::uint64_t system_allocations = 0;  // calls to the system allocator since the program began
};
MemoryStatistics memory_statistics(Device device = {});
void reset_peak_memory(Device device = {});
/// Returns all cached blocks to the system.
void release_cached_memory(Device device = {});
/// Most bytes that tensors of a GPU may take; 0 for no limit. Throws Error when more are in use already, or for the
/// CPU.
void set_memory_limit(Device device, std::size_t bytes);
/// While on, every new block is filled with 0xFF bytes (NaN in every float type), so that a kernel that forgets an
/// element is caught. For tests.
void set_memory_poison(bool on);

}  // namespace sq
