#include "autograd/checkpoint.h"

#include "autograd/autocast.h"
#include "autograd/engine.h"
#include "tensor/random.h"

namespace sq {
namespace {

/// Puts this thread's generator back as it was, also when the recomputation throws.
class RestoreGenerator {
 public:
  RestoreGenerator() = default;
  ~RestoreGenerator() { default_generator() = before_; }
  RestoreGenerator(const RestoreGenerator&) = delete;
  RestoreGenerator& operator=(const RestoreGenerator&) = delete;

 private:
  Generator before_ = default_generator();
};

}  // namespace

Tensor checkpoint(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                  const std::vector<Tensor>& inputs) {
  if (!grad_enabled()) return function(inputs);
  const Generator generator = default_generator();
  Tensor result;
  {
    const NoGrad unrecorded;
    result = detach(function(inputs));
  }
  auto recompute = [function, generator, products = autocast_dtype()](const Saved& saved, std::span<const Tensor> dys) {
    std::vector<Tensor> again;
    for (std::size_t i = 0; i < saved.size(); ++i) {
      again.push_back(detach(saved[i]));
      if (saved.wants(i)) set_requires_grad(again.back());
    }
    const RestoreGenerator restore;
    default_generator() = generator;
    const GradMode recorded(true);
    const Autocast as_before(products);
    const Tensor output = function(again);
    if (requires_grad(output)) backward(output, dys[0]);
    Gradients gradients;
    for (const Tensor& input : again) gradients.push_back(grad(input));
    return gradients;
  };
  // Attached even when no input needs a gradient: leaves captured by the function may.
  detail::attach(std::make_shared<Node>("checkpoint", inputs, 1, inputs, Node::Backward(std::move(recompute))),
                 {&result, 1});
  return result;
}

}  // namespace sq
