// ops/cuda/delta_rule.cu: the forward pass, in the steps of ops/delta_rule.h: (I + A)^-1 of each chunk, the updates U
// and the states from chunk to chunk, the results.
#include "ops/cuda/delta_rule.h"

namespace sq::kernel {
namespace {

/// ((I + A)^-1)ᵀ = (I + Aᵀ)^-1. Each thread makes one column of it, from the diagonal up.
template <class T>
__global__ void __launch_bounds__(kLinearThreads) invert(DeltaRuleForward::Arguments<T> a, RowDecays<T> rows) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay, rows);
  const T* beta = beta_of(p, a.beta, chunk);
  T *pairs = cuda::dynamic_shared<T>(), *inverse = pairs + kLinearChunk * kLinearChunk;
  chunk.make_key_pairs(a.k, a.k, T(1), pairs);
  cuda::sync_threads();
  if (cuda::thread_index() < kLinearChunk) {
    const int column = cuda::thread_index();
    for (int j = kLinearChunk - 1; j >= 0; --j) {
      T sum = 0;
      for (int i = j + 1; i <= column && i < chunk.count; ++i)
        sum -= pairs[j * kLinearChunk + i] * beta[i] * inverse[i * kLinearChunk + column];
      inverse[j * kLinearChunk + column] = j == column ? T(1) : sum;
    }
  }
  cuda::sync_threads();
  T* out = inverse_at(p, a.inverses, chunk);
  for (int n = cuda::thread_index(); n < kLinearChunk * kLinearChunk; n += kLinearThreads) out[n] = inverse[n];
}

/// U and the states of a head for a block's columns of V.
template <class T>
__global__ void __launch_bounds__(kLinearThreads) follow_states(DeltaRuleForward::Arguments<T> a, RowDecays<T> rows) {
  const LinearAttentionProblem& p = a.problem;
  const HeadRows<T> updates = chunk_rows(p, a.updates);
  T *right = cuda::dynamic_shared<T>(), *solved = right + kLinearChunk * kStateColumns;
  for (std::int64_t number = 0; number < p.chunks(); ++number) {
    const LinearBlock<T> chunk(p, a.log_decay, rows, cuda::block_index() * p.chunks() + number);
    const T *beta = beta_of(p, a.beta, chunk), *inverse = inverse_at(p, static_cast<const T*>(a.inverses), chunk);
    const T* state = chunk.state(p, static_cast<const T*>(a.states), number);
    T* next = chunk.state(p, a.states, number + 1);
    // diag(β) (V - diag(e^b) K S)
    for_tile(p, chunk.count, [&](std::int64_t i, std::int64_t v, std::int64_t n) {
      const T* k = chunk.row(a.k, i);
      T known = 0;
      for (std::int64_t c = 0; c < p.width; ++c)
        known += k[c] * chunk.since_start_of_row(i, c) * state[c * p.state_row() + v];
      const T value = v < p.value_width ? chunk.row(a.v, i)[v] : T(0);
      right[n] = beta[i] * (value - chunk.since_start(i) * known);
    });
    cuda::sync_threads();
    // U = (I + A)^-1 …
    for_tile(p, chunk.count, [&](std::int64_t i, std::int64_t v, std::int64_t n) {
      T sum = 0;
      for (std::int64_t j = 0; j <= i; ++j)
        sum += inverse[j * kLinearChunk + i] * right[j * kStateColumns + n % kStateColumns];
      solved[n] = sum;
      chunk.row(updates, i)[v] = sum;
    });
    cuda::sync_threads();
    // S' = e^(b_C) S + (diag(e^(b_C - b)) K)ᵀ U
    const T kept = chunk.since_start(chunk.count - 1);
    for_tile(p, p.width, [&](std::int64_t c, std::int64_t v, std::int64_t n) {
      T sum = kept * chunk.since_start_of_row(chunk.count - 1, c) * state[c * p.state_row() + v];
      for (int i = 0; i < chunk.count; ++i)
        sum += chunk.until_end(i) * chunk.until_end_of_row(i, c) * chunk.row(a.k, i)[c] *
               solved[i * kStateColumns + n % kStateColumns];
      next[c * p.state_row() + v] = sum;
    });
    cuda::sync_threads();
  }
}

template <class T>
__global__ void __launch_bounds__(kLinearThreads) read_chunks(DeltaRuleForward::Arguments<T> a, RowDecays<T> rows) {
  const LinearBlock<T> chunk(a.problem, a.log_decay, rows);
  read_chunk(a.problem, chunk, a.q, a.k, chunk_rows(a.problem, static_cast<const T*>(a.updates)),
             static_cast<const T*>(a.states), a.y);
}

}  // namespace

template <class T>
void DeltaRuleForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const RowDecayTables<T> rows(context, name, p, a.log_decay);
  constexpr std::size_t pairs = sizeof(T) * kLinearChunk * kLinearChunk;
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.first_state, std::int64_t{0},
                      a.states);
  cuda::launch_kernel(context, name, invert<T>, one_block_a_chunk(p, 2 * pairs), a, *rows);
  cuda::launch_kernel(context, name, follow_states<T>,
                      one_block_a_column(p, 2 * sizeof(T) * kLinearChunk * kStateColumns), a, *rows);
  cuda::launch_kernel(context, name, read_chunks<T>, one_block_a_chunk(p, pairs), a, *rows);
}
template void DeltaRuleForward::cuda(const cuda::Context&, const Arguments<float>&);
template void DeltaRuleForward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
