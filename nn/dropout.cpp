#include "nn/dropout.h"

#include "ops/dropout.h"

namespace sq {

Dropout::Dropout(double p) : p_(p) { require(p >= 0 && p < 1, "dropout", "probability {} is not in [0,1)", p); }

Tensor Dropout::forward(const Tensor& x) const { return rate() > 0 ? dropout(x, rate()) : x; }

}  // namespace sq
