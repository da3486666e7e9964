// tensor/tensor.h: the tensor, a cheap handle on shared memory seen through a shape and strides.
#pragma once

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/storage.h"

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sq {

/// What a tensor carries for autograd. This room knows only that it exists; autograd/node.h gives it content.
struct AutogradSlot {
  virtual ~AutogradSlot() = default;
};

struct TensorOptions {
  DType dtype = DType::f32;
  Device device = default_device();
};

/// A handle: copies refer to the same tensor (same memory, same gradient). A default-constructed handle is undefined.
/// Element (i0,i1,…) lies at offset + Σ i_a · stride_a, counted in elements. Functions that compute or give other views
/// of the same memory are the differentiable operations in ops/.
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised, row-major.
  static Tensor empty(const Shape& shape, TensorOptions options = {});
  static Tensor zeros(const Shape& shape, TensorOptions options = {});
  static Tensor ones(const Shape& shape, TensorOptions options = {});
  static Tensor full(const Shape& shape, double value, TensorOptions options = {});
  /// 0, 1, …, count-1 (i64 unless asked otherwise).
  static Tensor arange(std::int64_t count, TensorOptions options = {.dtype = DType::i64});
  /// A copy of `values` in row-major order, on the default device. Throws Error when their number is not shape.numel().
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape) {
    return from(std::vector<T>(values), shape);
  }
  /// Rank 0.
  static Tensor scalar(double value, TensorOptions options = {}) { return full({}, value, options); }
  /// Uninitialised, with the shape, dtype and device of `other`.
  static Tensor empty_like(const Tensor& other) { return empty(other.shape(), other.options()); }
  static Tensor zeros_like(const Tensor& other) { return zeros(other.shape(), other.options()); }
  /// Memory owned elsewhere, row-major, such as a mapped file. Treat as read-only.
  static Tensor wrap(std::shared_ptr<Storage> storage, std::int64_t byte_offset, const Shape& shape, DType dtype);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const { return impl().shape; }
  const Shape& strides() const { return impl().strides; }
  int rank() const { return shape().rank(); }
  /// Extent of an axis; negative axes count from the end.
  std::int64_t size(int axis) const { return shape()[normalize_axis(axis, rank(), "size")]; }
  std::int64_t numel() const { return impl().numel; }
  DType dtype() const { return impl().dtype; }
  Device device() const { return impl().storage->device(); }
  TensorOptions options() const { return {dtype(), device()}; }
  /// True when the elements lie in row-major order without gaps.
  bool is_contiguous() const;

  /// First element: an address of the tensor's device. Throws Error when T is not the tensor's element type. Says
  /// nothing about strides.
  template <class T>
  T* data() {
    return static_cast<T*>(checked_data(dtype_of<T>()));
  }
  template <class T>
  const T* data() const {
    return static_cast<const T*>(checked_data(dtype_of<T>()));
  }
  std::byte* bytes() const { return impl().storage->data() + impl().offset * item_size(dtype()); }

  /// All elements in row-major order, converted to T.
  template <class T>
  std::vector<T> to_vector() const;
  /// The only element of a tensor with one element, converted to double. Waits for the device, as to_vector does.
  double item() const;

  /// Another window on the same memory, without gradient: offset in elements from this tensor's first element.
  /// Throws Error when it would reach outside the memory.
  Tensor alias(const Shape& shape, const Shape& strides, std::int64_t offset) const;
  /// The same window as a new tensor without gradient history.
  Tensor alias() const { return alias(shape(), strides(), 0); }
  /// The same memory, whether or not the window is the same.
  bool shares_memory_with(const Tensor& other) const;
  /// True when no other tensor sees this memory, so that it may be overwritten.
  bool is_sole_owner() const;

  std::uint64_t version() const { return impl().storage->version(); }
  void mark_changed() { impl().storage->mark_changed(); }

  /// Makes this handle's tensor, and with it every copy of the handle, use the memory of `other` (same shape and
  /// dtype).
  void set_data(const Tensor& other);

  std::shared_ptr<AutogradSlot>& autograd_slot() const { return impl().autograd; }

 private:
  struct Impl {
    std::shared_ptr<Storage> storage;
    Shape shape;
    Shape strides;
    std::int64_t offset = 0;  // elements
    std::int64_t numel = 0;
    DType dtype = DType::f32;
    std::shared_ptr<AutogradSlot> autograd;
  };

  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Impl& impl() const {
    if (!impl_) [[unlikely]]
      throw Error("tensor: the tensor is undefined; assign one first");
    return *impl_;
  }
  void* checked_data(DType wanted) const;

  std::shared_ptr<Impl> impl_;
};

/// "f32[4,128,512]@cpu", for error messages.
std::string describe(const Tensor& tensor);
/// All values as NumPy prints them; tensors of more than 1000 elements are summarised by their first and last three
/// entries along each axis.
std::string to_string(const Tensor& tensor);

}  // namespace sq

template <>
struct fmt::formatter<sq::Tensor> : fmt::formatter<std::string> {
  auto format(const sq::Tensor& tensor, fmt::format_context& ctx) const {
    return fmt::formatter<std::string>::format(sq::describe(tensor), ctx);
  }
};
