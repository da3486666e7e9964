// tensor/cpu/system_memory.h: memory straight from the system, for the block cache and for measuring.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <sys/mman.h>

namespace sq::cpu {

/// At least `bytes` bytes aligned to 64, or null; std::free gives them back. Large blocks begin at the border of a huge
/// page and ask for such pages, which Linux commonly gives on request only: 100 MB lie in 25,000 small pages, and
/// finding these for row after row of a matrix costs more than many a kernel.
inline std::byte* system_memory(std::size_t bytes) {
  constexpr std::size_t kLine = 64, kHugePage = std::size_t{1} << 21;
  void* block = nullptr;
  if (posix_memalign(&block, bytes >= kHugePage ? kHugePage : kLine, bytes) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugePage) madvise(block, bytes, MADV_HUGEPAGE);  // a wish; the block is good without it
#endif
  return static_cast<std::byte*>(block);
}

}  // namespace sq::cpu
