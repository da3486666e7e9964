// ops/block_linear_steps.h: block_linear_attention as a series of matrix products, the same on every device.
#pragma once

#include "ops/block_linear_attention.h"

namespace sq::kernel {

/// One operand of a product of all heads.
template <class T>
struct BlockFactor {
  HeadRows<T> rows;
  bool transposed = false;
};

/// C ← op(A)·op(B) + beta·C, [m,k]·[k,n], for every head. k = 0 makes C zero or leaves it.
template <class T>
struct BlockProduct {
  std::int64_t m, n, k;
  BlockFactor<const T> a, b;
  HeadRows<T> c;
  double beta = 0;
};

/// The rows of block c.
template <class T>
HeadRows<T> block_rows(const BlockLinearProblem& p, const HeadRows<T>& x, std::int64_t c) {
  return {x.at(0, 0, c * p.block), x.batch, x.head, x.row};
}
template <class T>
HeadRows<T> state_rows(const BlockLinearProblem& p, T* state) {
  const std::int64_t size = p.width * p.value_width;
  return {state, p.heads * size, size, p.value_width};
}

template <class T, class Multiply>
void block_linear_forward(const BlockLinearForward::Arguments<T>& a, Multiply multiply) {
  const BlockLinearProblem& p = a.problem;
  const HeadRows<T> state = state_rows(p, a.state);
  const HeadRows<const T> seen = state_rows(p, static_cast<const T*>(a.state));
  for (std::int64_t c = 0; c < p.blocks(); ++c) {
    // Y_c = Q_c S: nothing in the first block
    multiply(BlockProduct<T>{
        p.count(c), p.value_width, c > 0 ? p.width : 0, {block_rows(p, a.q, c)}, {seen}, block_rows(p, a.y, c)});
    if (c + 1 < p.blocks())  // S += K_cᵀ V_c
      multiply(BlockProduct<T>{
          p.width, p.value_width, p.block, {block_rows(p, a.k, c), true}, {block_rows(p, a.v, c)}, state, 1});
  }
}

template <class T, class Multiply>
void block_linear_backward(const BlockLinearBackward::Arguments<T>& a, Multiply multiply) {
  const BlockLinearProblem& p = a.problem;
  const HeadRows<T> state = state_rows(p, a.state), dstate = state_rows(p, a.dstate);
  const HeadRows<const T> seen = state_rows(p, static_cast<const T*>(a.state));
  const HeadRows<const T> slope = state_rows(p, static_cast<const T*>(a.dstate));
  for (std::int64_t c = 0; c < p.blocks(); ++c) {
    // dQ_c = dY_c Sᵀ
    multiply(BlockProduct<T>{p.count(c),
                             p.width,
                             c > 0 ? p.value_width : 0,
                             {block_rows(p, a.dy, c)},
                             {seen, true},
                             block_rows(p, a.dq, c)});
    if (c + 1 < p.blocks())
      multiply(BlockProduct<T>{
          p.width, p.value_width, p.block, {block_rows(p, a.k, c), true}, {block_rows(p, a.v, c)}, state, 1});
  }
  for (std::int64_t c = p.blocks() - 1; c >= 0; --c) {
    const bool read = c + 1 < p.blocks();
    // dK_c = V_c dSᵀ, dV_c = K_c dS: nothing in the last block
    multiply(BlockProduct<T>{
        p.count(c), p.width, read ? p.value_width : 0, {block_rows(p, a.v, c)}, {slope, true}, block_rows(p, a.dk, c)});
    multiply(BlockProduct<T>{
        p.count(c), p.value_width, read ? p.width : 0, {block_rows(p, a.k, c)}, {slope}, block_rows(p, a.dv, c)});
    if (c > 0)  // dS += Q_cᵀ dY_c
      multiply(BlockProduct<T>{
          p.width, p.value_width, p.count(c), {block_rows(p, a.q, c), true}, {block_rows(p, a.dy, c)}, dstate, 1});
  }
}

}  // namespace sq::kernel
