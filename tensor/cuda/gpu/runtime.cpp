// tensor/cuda/gpu/runtime.cpp: runtime.h on the CUDA runtime library.
#include "tensor/cuda/runtime.h"

#include "tensor/cuda/gpu/launch.h"

#include <cuda_runtime_api.h>
#include <map>
#include <mutex>

namespace sq::cuda {
namespace {

/// Throws unless CUDA is content. A failed call's error is taken off CUDA's own record of it.
template <class... Args>
void check(cudaError_t status, std::string_view where, fmt::format_string<Args...> text, Args&&... args) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();
  throw Error(fmt::format("{}: {}: {} ({})", where, fmt::format(text, std::forward<Args>(args)...),
                          cudaGetErrorString(status), cudaGetErrorName(status)));
}

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

cudaStream_t native(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t native(Event event) { return reinterpret_cast<cudaEvent_t>(event); }

struct Found {
  int count = 0;
  std::string why_none;
};

/// Asked once: devices do not come and go.
const Found& found() {
  static const Found result = [] {
    Found f;
    int driver = 0;
    const cudaError_t status = cudaGetDeviceCount(&f.count);
    cudaDriverGetVersion(&driver);
    if (status == cudaSuccess && f.count > 0) return f;
    cudaGetLastError();
    f.count = 0;
    if (driver == 0)
      f.why_none = "no NVIDIA driver was found; install one";
    else if (status == cudaErrorInsufficientDriver)
      f.why_none = fmt::format("the NVIDIA driver supports CUDA {}, this build needs {}; update the driver",
                               version_text(driver), version_text(CUDART_VERSION));
    else if (status == cudaErrorNoDevice || status == cudaSuccess)
      f.why_none = "the NVIDIA driver finds no GPU";
    else
      f.why_none = fmt::format("the NVIDIA driver says: {}", cudaGetErrorString(status));
    return f;
  }();
  return result;
}

}  // namespace

int device_count() { return found().count; }
std::string why_no_device() { return found().why_none; }

std::string driver_version() {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return driver == 0 ? "none" : version_text(driver);
}

DeviceProperties device_properties(int device) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, device), "cuda", "asking for the properties of cuda:{}", device);
  return {.name = p.name,
          .major = p.major,
          .minor = p.minor,
          .multiprocessors = p.multiProcessorCount,
          .total_bytes = p.totalGlobalMem,
          .shared_bytes = p.sharedMemPerBlockOptin};
}

std::size_t free_bytes(int device) {
  use_device(device);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cuda", "asking for the free memory of cuda:{}", device);
  return free;
}

void use_device(int device) { check(cudaSetDevice(device), "cuda", "choosing cuda:{}", device); }

void* allocate_raw(int device, std::size_t bytes) {
  use_device(device);
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cuda", "allocating {} bytes on cuda:{}", bytes, device);
  return memory;
}

void free_raw(int device, void* memory) {
  use_device(device);
  check(cudaFree(memory), "cuda", "giving memory of cuda:{} back", device);
}

void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "cuda", "allocating {} bytes of pinned host memory", bytes);
  return memory;
}
void free_pinned(void* memory) { check(cudaFreeHost(memory), "cuda", "giving pinned memory back"); }

Stream create_stream(int device) {
  use_device(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cuda", "creating a stream on cuda:{}", device);
  return reinterpret_cast<Stream>(stream);
}
void synchronize(Stream stream, std::string_view what) {
  check(cudaStreamSynchronize(native(stream)), what, "a kernel or copy given to the GPU before failed");
}

namespace {
void copy(Stream stream, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, std::string_view what) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, kind, native(stream)), what, "copying {} bytes", bytes);
}
}  // namespace

void copy_to_device(Stream stream, void* to, const void* from, std::size_t bytes) {
  copy(stream, to, from, bytes, cudaMemcpyHostToDevice, "copy to device");
}
void copy_to_host(Stream stream, void* to, const void* from, std::size_t bytes) {
  copy(stream, to, from, bytes, cudaMemcpyDeviceToHost, "copy to host");
}
void copy_on_device(Stream stream, void* to, const void* from, std::size_t bytes) {
  copy(stream, to, from, bytes, cudaMemcpyDeviceToDevice, "copy on device");
}
void copy_between(Stream stream, void* to, int to_device, const void* from, int from_device, std::size_t bytes) {
  check(cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, native(stream)), "copy between devices",
        "copying {} bytes from cuda:{} to cuda:{}", bytes, from_device, to_device);
}
void fill_bytes(Stream stream, void* to, int value, std::size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(to, value, bytes, native(stream)), "fill", "filling {} bytes", bytes);
}

Event create_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cuda", "creating an event");
  return reinterpret_cast<Event>(event);
}
void destroy_event(Event event) { check(cudaEventDestroy(native(event)), "cuda", "destroying an event"); }
void record(Event event, Stream stream) {
  check(cudaEventRecord(native(event), native(stream)), "cuda", "recording an event");
}
void wait(Event event) { check(cudaEventSynchronize(native(event)), "cuda", "waiting for an event"); }
double elapsed_ms(Event first, Event second) {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, native(first), native(second)), "cuda", "reading the time between events");
  return static_cast<double>(ms);
}

namespace gpu {
namespace {

/// More than 48 KiB of dynamic shared memory must be asked for once for each kernel and device.
void allow_shared_memory(std::string_view name, const void* kernel, std::size_t bytes) {
  if (bytes <= std::size_t{48} << 10) return;
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, std::size_t> allowed;
  int device = 0;
  check(cudaGetDevice(&device), name, "asking for the device");
  const std::lock_guard lock(mutex);
  std::size_t& most = allowed[{device, kernel}];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), name,
        "asking for {} bytes of shared memory", bytes);
  most = bytes;
}

}  // namespace

void launch(std::string_view name, const void* kernel, const Grid& grid, Stream stream, void** arguments) {
  allow_shared_memory(name, kernel, grid.shared_bytes);
  const dim3 blocks(static_cast<unsigned>(grid.blocks), static_cast<unsigned>(grid.blocks_y),
                    static_cast<unsigned>(grid.blocks_z));
  check(cudaLaunchKernel(kernel, blocks, dim3(static_cast<unsigned>(grid.threads)), arguments, grid.shared_bytes,
                         native(stream)),
        name, "launching {} x {} x {} blocks of {} threads with {} bytes of shared memory", grid.blocks, grid.blocks_y,
        grid.blocks_z, grid.threads, grid.shared_bytes);
}

}  // namespace gpu
}  // namespace sq::cuda
