// tensor/print.cpp: tensors as text, the way NumPy writes them.
#include "tensor/memory.h"
#include "tensor/tensor.h"

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

constexpr std::int64_t kSummaryThreshold = 1000;  // elements
constexpr std::int64_t kEdgeItems = 3;

/// The indices printed along an axis: all, or the first and last three with -1 standing for the gap.
std::vector<std::int64_t> shown_indices(std::int64_t extent, bool summarise) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < extent; ++i) {
    if (summarise && extent > 2 * kEdgeItems && i == kEdgeItems) {
      indices.push_back(-1);
      i = extent - kEdgeItems;
    }
    indices.push_back(i);
  }
  return indices;
}

class Printer {
 public:
  // Beside an extent of 0 another may be of any size: tensors without elements are summarised too.
  explicit Printer(const Tensor& tensor)
      : tensor_(tensor), summarise_(tensor.numel() > kSummaryThreshold || tensor.numel() == 0) {
    choose_format(0, 0);
    scientific_ = largest_ >= 1e8 || (smallest_ < 1e-4 && smallest_ > 0) ||
                  (smallest_ > 0 && largest_ / smallest_ > 1000 && largest_ > 1e4);
    width_ = 0;
    measure(0, 0);
  }

  std::string text() { return render(0, 0, 0); }

 private:
  double value(std::int64_t offset) const {
    return visit(tensor_.dtype(), [&]<class T>() { return static_cast<double>(tensor_.data<T>()[offset]); });
  }

  template <class Visit>
  void for_shown(int axis, std::int64_t offset, Visit&& visit_element) const {
    if (axis == tensor_.rank()) return visit_element(offset);
    for (std::int64_t i : shown_indices(tensor_.shape()[axis], summarise_))
      if (i >= 0) for_shown(axis + 1, offset + i * tensor_.strides()[axis], visit_element);
  }

  void choose_format(int axis, std::int64_t offset) {
    for_shown(axis, offset, [&](std::int64_t at) {
      const double magnitude = std::abs(value(at));
      if (!std::isfinite(magnitude)) return;
      largest_ = std::max(largest_, magnitude);
      if (magnitude > 0) smallest_ = smallest_ == 0 ? magnitude : std::min(smallest_, magnitude);
    });
  }

  void measure(int axis, std::int64_t offset) {
    for_shown(axis, offset, [&](std::int64_t at) { width_ = std::max(width_, number(at).size()); });
  }

  std::string number(std::int64_t offset) const {
    if (!is_float(tensor_.dtype()))
      return visit(tensor_.dtype(),
                   [&]<class T>() { return fmt::format("{}", static_cast<std::int64_t>(tensor_.data<T>()[offset])); });
    const double v = value(offset);
    if (!std::isfinite(v)) return fmt::format("{}", v);
    return scientific_ ? fmt::format("{:.4e}", v) : fmt::format("{:.4f}", v);
  }

  std::string render(int axis, std::int64_t offset, std::size_t indent) const {
    if (axis == tensor_.rank()) return fmt::format("{:>{}}", number(offset), width_);
    const bool last = axis == tensor_.rank() - 1;
    const std::string separator = last ? ", "
                                       : "," + std::string(static_cast<std::size_t>(tensor_.rank() - axis - 1), '\n') +
                                             std::string(indent + 1, ' ');
    std::string out = "[";
    bool first = true;
    for (std::int64_t i : shown_indices(tensor_.shape()[axis], summarise_)) {
      if (!first) out += separator;
      first = false;
      out += i < 0 ? "..." : render(axis + 1, offset + i * tensor_.strides()[axis], indent + 1);
    }
    return out + "]";
  }

  const Tensor& tensor_;
  bool summarise_;
  bool scientific_ = false;
  double largest_ = 0;
  double smallest_ = 0;
  std::size_t width_ = 0;
};

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined tensor";
  return fmt::format("{} {}", Printer(moved(tensor, Device{})).text(), describe(tensor));
}

}  // namespace sq
