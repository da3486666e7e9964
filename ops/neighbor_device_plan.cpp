#include "ops/neighbor_device_plan.h"

#include "tensor/cpu/threads.h"
#include "tensor/memory.h"

#include <algorithm>
#include <bit>

namespace sq {
namespace {

template <class T>
Tensor uploaded(const std::vector<T>& values, Device device) {
  const UseDevice host{Device{}};
  return moved(Tensor::from(values, {static_cast<std::int64_t>(values.size())}), device);
}

Tensor uploaded_or_none(const std::vector<std::int32_t>& values, Device device) {
  return values.empty() ? Tensor() : uploaded(values, device);
}

/// Parts that a tile of these lists needs.
std::int64_t parts_needed(const TiledLists& lists, std::int64_t tile) {
  constexpr std::int64_t kRows = TiledLists::kTileRows;
  std::int64_t parts = cpu::block_count(lists.columns.count(tile), KeyParts::kPartColumns);
  for (std::int64_t list = tile * kRows; list < std::min((tile + 1) * kRows, lists.rest.lists()); ++list)
    parts = std::max(parts, cpu::block_count(lists.rest.count(list), KeyParts::kPartRest));
  return parts;
}

}  // namespace

DeviceTiledLists on_device(const TiledLists& lists, Device device) {
  std::vector<std::int64_t> rows(lists.rows.size());
  std::transform(lists.rows.begin(), lists.rows.end(), rows.begin(),
                 [](std::uint64_t bits) { return std::bit_cast<std::int64_t>(bits); });
  return {.column_begin = uploaded(lists.columns.begin, device),
          .column_entry = uploaded(lists.columns.entry, device),
          .rows = uploaded(rows, device),
          .column_repeat = uploaded_or_none(lists.columns.repeat, device),
          .rest_begin = uploaded(lists.rest.begin, device),
          .rest_entry = uploaded(lists.rest.entry, device),
          .rest_repeat = uploaded_or_none(lists.rest.repeat, device)};
}

KeyParts make_key_parts(const TiledLists& queries, const TiledLists& plain_queries) {
  KeyParts result;
  std::vector<std::int32_t> whole;
  const auto number = [](std::int64_t n) { return static_cast<std::int32_t>(n); };
  for (std::int64_t tile = 0; tile < queries.columns.lists(); ++tile) {
    const std::int64_t parts = std::max(parts_needed(queries, tile), parts_needed(plain_queries, tile));
    if (parts <= 1) {
      whole.insert(whole.end(), {number(tile), 0, -1});
      continue;
    }
    result.splits.insert(result.splits.end(), {number(tile), number(result.slots), number(parts)});
    for (std::int64_t n = 0; n < parts; ++n)
      result.parts.insert(result.parts.end(), {number(tile), number(n), number(result.slots++)});
  }
  result.parts.insert(result.parts.end(), whole.begin(), whole.end());
  return result;
}

}  // namespace sq
