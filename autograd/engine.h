// autograd/engine.h: the backward pass.
#pragma once

#include "autograd/node.h"

namespace sq {

/// Adds ∂(loss·seed)/∂leaf into grad(leaf) for every leaf that `loss` depends on.
/// `loss` must have one element unless `seed`, of its shape and dtype, is given (then the gradients are those of
/// Σ seed·loss). Nodes are visited in descending creation number, which is a reverse topological order, in one loop;
/// each is freed once visited, so a graph serves for one backward pass. Where several paths meet, gradients are added
/// in visit order: the same program always gives the same bits. Throws Error when nothing needs a gradient, when the
/// graph was freed before, or when a backward function fails.
void backward(const Tensor& loss, const Tensor& seed = {});

}  // namespace sq
