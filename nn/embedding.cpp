#include "nn/embedding.h"

#include "ops/embedding.h"

namespace sq {

Embedding::Embedding(std::int64_t rows, std::int64_t width, Initializer& init)
    : weight_(add_parameter("weight", init.embedding(rows, width))) {}

Tensor Embedding::forward(const Tensor& ids) const { return embedding(weight_, ids); }

}  // namespace sq
