#include "tensor/cuda/allocator.h"

#include "tensor/cuda/build.h"
#include "tensor/cuda/runtime.h"

#include <algorithm>

// Functions of AddressSanitizer; null in programs that are built without it.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, std::size_t);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace sq::cuda {
namespace {

constexpr std::size_t kUnit = 512, kSmall = std::size_t{1} << 20;
constexpr std::size_t kSmallSegment = std::size_t{2} << 20, kLargeSegment = std::size_t{32} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Of an emulated device's piece only what was asked for may be touched; one unit of it lies between two pieces.
constexpr std::size_t kGap = kEmulated ? 64 : 0;
void set_usable(std::byte* begin, std::size_t usable, std::size_t size) {
  if (!kEmulated || __asan_poison_memory_region == nullptr) return;
  __asan_unpoison_memory_region(begin, usable);
  __asan_poison_memory_region(begin + usable, size - usable);
}

}  // namespace

CachingAllocator::~CachingAllocator() {
  for (const auto& segment : segments_) free_raw(device_, segment->begin);
}

std::byte* CachingAllocator::take(std::size_t bytes) {
  require(bytes <= std::size_t{1} << 62, "memory", "cannot allocate {} bytes", bytes);
  const std::size_t size = std::max(round_up(bytes + kGap, kUnit), kUnit);
  const std::lock_guard lock(mutex_);
  const Pieces::iterator piece = find_or_grow(size);
  FreePieces& free = free_pieces(*piece->segment);
  free.erase(piece);
  if (piece->size - size >= kUnit) {  // the rest stays free
    const Piece rest{piece->begin + size, piece->size - size, true, piece->segment};
    piece->size = size;
    free.insert(piece->segment->pieces.insert(std::next(piece), rest));
  }
  piece->free = false;
  used_.emplace(piece->begin, piece);
  statistics_.in_use += size;
  statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
  statistics_.cached = taken_ - statistics_.in_use;
  set_usable(piece->begin, bytes, size);
  return piece->begin;
}

void CachingAllocator::give_back(std::byte* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = used_.find(memory);
  require(found != used_.end(), "memory", "{} was not taken from this device", static_cast<void*>(memory));
  Pieces::iterator piece = found->second;
  used_.erase(found);
  statistics_.in_use -= piece->size;
  statistics_.cached = taken_ - statistics_.in_use;
  set_usable(piece->begin, 0, piece->size);
  Segment& segment = *piece->segment;
  FreePieces& free = free_pieces(segment);
  piece->free = true;
  if (const auto next = std::next(piece); next != segment.pieces.end() && next->free) {
    free.erase(next);
    piece->size += next->size;
    segment.pieces.erase(next);
  }
  if (piece != segment.pieces.begin() && std::prev(piece)->free) {
    const auto before = std::prev(piece);
    free.erase(before);
    before->size += piece->size;
    segment.pieces.erase(piece);
    piece = before;
  }
  free.insert(piece);
}

CachingAllocator::Pieces::iterator CachingAllocator::find_or_grow(std::size_t size) {
  const bool small = size <= kSmall;
  FreePieces& free = small ? free_small_ : free_large_;
  Pieces wanted{{nullptr, size, true, nullptr}};
  for (int attempt = 0;; ++attempt) {
    const auto found = free.lower_bound(wanted.begin());
    if (found != free.end()) return *found;
    if (attempt == 0 && grow(size)) continue;
    // What lies about in other segments may be what is missing.
    if (attempt <= 1 && release_locked() > 0 && grow(size)) continue;
    const std::size_t total = device_properties(device_).total_bytes;
    throw Error(
        fmt::format("memory: cannot allocate {} bytes on cuda:{}: {} bytes are in use by tensors, {} are cached in "
                    "pieces too small, "
                    "{} of the device's {} are free{}; use a smaller batch or context",
                    size, device_, statistics_.in_use, statistics_.cached, free_bytes(device_), total,
                    limit_ > 0 ? fmt::format(", and the limit is {}", limit_) : ""));
  }
}

/// Another segment of the driver's memory; false when there is no room for it.
bool CachingAllocator::grow(std::size_t size) {
  const bool small = size <= kSmall;
  const auto attempt = [&](std::size_t bytes) {
    if (limit_ > 0 && taken_ + bytes > limit_) return false;
    auto* begin = static_cast<std::byte*>(allocate_raw(device_, bytes));
    if (!begin) return false;
    ++statistics_.system_allocations;
    taken_ += bytes;
    segments_.push_back(std::make_unique<Segment>(Segment{begin, bytes, small, {}}));
    Segment& segment = *segments_.back();
    segment.pieces.push_back({begin, bytes, true, &segment});
    (small ? free_small_ : free_large_).insert(segment.pieces.begin());
    set_usable(begin, 0, bytes);
    return true;
  };
  const std::size_t exact = round_up(size, kSmallSegment);
  if (small) return attempt(kSmallSegment);
  return (exact < kLargeSegment && attempt(kLargeSegment)) || attempt(exact);
}

std::size_t CachingAllocator::release_locked() {
  std::size_t released = 0;
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    Segment& s = **segment;
    if (s.pieces.size() != 1 || !s.pieces.front().free) {
      ++segment;
      continue;
    }
    free_pieces(s).erase(s.pieces.begin());
    if (kEmulated && __asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(s.begin, s.size);
    free_raw(device_, s.begin);
    released += s.size;
    segment = segments_.erase(segment);
  }
  taken_ -= released;
  statistics_.cached = taken_ - statistics_.in_use;
  return released;
}

MemoryStatistics CachingAllocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  statistics_.peak = statistics_.in_use;
}

void CachingAllocator::release() {
  const std::lock_guard lock(mutex_);
  release_locked();
}

void CachingAllocator::set_limit(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > 0 && taken_ > bytes) release_locked();
  require(bytes == 0 || taken_ <= bytes, "memory", "a limit of {} bytes is below the {} that cuda:{} uses already",
          bytes, taken_, device_);
  limit_ = bytes;
}

}  // namespace sq::cuda
