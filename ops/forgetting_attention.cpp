#include "ops/forgetting_attention.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/cumsum.h"
#include "ops/dispatch.h"
#include "ops/elementwise.h"
#include "ops/view.h"

namespace sq {
namespace {

constexpr std::string_view kName = "forgetting_attention";

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_forget) {
  require_same_kind(kName, {q, k, v, log_forget});
  require_attention_shapes(kName, q, k, v);
  require(q.shape() == k.shape(), kName, "q {} and k {} must have one shape [B,H,T,D]", q, k);
  require(log_forget.shape() == Shape{q.size(0), q.size(1), q.size(2)}, kName, "log_forget {} must be [B,H,T] for q {}",
          log_forget, q);
}

}  // namespace

Tensor forgetting_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_forget,
                            const ForgettingAttentionOptions& options) {
  check(q, k, v, log_forget);
  if (is_half(q.dtype())) {
    const auto wide = [](const Tensor& x) { return cast(x, DType::f32); };
    return cast(forgetting_attention(wide(q), wide(k), wide(v), wide(log_forget), options), q.dtype());
  }
  const double scale = attention_scale(kName, options.scale, q.size(3));
  const Tensor ones = Tensor::ones({q.size(0), q.size(1), q.size(2), 1}, q.options());
  const Tensor forgotten = unsqueeze(div(cumsum(log_forget, 2), -scale), -1);  // -G_j / s
  return dense_attention(concat({q, ones}, 3), concat({k, forgotten}, 3), v, {.scale = scale});
}

}  // namespace sq
