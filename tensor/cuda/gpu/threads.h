// tensor/cuda/gpu/threads.h: tensor/cuda/threads.h on a GPU.
#pragma once

#include <cstdint>

namespace sq::cuda {

__device__ inline int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ inline int thread_count() { return static_cast<int>(blockDim.x); }
__device__ inline std::int64_t block_index(int axis = 0) {
  return axis == 0 ? blockIdx.x : axis == 1 ? blockIdx.y : blockIdx.z;
}
__device__ inline std::int64_t block_count(int axis = 0) {
  return axis == 0 ? gridDim.x : axis == 1 ? gridDim.y : gridDim.z;
}

__device__ inline void sync_threads() { __syncthreads(); }
__device__ inline void sync_warp(unsigned mask = 0xffffffffu) { __syncwarp(mask); }

template <class T>
__device__ inline T shuffle(T value, int lane, unsigned mask = 0xffffffffu) {
  return __shfl_sync(mask, value, lane);
}
template <class T>
__device__ inline T shuffle_xor(T value, int lane_mask, unsigned mask = 0xffffffffu) {
  return __shfl_xor_sync(mask, value, lane_mask);
}
template <class T>
__device__ inline T shuffle_up(T value, int distance, unsigned mask = 0xffffffffu) {
  return __shfl_up_sync(mask, value, static_cast<unsigned>(distance));
}
template <class T>
__device__ inline T shuffle_down(T value, int distance, unsigned mask = 0xffffffffu) {
  return __shfl_down_sync(mask, value, static_cast<unsigned>(distance));
}
__device__ inline unsigned ballot(bool predicate, unsigned mask = 0xffffffffu) {
  return __ballot_sync(mask, predicate);
}

__device__ inline int first_lane(unsigned bits) { return __ffs(static_cast<int>(bits)) - 1; }
__device__ inline int last_lane(unsigned bits) { return 31 - __clz(static_cast<int>(bits)); }

template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}
template <class T, int N, class Tag>
__device__ inline T* static_shared() {
  __shared__ __align__(16) unsigned char memory[sizeof(T) * N];
  return reinterpret_cast<T*>(memory);
}

__device__ inline void copy_async(void* to, const void* from) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
}
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace sq::cuda
