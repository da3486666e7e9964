#include "ops/concat.h"

#include "autograd/node.h"
#include "ops/dispatch.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <fmt/ranges.h>

#include <limits>

namespace sq {
namespace {

/// The window [begin, begin + size) of an axis, without history.
Tensor window(const Tensor& x, int axis, std::int64_t begin, std::int64_t size) {
  Shape shape = x.shape();
  shape[axis] = size;
  return x.alias(shape, x.strides(), begin * x.strides()[axis]);
}

void check_kind(std::string_view op, const Tensor& first, const Tensor& other) {
  require_same_kind(op, {first, other});
  require(first.rank() == other.rank(), op, "{} and {} differ in rank", first, other);
}

}  // namespace

Tensor concat(const std::vector<Tensor>& parts, int axis) {
  require(!parts.empty(), "concat", "the list of tensors is empty");
  const Tensor& first = parts.front();
  axis = normalize_axis(axis, first.rank(), "concat");
  Shape shape = first.shape();
  shape[axis] = 0;
  std::vector<std::int64_t> sizes;
  sizes.reserve(parts.size());
  for (const Tensor& part : parts) {
    check_kind("concat", first, part);
    for (int i = 0; i < shape.rank(); ++i)
      require(i == axis || part.shape()[i] == shape[i], "concat", "{} and {} differ beside axis {}", first, part, axis);
    sizes.push_back(part.shape()[axis]);
    shape[axis] += sizes.back();
  }
  const Tensor y = Tensor::empty(shape, first.options());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    Tensor target = window(y, axis, begin, part.shape()[axis]);
    copy_(target, part);
    begin += part.shape()[axis];
  }
  return record("concat", parts, y, {},
                [axis, sizes](const Saved&, const Tensor& dy) -> Gradients { return split(dy, sizes, axis); });
}

Tensor stack(const std::vector<Tensor>& parts, int axis) {
  require(!parts.empty(), "stack", "the list of tensors is empty");
  const Tensor& first = parts.front();
  axis = normalize_axis(axis, first.rank() + 1, "stack");
  Shape shape = first.shape();
  shape.insert(axis, static_cast<std::int64_t>(parts.size()));
  const Tensor y = Tensor::empty(shape, first.options());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    check_kind("stack", first, parts[i]);
    require(parts[i].shape() == first.shape(), "stack", "{} and {} differ in shape", first, parts[i]);
    Tensor target = select(y, axis, static_cast<std::int64_t>(i));
    copy_(target, parts[i]);
  }
  return record("stack", parts, y, {}, [axis, count = parts.size()](const Saved&, const Tensor& dy) -> Gradients {
    Gradients gradients;
    for (std::size_t i = 0; i < count; ++i) gradients.push_back(select(dy, axis, static_cast<std::int64_t>(i)));
    return gradients;
  });
}

namespace {

/// The gradients of the parts side by side, zeros where there is none.
Tensor join(const Shape& shape, const std::vector<std::int64_t>& sizes, int axis, std::span<const Tensor> dys) {
  TensorOptions options;
  for (const Tensor& dy : dys)
    if (dy.defined()) options = dy.options();
  const Tensor dx = Tensor::empty(shape, options);
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Tensor target = window(dx, axis, begin, sizes[i]);
    if (dys[i].defined())
      copy_(target, dys[i]);
    else
      fill_(target, 0);
    begin += sizes[i];
  }
  return dx;
}

}  // namespace

std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis) {
  axis = normalize_axis(axis, x.rank(), "split");
  std::int64_t begin = 0;
  std::vector<Tensor> parts;
  parts.reserve(sizes.size());
  for (const std::int64_t size : sizes) {
    require(size >= 0 && size <= x.shape()[axis] - begin, "split", "the sizes [{}] do not divide axis {} of {}",
            fmt::join(sizes, ","), axis, x);
    parts.push_back(window(x, axis, begin, size));
    begin += size;
  }
  require(begin == x.shape()[axis], "split", "the sizes add up to {}, not to the extent of axis {} of {}", begin, axis,
          x);
  return record_many("split", {x}, std::move(parts), {},
                     [shape = x.shape(), sizes, axis](const Saved&, std::span<const Tensor> dys) -> Gradients {
                       return {join(shape, sizes, axis, dys)};
                     });
}

Tensor pad(const Tensor& x, int axis, std::int64_t before, std::int64_t after, double value) {
  axis = normalize_axis(axis, x.rank(), "pad");
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 4;
  require(before >= 0 && after >= 0 && before < kMost && after < kMost, "pad",
          "{} and {} indices cannot be added; use slice to remove some", before, after);
  const std::int64_t extent = x.shape()[axis];
  Shape shape = x.shape();
  shape[axis] = before + extent + after;
  const Tensor y = Tensor::empty(shape, x.options());
  Tensor head = window(y, axis, 0, before), body = window(y, axis, before, extent),
         tail = window(y, axis, before + extent, after);
  fill_(head, value);
  copy_(body, x);
  fill_(tail, value);
  return record("pad", {x}, y, {}, [axis, before, extent](const Saved&, const Tensor& dy) -> Gradients {
    return {slice(dy, axis, before, before + extent)};
  });
}

}  // namespace sq
