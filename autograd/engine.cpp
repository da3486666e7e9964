#include "autograd/engine.h"

#include "tensor/memory.h"
#include "tensor/profiler.h"

#include <map>

namespace sq {
namespace {

/// sum ← sum + term. The memory of `sum` is reused when nobody else sees it.
void add_gradient(Tensor& sum, const Tensor& term) {
  if (!sum.defined()) {
    sum = term;
    return;
  }
  if (!sum.is_sole_owner() || !sum.is_contiguous()) sum = packed_copy(sum);
  accumulate_(sum, term);
}

/// Gradients waiting at the nodes still to be visited, highest creation number first.
struct Pending {
  std::shared_ptr<Node> node;
  std::vector<Tensor> output_gradients;
};
using Schedule = std::map<std::uint64_t, Pending, std::greater<>>;

void check_gradient(const Node& node, std::size_t input, const Edge& edge, const Tensor& gradient) {
  require(gradient.shape() == edge.shape && gradient.dtype() == edge.dtype, "backward",
          "'{}' returned {} as the gradient of its input {}, which is {}{}", node.name(), gradient, input,
          name(edge.dtype), edge.shape);
  if (anomaly_mode())
    require(all_finite(gradient), "anomaly",
            "the backward of '{}' made a NaN or infinity in the gradient of its input {}", node.name(), input);
}

void send(Schedule& schedule, const Edge& edge, const Tensor& gradient) {
  if (edge.leaf) {
    add_gradient(edge.leaf->gradient, gradient);
    return;
  }
  Pending& pending = schedule[edge.node->number()];
  if (!pending.node) {
    pending.node = edge.node;
    pending.output_gradients.resize(edge.node->outputs());
  }
  add_gradient(pending.output_gradients[edge.output], gradient);
}

Tensor initial_gradient(const Tensor& loss, const Tensor& seed) {
  require(requires_grad(loss), "backward", "{} does not depend on anything that needs a gradient", loss);
  if (!seed.defined()) {
    require(loss.numel() == 1, "backward", "{} is not a single number; pass a seed of its shape", loss);
    return Tensor::ones(loss.shape(), loss.options());
  }
  require(seed.shape() == loss.shape() && seed.dtype() == loss.dtype(), "backward", "seed {} does not fit {}", seed,
          loss);
  return seed;
}

}  // namespace

void backward(const Tensor& loss, const Tensor& seed) {
  const Tensor first = initial_gradient(loss, seed);
  const auto variable = std::static_pointer_cast<Variable>(loss.autograd_slot());
  Edge root;
  root.node = variable->producer;
  root.output = variable->output;
  if (!root.node) root.leaf = variable;
  Schedule schedule;
  send(schedule, root, first);
  const NoGrad unrecorded;
  while (!schedule.empty()) {
    Pending current = std::move(schedule.begin()->second);
    schedule.erase(schedule.begin());
    const ProfileSpan span(SpanKind::node, current.node->name());
    const Gradients gradients = current.node->run(current.output_gradients);
    current.output_gradients.clear();
    const std::vector<Edge>& inputs = current.node->inputs();
    require(gradients.size() == inputs.size(), "backward", "'{}' has {} inputs but returned {} gradients",
            current.node->name(), inputs.size(), gradients.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].wanted() || !gradients[i].defined()) continue;
      check_gradient(*current.node, i, inputs[i], gradients[i]);
      send(schedule, inputs[i], gradients[i]);
    }
    current.node->release();
  }
}

}  // namespace sq
