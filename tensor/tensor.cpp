#include "tensor/tensor.h"

#include "tensor/memory.h"

#include <algorithm>
#include <cstring>

namespace sq {

Tensor Tensor::empty(const Shape& shape, TensorOptions options) {
  auto impl = std::make_shared<Impl>();
  impl->shape = shape;
  impl->strides = contiguous_strides(shape);
  impl->numel = shape.numel();
  impl->dtype = options.dtype;
  std::int64_t bytes = 0;
  require(!__builtin_mul_overflow(impl->numel, item_size(options.dtype), &bytes), "tensor",
          "{}{} has more bytes than 63 bits count", name(options.dtype), shape);
  impl->storage = Storage::allocate(static_cast<std::size_t>(bytes), options.device);
  return Tensor(std::move(impl));
}

Tensor Tensor::full(const Shape& shape, double value, TensorOptions options) {
  Tensor result = empty(shape, options);
  fill_(result, value);
  return result;
}

Tensor Tensor::zeros(const Shape& shape, TensorOptions options) { return full(shape, 0.0, options); }
Tensor Tensor::ones(const Shape& shape, TensorOptions options) { return full(shape, 1.0, options); }

Tensor Tensor::arange(std::int64_t count, TensorOptions options) {
  require(count >= 0, "arange", "a count of {} is negative", count);
  Tensor result = empty({count}, {options.dtype, Device{}});
  visit(options.dtype, [&]<class T>() {
    T* out = result.data<T>();
    for (std::int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, f16>)
        out[i] = static_cast<float>(i);
      else
        out[i] = static_cast<T>(i);
    }
  });
  return moved(result, options.device);
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  require(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor", "{} values do not fill shape {}",
          values.size(), shape);
  Tensor result = empty(shape, {dtype_of<T>(), Device{}});
  std::copy(values.begin(), values.end(), result.data<T>());
  return moved(result, default_device());
}

Tensor Tensor::wrap(std::shared_ptr<Storage> storage, std::int64_t byte_offset, const Shape& shape, DType dtype) {
  const std::int64_t size = item_size(dtype), bytes = static_cast<std::int64_t>(storage->bytes());
  require(byte_offset >= 0 && byte_offset % size == 0 && shape.numel() <= (bytes - byte_offset) / size, "tensor",
          "{}{} at byte {} does not fit into {} bytes", name(dtype), shape, byte_offset, bytes);
  auto impl = std::make_shared<Impl>();
  impl->storage = std::move(storage);
  impl->shape = shape;
  impl->strides = contiguous_strides(shape);
  impl->offset = byte_offset / size;
  impl->numel = shape.numel();
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

bool Tensor::is_contiguous() const {
  std::int64_t stride = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (shape()[axis] == 1) continue;
    if (strides()[axis] != stride) return numel() == 0;
    stride *= shape()[axis];
  }
  return true;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor values = moved(packed_copy(*this, dtype_of<T>()), Device{});
  const T* first = values.template data<T>();
  return std::vector<T>(first, first + numel());
}

double Tensor::item() const {
  require(numel() == 1, "item", "{} does not have exactly one element", *this);
  const Tensor here = moved(*this, Device{});
  return visit(dtype(), [&]<class T>() { return static_cast<double>(*here.data<T>()); });
}

Tensor Tensor::alias(const Shape& shape, const Shape& strides, std::int64_t offset) const {
  require(shape.rank() == strides.rank(), "alias", "shape {} and strides {} differ in rank", shape, strides);
  std::int64_t first = impl().offset + offset, last = first;
  const std::int64_t count = shape.numel();
  for (int axis = 0; axis < shape.rank() && count > 0; ++axis) {
    const std::int64_t reach = (shape[axis] - 1) * strides[axis];
    (reach < 0 ? first : last) += reach;
  }
  const auto capacity = static_cast<std::int64_t>(impl().storage->bytes()) / item_size(dtype());
  require(count == 0 || (first >= 0 && last < capacity), "alias",
          "shape {} with strides {} at offset {} reaches outside {} elements", shape, strides, offset, capacity);
  auto view = std::make_shared<Impl>();
  view->storage = impl().storage;
  view->shape = shape;
  view->strides = strides;
  view->offset = impl().offset + (count == 0 ? 0 : offset);
  view->numel = count;
  view->dtype = dtype();
  return Tensor(std::move(view));
}

bool Tensor::shares_memory_with(const Tensor& other) const { return impl().storage == other.impl().storage; }
bool Tensor::is_sole_owner() const { return impl_.use_count() == 1 && impl().storage.use_count() == 1; }

void Tensor::set_data(const Tensor& other) {
  require(shape() == other.shape() && dtype() == other.dtype(), "set_data", "{} cannot take the memory of {}", *this,
          other);
  Impl& self = impl();
  self.storage = other.impl().storage;
  self.strides = other.strides();
  self.offset = other.impl().offset;
}

void* Tensor::checked_data(DType wanted) const {
  require(dtype() == wanted, "tensor", "{} does not hold {} values", *this, name(wanted));
  return bytes();
}

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined tensor";
  return fmt::format("{}{}@{}", name(tensor.dtype()), tensor.shape(), name(tensor.device()));
}

template Tensor Tensor::from(const std::vector<float>&, const Shape&);
template Tensor Tensor::from(const std::vector<double>&, const Shape&);
template Tensor Tensor::from(const std::vector<bf16>&, const Shape&);
template Tensor Tensor::from(const std::vector<f16>&, const Shape&);
template Tensor Tensor::from(const std::vector<std::int32_t>&, const Shape&);
template Tensor Tensor::from(const std::vector<std::int64_t>&, const Shape&);
template Tensor Tensor::from(const std::vector<std::uint8_t>&, const Shape&);
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<std::int32_t> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;
template std::vector<std::uint8_t> Tensor::to_vector() const;

}  // namespace sq
