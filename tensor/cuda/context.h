// tensor/cuda/context.h: everything that belongs to one GPU: its stream, its memory, its matrix library.
#pragma once

#include "tensor/cuda/allocator.h"
#include "tensor/cuda/runtime.h"
#include "tensor/device.h"

#include <memory>
#include <mutex>

namespace sq::cuda {

class Staging;

/// One for each GPU, made when first asked for; the library gives all work of a GPU to its one stream, in the order of
/// the calls. Kernels get it as their first argument: nothing else says where they run.
class Context {
 public:
  explicit Context(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int device() const { return device_; }
  Stream stream() const { return stream_; }
  const DeviceProperties& properties() const { return properties_; }
  CachingAllocator& allocator() const { return *allocator_; }

  /// Waits until all work given so far is done; throws what went wrong in it.
  void synchronize(std::string_view what = "cuda") const { cuda::synchronize(stream_, what); }

  /// Copies between the device and any host memory. To the device: through pinned buffers, so that the host goes on at
  /// once and may change `from`. To the host: waits.
  void upload(void* to, const void* from, std::size_t bytes) const;
  void download(void* to, const void* from, std::size_t bytes) const;

  /// What the matrix library (gemm.h) keeps for this device.
  class Library {
   public:
    virtual ~Library() = default;
  };
  Library* library() const { return library_.get(); }
  void set_library(std::unique_ptr<Library> library) const { library_ = std::move(library); }

 private:
  const int device_;
  DeviceProperties properties_;
  Stream stream_;
  std::unique_ptr<CachingAllocator> allocator_;
  std::unique_ptr<Staging> staging_;
  mutable std::unique_ptr<Library> library_;
};

/// The context of a CUDA device, which becomes the one the thread's next calls are about. Throws Error when there is no
/// such device, saying why.
const Context& context(Device device);

/// Throws UsageError unless the GPU is there: no CUDA in this build, no driver, one too old, a number too high.
void require_available(Device device);

/// Device memory of `count` T for as long as a kernel's launches last: what is launched before it goes may use it.
template <class T>
class Buffer {
 public:
  Buffer(const Context& context, std::int64_t count)
      : context_(context), data_(context.allocator().take(static_cast<std::size_t>(count) * sizeof(T))) {}
  ~Buffer() { context_.allocator().give_back(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return reinterpret_cast<T*>(data_); }

 private:
  const Context& context_;
  std::byte* data_;
};

}  // namespace sq::cuda
