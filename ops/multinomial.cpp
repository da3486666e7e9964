#include "ops/multinomial.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "tensor/memory.h"

namespace sq {

Tensor multinomial(const Tensor& probabilities, Generator& generator) {
  require(probabilities.rank() == 2, "multinomial", "{} must have the axes [rows, choices]", probabilities);
  if (computes_in_f32(probabilities)) return multinomial(cast(detach(probabilities), DType::f32), generator);
  const Tensor input = packed(probabilities);
  const std::int64_t rows = input.size(0), columns = input.size(1);
  Tensor index = Tensor::empty({rows}, {DType::i64, input.device()});
  visit_float(input, "multinomial", [&]<class T>() {
    launch<kernel::Multinomial>(input.device(), kernel::Multinomial::Arguments<T>{.rows = rows,
                                                                                  .columns = columns,
                                                                                  .seed = generator.seed,
                                                                                  .stream = generator.take_stream(),
                                                                                  .probabilities = input.data<T>(),
                                                                                  .index = index.data<std::int64_t>()});
  });
  const Tensor drawn = moved(index, Device{});
  for (std::int64_t row = 0; row < rows; ++row)
    require(drawn.data<std::int64_t>()[row] >= 0, "multinomial",
            "row {} of {} is no distribution; its entries must be finite, not negative and not all 0", row,
            probabilities);
  return index;
}

}  // namespace sq
