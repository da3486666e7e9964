#include "ops/block_retrieval.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/matrix_rows.h"

namespace sq {
namespace {

constexpr std::string_view kName = "block_retrieval";

void check(const Tensor& q, const Tensor& r, const Tensor& h, const Tensor& states, std::int64_t block,
           const BlockRetrievalOptions& options) {
  require(block >= 1, kName, "blocks of {} positions; use 1 or more", block);
  require_same_kind(kName, {q, r, h, states});
  require(q.rank() == 4 && r.rank() == 4 && h.rank() == 4 && states.rank() == 5, kName,
          "q {}, r {}, h {} must have four axes and states {} five, [B,H,n,K,V]", q, r, h, states);
  const std::int64_t blocks = (q.size(2) + block - 1) / block;
  for (const Tensor& x : {r, h, states})
    require(x.size(0) == q.size(0) && x.size(1) == q.size(1), kName, "q {} and {} differ in batch size or heads", q, x);
  require(h.size(2) == blocks && states.size(2) == blocks, kName,
          "h {} and states {} need {} blocks of {} positions for q {}", h, states, blocks, block, q);
  require(r.size(2) == blocks || r.size(2) == q.size(2), kName, "r {} must have {} rows, one a block, or {}", r, blocks,
          q.size(2));
  require(r.size(3) == h.size(3), kName, "r {} and h {} differ in width", r, h);
  require(states.size(3) == q.size(3), kName, "states {} must have the width of q {}", states, q);
  require(q.size(3) >= 1 && h.size(3) >= 1 && states.size(4) >= 1, kName, "q {}, h {} and states {} need a width", q, h,
          states);
  if (!options.exists.defined()) return;
  require(options.exists.dtype() == DType::u8 && options.exists.device() == q.device() &&
              options.exists.shape() == Shape{q.size(0), blocks},
          kName, "exists {} must be u8 [B,n] beside h {}", options.exists, h);
}

Tensor zero_heads(const Tensor& like) {
  Tensor x = empty_heads(like.size(0), like.size(1), like.size(2), like.size(3), like.options());
  fill_(x, 0);
  return x;
}

Gradients backward(kernel::BlockRetrievalProblem p, const Saved& saved, const Tensor& upstream) {
  const Tensor &q = saved[0], &r = saved[1], &h = saved[2], &states = saved[3], &mixtures = saved[4],
               &exists = saved[5];
  p.exists = exists.defined() ? exists.data<std::uint8_t>() : nullptr;
  const Tensor dy = matrix_rows(upstream);
  Tensor dq = zero_heads(q), dr = zero_heads(r), dh = zero_heads(h), dstates = Tensor::zeros_like(states);
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::BlockRetrievalBackward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_matrices<T>(q),
                                                    .r = head_matrices<T>(r),
                                                    .h = head_matrices<T>(h),
                                                    .dy = head_matrices<T>(dy),
                                                    .states = states.data<T>(),
                                                    .mixtures = mixtures.defined() ? mixtures.data<T>() : nullptr,
                                                    .dq = head_matrices<T>(dq),
                                                    .dr = head_matrices<T>(dr),
                                                    .dh = head_matrices<T>(dh),
                                                    .dstates = dstates.data<T>()});
  });
  return {dq, dr, dh, dstates};
}

}  // namespace

Tensor block_retrieval(const Tensor& q, const Tensor& r, const Tensor& h, const Tensor& states, std::int64_t block,
                       const BlockRetrievalOptions& options) {
  check(q, r, h, states, block, options);
  if (is_half(q.dtype())) {
    const auto wide = [](const Tensor& x) { return cast(x, DType::f32); };
    return cast(block_retrieval(wide(q), wide(r), wide(h), wide(states), block, options), q.dtype());
  }
  const Tensor queries = matrix_rows(q), retrievers = matrix_rows(r), keys = matrix_rows(h), memory = packed(states);
  const Tensor exists = options.exists.defined() ? packed(options.exists) : Tensor();
  const kernel::BlockRetrievalProblem p{.batch = q.size(0),
                                        .heads = q.size(1),
                                        .positions = q.size(2),
                                        .width = q.size(3),
                                        .value_width = states.size(4),
                                        .key_width = h.size(3),
                                        .block = std::min(block, std::max<std::int64_t>(q.size(2), 1)),
                                        .blocks = h.size(2),
                                        .per_position = r.size(2) != h.size(2),
                                        .scale = attention_scale(kName, options.scale, h.size(3)),
                                        .exists = exists.defined() ? exists.data<std::uint8_t>() : nullptr};
  Tensor y = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  if (y.numel() == 0) return y;
  Tensor mixtures = p.per_position ? Tensor() : Tensor::empty_like(memory);
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::BlockRetrievalForward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_matrices<T>(queries),
                                                    .r = head_matrices<T>(retrievers),
                                                    .h = head_matrices<T>(keys),
                                                    .states = memory.data<T>(),
                                                    .mixtures = mixtures.defined() ? mixtures.data<T>() : nullptr,
                                                    .y = head_matrices<T>(y)});
  });
  return record(kName, {q, r, h, states}, y, {queries, retrievers, keys, memory, mixtures, exists},
                [p](const Saved& saved, const Tensor& dy) { return backward(p, saved, dy); });
}

}  // namespace sq
