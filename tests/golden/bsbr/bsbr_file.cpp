#include "tests/golden/bsbr/bsbr_file.h"

#include "autograd/node.h"
#include "tensor/memory.h"

namespace golden {

using namespace sq;

Tensor BsbrFile::at(const std::string& name) const { return moved(file_.at(name), default_device()); }

Tensor BsbrFile::at(const std::string& name, DType dtype) const { return packed_copy(at(name), dtype); }

Tensor BsbrFile::leaf(const std::string& name, DType dtype) const {
  const Tensor tensor = at(name, dtype);
  set_requires_grad(tensor);
  return tensor;
}

NamedTensors BsbrFile::below(const std::string& prefix) const {
  NamedTensors result;
  for (const auto& [name, tensor] : file_.tensors())
    if (name.starts_with(prefix)) result.emplace_back(name.substr(prefix.size()), tensor);
  return result;
}

std::string BsbrFile::text(const std::string& key) const {
  const auto found = file_.metadata().find(key);
  require_input(found != file_.metadata().end(), "golden", "the metadata has no '{}'", key);
  return found->second;
}

double BsbrFile::number(const std::string& key) const { return std::stod(text(key)); }

void compare(Comparison& comparison, Quantity quantity, const std::string& name, const Tensor& got, const Tensor& want,
             DType dtype) {
  const std::string label = fmt::format("{} in {}", name, sq::name(dtype));
  const Tensor result = got.defined() ? got : Tensor::zeros_like(want);
  if (dtype == DType::f64) return comparison.within(label, result, want, 1e-6, 1e-6);
  switch (quantity) {
    case Quantity::value:
      return comparison.within(label, result, want, 1e-5, 2e-5);
    case Quantity::gradient:
      return comparison.within(label, result, want, 1e-4, 1e-4);
    case Quantity::loss:
      return comparison.within(label, result, want, 0, 1e-5);
  }
}

}  // namespace golden
