// autograd/checkpoint.h: trading time for memory.
#pragma once

#include "autograd/node.h"

namespace sq {

/// Runs `function(inputs)` without recording and remembers only the inputs; the backward pass runs it again, recorded
/// with the same random numbers and the same Autocast, and differentiates that. Memory for activations inside
/// `function` is thus held for one region at a time (Chen et al. 2016, "Training deep nets with sublinear memory
/// cost"). The function must depend on nothing that changes between the two runs; leaves it captures receive their
/// gradients as usual.
Tensor checkpoint(const std::function<Tensor(const std::vector<Tensor>&)>& function, const std::vector<Tensor>& inputs);

}  // namespace sq
