// tensor/cuda/threads.h: what a kernel's threads know and how they meet. Blocks are one-dimensional and made of whole
// warps of 32 lanes.
//
//   thread_index(), thread_count()     place in the block, threads of a block
//   lane_index(), warp_index(), warp_count()
//   block_index(axis), block_count(axis)   axis 0, 1 or 2
//   sync_threads()                     all threads of the block come here, in the same place, before one goes on; what
//                                      each wrote to shared or device memory before, all see after
//   sync_warp(mask)                    the same for the lanes of the mask
//   shuffle(value, lane, mask)         the value of another lane, which must be in the mask
//   shuffle_xor(value, lane_mask, mask), shuffle_up(value, distance, mask), shuffle_down(value, distance, mask)
//                                      up and down give a lane's own value back where there is no such lane
//   ballot(predicate, mask)            bit i: the predicate of lane i
//   first_lane(bits), last_lane(bits)  the lowest and highest bit of such a mask, which must not be 0
//   dynamic_shared<T>()                the block's Grid::shared_bytes, 16-byte aligned
//   static_shared<T, N, Tag>()         N uninitialised T in shared memory, one array for each Tag
//   copy_async(to, from), copy_async_commit(), copy_async_wait<N>()
//                                      16 bytes from device to shared memory beside the arithmetic; after waiting, and
//                                      sync_threads(), all but the N last committed groups are there
//
// Every lane of `mask` must make the call, the same one.
#pragma once

#include "tensor/cuda/launch.h"

#include <cstdint>

#ifdef __CUDACC__
#include "tensor/cuda/gpu/threads.h"
#else
#include "tensor/cuda/emulation/threads.h"
#endif

namespace sq::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_index() { return thread_index() % kWarp; }
__device__ inline int warp_index() { return thread_index() / kWarp; }
__device__ inline int warp_count() { return thread_count() / kWarp; }

/// This thread among all of a one-dimensional grid.
__device__ inline std::int64_t global_index() { return block_index() * thread_count() + thread_index(); }

}  // namespace sq::cuda
