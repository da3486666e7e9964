// autograd/node.h: the tape. Each recorded operation is a node that knows its inputs and how to send gradients back.
//
// For y = f(x1, …, xn) and a scalar loss L, backward receives dy = ∂L/∂y and returns dxi = Σ dy · ∂y/∂xi for every
// input. Gradients have the shape and dtype of what they belong to. Operations assign gradients and the engine adds
// them up; only embedding adds its few rows itself (Saved::gradient_so_far). Gradients of gradients are out of scope:
// backward functions run unrecorded.
#pragma once

#include "autograd/grad_mode.h"
#include "tensor/tensor.h"

#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace sq {

class Node;

/// One gradient per input; an undefined Tensor where the input needs none.
using Gradients = std::vector<Tensor>;

/// Tensors as arguments: `{x, gain}` or a vector.
class TensorList {
 public:
  TensorList(std::initializer_list<Tensor> list) : items_(list.begin(), list.size()) {}
  TensorList(const std::vector<Tensor>& list) : items_(list) {}  // NOLINT(google-explicit-constructor)
  std::span<const Tensor> items() const { return items_; }

 private:
  std::span<const Tensor> items_;
};

/// What a backward function may read: the tensors its operation saved, and which gradients are wanted.
class Saved {
 public:
  Saved(const Node& node) : node_(node) {}  // NOLINT(google-explicit-constructor)
  /// The i-th saved tensor. Throws Error when it was changed in place since.
  const Tensor& operator[](std::size_t i) const;
  /// How many tensors were saved.
  std::size_t size() const;
  /// Whether the gradient of input i is needed; a backward function may skip the others.
  bool wants(std::size_t input) const;
  /// The gradient that input i, a leaf, has already, row-major and seen by nobody else; null when there is none. A
  /// backward that reaches only a small part of its input may add to it in place and return an undefined gradient.
  Tensor* gradient_so_far(std::size_t input) const;

 private:
  const Node& node_;
};

/// Records an operation of one result and returns the result, ready to be differentiated.
/// `saved` are kept, without their own history, until backward has run. `backward` is called as
/// Gradients(const Saved&, const Tensor& dy). Nothing is kept when recording is off or no input needs a gradient.
template <class Backward>
Tensor record(std::string_view name, const TensorList& inputs, Tensor result, const TensorList& saved,
              Backward&& backward);

/// The same for several results; `backward` is called as Gradients(const Saved&, std::span<const Tensor> dys), where a
/// dy is undefined if the loss does not depend on that result.
template <class Backward>
std::vector<Tensor> record_many(std::string_view name, const TensorList& inputs, std::vector<Tensor> results,
                                const TensorList& saved, Backward&& backward);

/// True when the tensor is a leaf marked with set_requires_grad, or the result of a recorded operation on one.
bool requires_grad(const Tensor& tensor);
/// Marks a leaf. Throws Error for integer dtypes and for results of recorded operations.
void set_requires_grad(const Tensor& leaf, bool on = true);
/// The gradient that backward() left in a leaf; undefined before.
Tensor grad(const Tensor& leaf);
/// Replaces or (undefined) removes a leaf's gradient.
void set_grad(const Tensor& leaf, Tensor gradient);
/// The same values without history.
Tensor detach(const Tensor& tensor);

// ---------------------------------------------------------------------------------------------------------------------
// What the engine sees.

/// A tensor's place on the tape.
struct Variable : AutogradSlot {
  bool leaf_requires_grad = false;
  Tensor gradient;                 // leaves only
  std::shared_ptr<Node> producer;  // results only
  std::size_t output = 0;          // which result of the producer
};

/// Where the gradient of one input goes: to the result `output` of a node, or into a leaf, or nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  std::size_t output = 0;
  std::shared_ptr<Variable> leaf;
  Shape shape;
  DType dtype = DType::f32;

  bool wanted() const { return node || leaf; }
};

class Node {
 public:
  using Backward = std::function<Gradients(const Saved&, std::span<const Tensor>)>;

  Node(std::string_view name, std::span<const Tensor> inputs, std::size_t outputs, std::span<const Tensor> saved,
       Backward backward);
  ~Node();  // takes long chains apart in a loop: recursion would overflow the stack
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  std::string_view name() const { return name_; }
  /// Creation number: larger than that of every node this one depends on.
  std::uint64_t number() const { return number_; }
  std::size_t outputs() const { return outputs_; }
  const std::vector<Edge>& inputs() const { return inputs_; }
  bool released() const { return released_; }

  /// Runs the backward function. Throws Error when the node was released before.
  Gradients run(std::span<const Tensor> output_gradients) const;
  /// Drops saved tensors, closure and edges.
  void release();

 private:
  friend class Saved;
  struct SavedTensor {
    Tensor tensor;
    std::uint64_t version;
  };

  std::string_view name_;
  std::uint64_t number_;
  std::size_t outputs_;
  std::vector<Edge> inputs_;
  std::vector<SavedTensor> saved_;
  Backward backward_;
  bool released_ = false;
};

namespace detail {
bool needs_record(const TensorList& inputs);
void check_anomaly(std::string_view name, const TensorList& inputs, std::span<const Tensor> results);
/// Makes `results` the outputs of a new node.
void attach(const std::shared_ptr<Node>& node, std::span<Tensor> results);
}  // namespace detail

template <class Backward>
std::vector<Tensor> record_many(std::string_view name, const TensorList& inputs, std::vector<Tensor> results,
                                const TensorList& saved, Backward&& backward) {
  if (anomaly_mode()) detail::check_anomaly(name, inputs, results);
  if (detail::needs_record(inputs))
    detail::attach(std::make_shared<Node>(name, inputs.items(), results.size(), saved.items(),
                                          Node::Backward(std::forward<Backward>(backward))),
                   results);
  return results;
}

template <class Backward>
Tensor record(std::string_view name, const TensorList& inputs, Tensor result, const TensorList& saved,
              Backward&& backward) {
  if (anomaly_mode()) detail::check_anomaly(name, inputs, {&result, 1});
  if (detail::needs_record(inputs)) {
    auto single = [backward = std::forward<Backward>(backward)](const Saved& s, std::span<const Tensor> dys) {
      return backward(s, dys[0]);
    };
    detail::attach(std::make_shared<Node>(name, inputs.items(), 1, saved.items(), Node::Backward(std::move(single))),
                   {&result, 1});
  }
  return result;
}

}  // namespace sq
