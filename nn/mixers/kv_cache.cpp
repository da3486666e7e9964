#include "nn/mixers/kv_cache.h"

#include "tensor/memory.h"

namespace sq {
namespace {

/// Rows from … from+count-1 of batch row b of [B',Hkv,t,D] → the places to … of the cache.
void put_run(const Tensor& memory, const Tensor& rows, std::int64_t b, std::int64_t from, std::int64_t count,
             std::int64_t to) {
  const std::int64_t heads = memory.size(2), width = memory.size(3);
  const Shape shape{heads, count, width};
  Tensor target = memory.alias(shape, {width, heads * width, 1}, to * heads * width);
  const Shape& s = rows.strides();
  copy_(target, rows.alias(shape, {s[1], s[2], s[3]}, b * s[0] + from * s[2]));
}

}  // namespace

// Zeros, so that a kernel may multiply what it masks.
KvCache::KvCache(std::int64_t batch, std::int64_t slots, const AttentionPlan& sizes, TensorOptions options)
    : keys_(Tensor::zeros({batch, slots, sizes.num_kv_heads, sizes.head_dim}, options)),
      values_(Tensor::zeros({batch, slots, sizes.num_kv_heads, sizes.head_dim}, options)) {}

std::int64_t KvCache::bytes() const { return 2 * keys_.numel() * item_size(keys_.dtype()); }

void KvCache::put(const Tensor& keys, const Tensor& values, std::span<const std::int64_t> places) {
  const std::int64_t batch = keys.size(0), t = keys.size(2);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::span<const std::int64_t> row =
        places.subspan(static_cast<std::size_t>(b * t), static_cast<std::size_t>(t));
    for (std::size_t begin = 0, end = 0; begin < row.size(); begin = end) {
      end = begin + 1;
      if (row[begin] < 0) continue;
      while (end < row.size() && row[end] == row[end - 1] + 1) ++end;
      const auto from = static_cast<std::int64_t>(begin), count = static_cast<std::int64_t>(end - begin);
      put_run(keys_, keys, b, from, count, row[begin]);
      put_run(values_, values, b, from, count, row[begin]);
    }
  }
}

Tensor KvCache::view(const Tensor& memory, std::int64_t begin, std::int64_t end, std::int64_t slots) {
  const Shape& s = memory.strides();
  return memory.alias({end - begin, memory.size(2), slots, memory.size(3)}, {s[0], s[2], s[1], s[3]}, begin * s[0]);
}

Tensor KvCache::flat(const Tensor& memory) {
  const Shape& s = memory.strides();
  return memory.alias({1, memory.size(2), memory.size(0) * memory.size(1), memory.size(3)},
                      {memory.numel(), s[2], s[1], s[3]}, 0);
}

}  // namespace sq
