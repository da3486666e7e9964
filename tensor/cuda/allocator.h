// tensor/cuda/allocator.h: device memory that is handed out again and again without asking the driver.
#pragma once

#include "tensor/storage.h"

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

namespace sq::cuda {

/// The memory of one device, for work that runs on one stream: a block that is given back may be handed out at once,
/// since whoever gets it can only use it after whoever had it. Blocks are cut from segments that the driver gave
/// (2 MiB for small blocks, 32 MiB and more for large ones), best fit first; free neighbours become one again.
/// May be called from any thread.
class CachingAllocator {
 public:
  explicit CachingAllocator(int device) : device_(device) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// At least `bytes` bytes, 512-byte aligned; contents arbitrary. Throws Error saying how much was asked for, is free
  /// and in use when the device or the limit has no room, cached segments included.
  std::byte* take(std::size_t bytes);
  void give_back(std::byte* memory);

  /// `in_use` and `cached` count blocks and the room between them; `system_allocations` counts the driver's segments.
  MemoryStatistics statistics() const;
  void reset_peak();
  /// Gives segments in which nothing is used back to the driver. The caller sees to it that no work is under way.
  void release();
  /// Most bytes to take from the driver; 0 for no limit. Throws Error when more is taken already and in use.
  void set_limit(std::size_t bytes);

 private:
  struct Segment;
  struct Piece {
    std::byte* begin;
    std::size_t size;
    bool free;
    Segment* segment;
  };
  using Pieces = std::list<Piece>;
  struct Segment {
    std::byte* begin;
    std::size_t size;
    bool small;
    Pieces pieces;  // in order of addresses
  };
  struct SmallestFirst {
    bool operator()(const Pieces::iterator& a, const Pieces::iterator& b) const {
      return a->size != b->size ? a->size < b->size : a->begin < b->begin;
    }
  };
  using FreePieces = std::set<Pieces::iterator, SmallestFirst>;

  Pieces::iterator find_or_grow(std::size_t size);
  bool grow(std::size_t size);
  std::size_t release_locked();
  FreePieces& free_pieces(const Segment& segment) { return segment.small ? free_small_ : free_large_; }

  const int device_;
  mutable std::mutex mutex_;
  std::list<std::unique_ptr<Segment>> segments_;
  FreePieces free_small_, free_large_;
  std::unordered_map<std::byte*, Pieces::iterator> used_;
  MemoryStatistics statistics_;
  std::size_t taken_ = 0;  // from the driver
  std::size_t limit_ = 0;
};

}  // namespace sq::cuda
