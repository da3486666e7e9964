#include "ops/embedding.h"

#include "autograd/node.h"
#include "ops/dispatch.h"
#include "ops/gather.h"
#include "ops/index.h"
#include "tensor/memory.h"

namespace sq {

Tensor embedding(const Tensor& table, const Tensor& ids) {
  require(table.rank() == 2 && is_float(table.dtype()), "embedding", "the table must be a float matrix [V,C], not {}",
          table);
  const std::int64_t rows = table.size(0), columns = table.size(1);
  const Tensor source = packed(table), index = checked_index("embedding", ids, rows);
  Shape shape = ids.shape();
  shape.push_back(columns);
  Tensor y = Tensor::empty(shape, table.options());
  kernel::select_rows(source, 1, rows, columns, index, y);
  return record("embedding", {table}, y, {index}, [rows, columns](const Saved& saved, const Tensor& dy) -> Gradients {
    // A tied output matrix, whose gradient comes first, shares its table: most rows of a second one would be zeros.
    if (Tensor* sum = saved.gradient_so_far(0)) {
      kernel::add_rows(packed(dy), 1, rows, columns, saved[0], true, *sum);
      sum->mark_changed();
      return {Tensor()};
    }
    Tensor dtable = Tensor::empty({rows, columns}, dy.options());
    kernel::add_rows(packed(dy), 1, rows, columns, saved[0], false, dtable);
    return {dtable};
  });
}

}  // namespace sq
