// nn/embedding.h: a table of learned rows, one for each id.
#pragma once

#include "nn/init.h"
#include "nn/module.h"
#include "tensor/memory.h"

namespace sq {

/// Row ids[...] of the parameter `weight` [V,C].
class Embedding : public Module {
 public:
  Embedding(std::int64_t rows, std::int64_t width, Initializer& init);

  /// ids i64 or i32 [...] -> [..., C]. Throws Error naming the first id outside the table.
  Tensor forward(const Tensor& ids) const;

  const Tensor& weight() const { return weight_; }

 protected:
  void hold_own_matrices_in(DType dtype) override {
    weight_ = replace_parameter("weight", packed_copy(weight_, dtype));
  }

 private:
  Tensor weight_;
};

}  // namespace sq
