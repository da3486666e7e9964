// tensor/cpu/scratch.h: working memory of kernels.
#pragma once

#include "tensor/error.h"

#include <hwy/aligned_allocator.h>

#include <cstdint>

namespace sq::cpu {

/// An array of T that only ever grows; aligned for every vector type. Made thread_local by its users, so that kernels
/// ask the system for memory in their first calls only.
template <class T>
class Scratch {
 public:
  /// At least `count` elements with arbitrary contents, valid until the next call. Throws Error when memory is short.
  T* get(std::int64_t count) {
    if (count > capacity_) {
      data_.reset();
      capacity_ = 0;
      data_ = hwy::AllocateAligned<T>(static_cast<std::size_t>(count));
      require(data_ != nullptr, "scratch", "no memory for {} bytes of working space",
              count * static_cast<std::int64_t>(sizeof(T)));
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  hwy::AlignedFreeUniquePtr<T[]> data_;
  std::int64_t capacity_ = 0;
};

}  // namespace sq::cpu
