#include "autograd/node.h"

#include "tensor/memory.h"

#include <algorithm>
#include <atomic>

namespace sq {
namespace {

std::shared_ptr<Variable> variable_of(const Tensor& tensor) {
  return tensor.defined() ? std::static_pointer_cast<Variable>(tensor.autograd_slot()) : nullptr;
}

Variable& make_variable(const Tensor& tensor) {
  std::shared_ptr<AutogradSlot>& slot = tensor.autograd_slot();
  if (!slot) slot = std::make_shared<Variable>();
  return static_cast<Variable&>(*slot);
}

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

const Tensor& Saved::operator[](std::size_t i) const {
  const Node::SavedTensor& saved = node_.saved_.at(i);
  require(!saved.tensor.defined() || saved.tensor.version() == saved.version, node_.name(),
          "{} was changed in place after it was saved for backward; change a copy instead", saved.tensor);
  return saved.tensor;
}

std::size_t Saved::size() const { return node_.saved_.size(); }
bool Saved::wants(std::size_t input) const { return node_.inputs_.at(input).wanted(); }

Tensor* Saved::gradient_so_far(std::size_t input) const {
  const Edge& edge = node_.inputs_.at(input);
  if (!edge.leaf || anomaly_mode()) return nullptr;  // anomaly mode looks at each gradient by itself
  Tensor& sum = edge.leaf->gradient;
  return sum.defined() && sum.is_sole_owner() && sum.is_contiguous() ? &sum : nullptr;
}

bool requires_grad(const Tensor& tensor) {
  const auto variable = variable_of(tensor);
  return variable && (variable->leaf_requires_grad || variable->producer);
}

void set_requires_grad(const Tensor& leaf, bool on) {
  require(is_float(leaf.dtype()), "set_requires_grad", "{} holds integers, which have no gradient", leaf);
  Variable& variable = make_variable(leaf);
  require(!variable.producer, "set_requires_grad", "{} is the result of '{}'; detach it first", leaf,
          variable.producer ? variable.producer->name() : "");
  variable.leaf_requires_grad = on;
}

Tensor grad(const Tensor& leaf) {
  const auto variable = variable_of(leaf);
  return variable ? variable->gradient : Tensor();
}

void set_grad(const Tensor& leaf, Tensor gradient) {
  require(!gradient.defined() || (gradient.shape() == leaf.shape() && gradient.dtype() == leaf.dtype()), "set_grad",
          "{} cannot be the gradient of {}", gradient, leaf);
  make_variable(leaf).gradient = std::move(gradient);
}

Tensor detach(const Tensor& tensor) { return tensor.alias(); }

Node::Node(std::string_view name, std::span<const Tensor> inputs, std::size_t outputs, std::span<const Tensor> saved,
           Backward backward)
    : name_(name), number_(next_number()), outputs_(outputs), backward_(std::move(backward)) {
  inputs_.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    Edge edge;
    if (const auto variable = variable_of(input)) {
      edge.node = variable->producer;
      edge.output = variable->output;
      if (!edge.node && variable->leaf_requires_grad) edge.leaf = variable;
    }
    if (edge.wanted()) {
      edge.shape = input.shape();
      edge.dtype = input.dtype();
    }
    inputs_.push_back(std::move(edge));
  }
  saved_.reserve(saved.size());
  for (const Tensor& tensor : saved)  // an alias without history: a node must not keep itself alive through its result
    saved_.push_back(tensor.defined() ? SavedTensor{tensor.alias(), tensor.version()} : SavedTensor{Tensor(), 0});
}

Node::~Node() {
  std::vector<std::shared_ptr<Node>> pending;
  const auto take_inputs = [&pending](Node& node) {
    for (Edge& edge : node.inputs_)
      if (edge.node) pending.push_back(std::move(edge.node));
  };
  take_inputs(*this);
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    if (node.use_count() == 1) take_inputs(*node);
  }
}

Gradients Node::run(std::span<const Tensor> output_gradients) const {
  require(!released_, "backward", "the graph behind '{}' was freed by an earlier backward; run the forward pass again",
          name_);
  return backward_(Saved(*this), output_gradients);
}

void Node::release() {
  released_ = true;
  saved_.clear();
  backward_ = nullptr;
  inputs_.clear();
}

namespace detail {

bool needs_record(const TensorList& inputs) {
  return grad_enabled() &&
         std::any_of(inputs.items().begin(), inputs.items().end(), [](const Tensor& t) { return requires_grad(t); });
}

void check_anomaly(std::string_view name, const TensorList& inputs, std::span<const Tensor> results) {
  for (const Tensor& result : results) {
    if (all_finite(result)) continue;
    for (const Tensor& input : inputs.items())
      if (input.defined() && !all_finite(input)) return;  // an earlier operation, or the user, is to blame
    throw Error(fmt::format("anomaly: '{}' made a NaN or infinity in {} from finite inputs", name, result));
  }
}

void attach(const std::shared_ptr<Node>& node, std::span<Tensor> results) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    Variable& variable = make_variable(results[i]);
    variable.producer = node;
    variable.output = i;
  }
}

}  // namespace detail
}  // namespace sq
