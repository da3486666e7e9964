// tensor/cuda/emulation/block.h: how the host plays a block of GPU threads.
//
// Every thread of a block that has to wait for others (at a barrier, in a warp operation) stops on a stack of its own
// (fiber.h) and goes on when they have come; one that never waits runs through, and its stack serves the next thread.
// A block runs on one thread of the system; blocks are spread over the workers (tensor/cpu/threads.h).
//
// What a GPU leaves undefined is an Error here that names the kernel: a barrier that not all threads of the block
// reach, or at which they wait in different places; a warp operation whose lanes disagree on the mask or the operation,
// or that reads a lane outside the mask. Shared memory begins as NaN (0xFF bytes) in every block. Threads, and blocks,
// run in an order drawn from a seed, so that a missing barrier shows.
#pragma once

#include "tensor/cuda/runtime.h"

namespace sq::cuda::emulation {

/// Which thread is running.
struct Place {
  int thread = 0, threads = 0;
  std::int64_t block[3] = {}, blocks[3] = {};
};
extern constinit thread_local Place place;

/// One launch: `body(arguments)` is one thread's work.
struct Launch {
  std::string_view name;
  Grid grid;
  void (*body)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
};
/// Runs all its threads. Throws what they throw.
void run(const Launch& launch);

/// Waits for all threads of the block. `line` is where the kernel calls.
void barrier(int line);

/// Waits for all lanes of `mask`; the last to come calls `complete(data of each lane, mask)` for all. `operation` names
/// it in errors; lanes that meet must name the same.
using Complete = void (*)(void* const* lanes, unsigned mask);
void collective(unsigned mask, void* data, Complete complete, const char* operation);

/// The block's dynamic shared memory, and an array of static shared memory that `key` stands for.
std::byte* dynamic_shared();
std::byte* static_shared(const void* key, std::size_t bytes);

/// The order of threads and blocks; the same seed gives the same order.
void set_order_seed(std::uint64_t seed);

/// Throws Error about the kernel that is running.
[[noreturn]] void fail(const std::string& text);

/// While one lives, its thread may read and write emulated device memory; without, doing so is a fault as it is with a
/// real GPU, provided that guards_memory() (runtime.cpp).
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};
bool guards_memory();

}  // namespace sq::cuda::emulation
