// tensor/cuda/runtime.h: the little that the library asks of a GPU's driver. Everything above is the same code for a
// real GPU (gpu/runtime.cpp, on the CUDA runtime) and for the emulated one (emulation/runtime.cpp).
//
// Every return code is checked: a failure throws Error that names what was being done and what CUDA said about it.
// Work given to a stream runs in order, and later than the call unless it says otherwise; a fault inside a kernel is
// reported by the next call that waits.
#pragma once

#include "tensor/error.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sq::cuda {

struct StreamHandle;
struct EventHandle;
using Stream = StreamHandle*;
using Event = EventHandle*;

/// GPUs that can be used; 0, without an exception, when there is none.
int device_count();
/// Why device_count() is 0, as the rest of a sentence: no driver, one too old for this build, no GPU.
std::string why_no_device();
/// "13.0", or "none" / "emulated".
std::string driver_version();

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::size_t total_bytes = 0;
  std::size_t shared_bytes = 0;  // shared memory that a block may ask for
};
DeviceProperties device_properties(int device);
/// Bytes of the device that nobody uses.
std::size_t free_bytes(int device);

/// Makes `device` the one that the calling thread's next calls are about.
void use_device(int device);

/// Device memory, 512-byte aligned; null when there is not enough. Contents arbitrary. Not for every day: the caching
/// allocator (allocator.h) stands in front.
void* allocate_raw(int device, std::size_t bytes);
void free_raw(int device, void* memory);
/// Host memory that the GPU can copy from and to while the host goes on.
void* allocate_pinned(std::size_t bytes);
void free_pinned(void* memory);

Stream create_stream(int device);
/// Waits until everything given to the stream is done; throws what went wrong in it.
void synchronize(Stream stream, std::string_view what);

/// Copies between host and device memory, in the stream's order. Host memory must be pinned, and stay until the copy
/// is done.
void copy_to_device(Stream stream, void* to, const void* from, std::size_t bytes);
void copy_to_host(Stream stream, void* to, const void* from, std::size_t bytes);
void copy_on_device(Stream stream, void* to, const void* from, std::size_t bytes);
/// Between the memories of two devices.
void copy_between(Stream stream, void* to, int to_device, const void* from, int from_device, std::size_t bytes);
/// Every byte becomes `value`.
void fill_bytes(Stream stream, void* to, int value, std::size_t bytes);

Event create_event();
void destroy_event(Event event);
void record(Event event, Stream stream);
/// Waits until the stream has come to where the event was recorded.
void wait(Event event);
/// Milliseconds between two recorded events that have happened.
double elapsed_ms(Event first, Event second);

/// How a kernel is spread: `blocks` × `blocks_y` × `blocks_z` blocks of `threads` threads, a multiple of 32 and at
/// most 1024, with `shared_bytes` of dynamic shared memory each. blocks_y and blocks_z are at most 65535.
struct Grid {
  std::int64_t blocks = 1;
  int threads = 256;
  std::size_t shared_bytes = 0;
  std::int64_t blocks_y = 1, blocks_z = 1;
};

}  // namespace sq::cuda
