// tests/support/delta_rule_chunks.h: the delta rule with decay in chunks, one formula a line, with every intermediate.
// A second reference beside the recurrence, and what golden files of single steps are compared with.
//
// q, k [B,H,T,K], v [B,H,T,V], beta and log_decay [B,H,T], state [B,H,K,V]; any chunk size.
#pragma once

#include "ops/concat.h"
#include "ops/cumsum.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/view.h"

#include <vector>

namespace sq::test {

struct DeltaInputs {
  Tensor q, k, v, beta, log_decay, first_state;

  DeltaInputs part(std::int64_t begin, std::int64_t end) const {
    const auto cut = [=](const Tensor& x) { return slice(x, 2, begin, end); };
    return {cut(q), cut(k), cut(v), cut(beta), cut(log_decay), first_state};
  }
};

/// Forward: matrices of one chunk, [B,H,…].
struct DeltaChunk {
  DeltaInputs in;  // of the chunk; first_state is the state before it
  Tensor b;        // Σ_{l<=i} g_l
  Tensor gamma;    // e^(b_i - b_j) for j <= i
  Tensor a;        // β_i (k_i·k_j) Γ_ij for j < i
  Tensor t;        // (I + A)^-1
  Tensor u, w;     // T diag(β) V,  T diag(β e^b) K
  Tensor updates;  // U - W S
  Tensor p;        // s (q_i·k_j) Γ_ij for j <= i
  Tensor y;        // s diag(e^b) Q S + P · updates
  Tensor state;    // e^(b_C) S + (diag(e^(b_C - b)) K)ᵀ updates
};

/// Backward: the gradients of those of the same names.
struct DeltaChunkGradients {
  Tensor updates, p, w, t, a, first_state;
};

/// 1 on the diagonal and below, without it (`strict`) below.
inline Tensor lower_triangle(std::int64_t rows, bool strict, TensorOptions options) {
  std::vector<double> ones;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < rows; ++j) ones.push_back(j < i || (j == i && !strict) ? 1 : 0);
  return packed_copy(Tensor::from(ones, {rows, rows}), options.dtype);
}

inline Tensor transposed(const Tensor& x) { return transpose(x, -2, -1); }
inline Tensor column(const Tensor& x) { return unsqueeze(x, -1); }  // multiplies rows

/// (I + A)^-1 = (I - A)(I + A²)(I + A⁴)… for A strictly below the diagonal
inline Tensor inverse_of_unit_lower(const Tensor& a) {
  const std::int64_t rows = a.size(-1);
  const Tensor identity = lower_triangle(rows, false, a.options()) - lower_triangle(rows, true, a.options());
  Tensor power = neg(a), inverse = identity + power;
  for (std::int64_t terms = 2; terms < rows; terms *= 2) {
    power = matmul(power, power);
    inverse = matmul(inverse, identity + power);
  }
  return inverse;
}

inline DeltaChunk delta_rule_chunk(const DeltaInputs& in, double scale) {
  DeltaChunk c;
  c.in = in;
  const std::int64_t rows = in.q.size(2);
  const Tensor lower = lower_triangle(rows, false, in.q.options()), below = lower_triangle(rows, true, in.q.options());
  c.b = cumsum(in.log_decay, 2);
  c.gamma = exp((unsqueeze(c.b, -1) - unsqueeze(c.b, -2)) * lower) * lower;
  c.a = column(in.beta) * matmul(in.k, transposed(in.k)) * c.gamma * below;
  c.t = inverse_of_unit_lower(c.a);
  c.u = matmul(c.t, column(in.beta) * in.v);
  c.w = matmul(c.t, column(in.beta * exp(c.b)) * in.k);
  c.updates = c.u - matmul(c.w, in.first_state);
  c.p = matmul(in.q, transposed(in.k)) * c.gamma * scale;
  c.y = matmul(column(exp(c.b)) * in.q, in.first_state) * scale + matmul(c.p, c.updates);
  const Tensor last = slice(c.b, 2, rows - 1, rows);
  c.state = column(exp(last)) * in.first_state + matmul(transposed(column(exp(last - c.b)) * in.k), c.updates);
  return c;
}

inline std::vector<DeltaChunk> delta_rule_chunks(const DeltaInputs& in, double scale, std::int64_t chunk) {
  std::vector<DeltaChunk> chunks;
  for (std::int64_t begin = 0; begin < in.q.size(2); begin += chunk) {
    DeltaInputs part = in.part(begin, std::min(begin + chunk, in.q.size(2)));
    if (!chunks.empty()) part.first_state = chunks.back().state;
    chunks.push_back(delta_rule_chunk(part, scale));
  }
  return chunks;
}

/// dy [B,H,C,V] and the gradient of the state after the chunk.
inline DeltaChunkGradients delta_rule_chunk_gradients(const DeltaChunk& c, const Tensor& dy, const Tensor& dstate,
                                                      double scale) {
  const DeltaInputs& in = c.in;
  const std::int64_t rows = in.q.size(2);
  const Tensor lower = lower_triangle(rows, false, in.q.options()), below = lower_triangle(rows, true, in.q.options());
  const Tensor last = slice(c.b, 2, rows - 1, rows);
  DeltaChunkGradients d;
  d.updates = matmul(transposed(c.p), dy) + matmul(column(exp(last - c.b)) * in.k, dstate);
  d.p = matmul(dy, transposed(c.updates)) * lower;
  d.w = neg(matmul(d.updates, transposed(in.first_state)));
  d.t = matmul(d.updates, transposed(column(in.beta) * in.v)) +
        matmul(d.w, transposed(column(in.beta * exp(c.b)) * in.k));
  d.a = neg(matmul(matmul(transposed(c.t), d.t), transposed(c.t))) * below;
  d.first_state = column(exp(last)) * dstate + matmul(transposed(column(exp(c.b)) * in.q), dy) * scale -
                  matmul(transposed(c.w), d.updates);
  return d;
}

}  // namespace sq::test
