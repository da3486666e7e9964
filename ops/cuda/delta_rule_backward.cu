// ops/cuda/delta_rule_backward.cu: gradients, in the steps of ops/delta_rule.h: what each chunk's results add to dU and
// to the gradient of the state before it, R and these gradients from the last chunk to the first, and all others.
#include "ops/cuda/delta_rule.h"

namespace sq::kernel {
namespace {

/// s (Q Kᵀ ∘ Γ)ᵀ dY and s (diag(e^b) Q)ᵀ dY
template <class T>
__global__ void __launch_bounds__(kLinearThreads) add_results(DeltaRuleBackward::Arguments<T> a, RowDecays<T> rows) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay, rows);
  const T scale = static_cast<T>(p.scale);
  const HeadRows<T> du = chunk_rows(p, a.residuals);
  T* pairs = cuda::dynamic_shared<T>();
  chunk.make_key_pairs(a.k, a.q, scale, pairs);
  cuda::sync_threads();
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.state_row(); n += kLinearThreads) {
    const int j = static_cast<int>(n / p.state_row());
    const std::int64_t v = n % p.state_row();
    T sum = 0;
    if (v < p.value_width)
      for (int i = j; i < chunk.count; ++i) sum += pairs[j * kLinearChunk + i] * chunk.row(a.dy, i)[v];
    chunk.row(du, j)[v] = sum;
  }
  outer_products(
      p, chunk, a.q, a.dy,
      [&](int i, std::int64_t c) { return scale * chunk.since_start(i) * chunk.since_start_of_row(i, c); },
      chunk.state(p, a.dstates, chunk.number));
}

/// R and the gradients of the states of a head for a block's columns of V.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    follow_gradients(DeltaRuleBackward::Arguments<T> a, RowDecays<T> rows) {
  const LinearAttentionProblem& p = a.problem;
  const HeadRows<T> residuals = chunk_rows(p, a.residuals);
  T *du = cuda::dynamic_shared<T>(), *solved = du + kLinearChunk * kStateColumns;
  for (std::int64_t number = p.chunks() - 1; number >= 0; --number) {
    const LinearBlock<T> chunk(p, a.log_decay, rows, cuda::block_index() * p.chunks() + number);
    const T *beta = beta_of(p, a.beta, chunk), *inverse = inverse_at(p, a.inverses, chunk);
    T* before = chunk.state(p, a.dstates, number);
    const T* after = chunk.state(p, static_cast<const T*>(a.dstates), number + 1);
    // dU ← dU + diag(e^(b_C - b)) K dS'
    for_tile(p, chunk.count, [&](std::int64_t i, std::int64_t v, std::int64_t n) {
      const T* k = chunk.row(a.k, i);
      T sum = 0;
      for (std::int64_t c = 0; c < p.width; ++c)
        sum += k[c] * chunk.until_end_of_row(i, c) * after[c * p.state_row() + v];
      du[n] = chunk.row(residuals, i)[v] + chunk.until_end(i) * sum;
    });
    cuda::sync_threads();
    // R = (I + A)^-ᵀ dU
    for_tile(p, chunk.count, [&](std::int64_t j, std::int64_t v, std::int64_t n) {
      T sum = 0;
      for (std::int64_t i = j; i < chunk.count; ++i)
        sum += inverse[j * kLinearChunk + i] * du[i * kStateColumns + n % kStateColumns];
      chunk.row(residuals, j)[v] = sum;
      solved[n] = beta[j] * chunk.since_start(j) * sum;
    });
    cuda::sync_threads();
    // dS ← dS + e^(b_C) dS' - (diag(β e^b) K)ᵀ R
    const T kept = chunk.since_start(chunk.count - 1);
    for_tile(p, p.width, [&](std::int64_t c, std::int64_t v, std::int64_t n) {
      T sum = before[c * p.state_row() + v] +
              kept * chunk.since_start_of_row(chunk.count - 1, c) * after[c * p.state_row() + v];
      for (int i = 0; i < chunk.count; ++i)
        sum -= chunk.since_start_of_row(i, c) * chunk.row(a.k, i)[c] * solved[i * kStateColumns + n % kStateColumns];
      before[c * p.state_row() + v] = sum;
    });
    cuda::sync_threads();
  }
}

/// dβ_i = R_i·v_i + k_i·D_i, one warp a position.
template <class T>
__device__ inline void beta_gradient(const DeltaRuleBackward::Arguments<T>& a, const LinearBlock<T>& chunk,
                                     const HeadRows<const T>& residuals, const HeadRows<T>& corrections) {
  const LinearAttentionProblem& p = a.problem;
  for (int i = cuda::warp_index(); i < chunk.count; i += kLinearThreads / cuda::kWarp) {
    const T *k = chunk.row(a.k, i), *d = chunk.row(corrections, i), *r = chunk.row(residuals, i),
            *v = chunk.row(a.v, i);
    T sum = 0;
    for (std::int64_t c = cuda::lane_index(); c < p.width; c += cuda::kWarp) sum += k[c] * d[c];
    for (std::int64_t c = cuda::lane_index(); c < p.value_width; c += cuda::kWarp) sum += r[c] * v[c];
    sum = cuda::warp_sum(sum);
    if (cuda::lane_index() == 0) a.dbeta[chunk.position(p, i)] = sum;
  }
}

/// The gradients of one chunk. `corrections` [B,H,T,K] is memory for D.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    gradients(DeltaRuleBackward::Arguments<T> a, RowDecays<T> rows, HeadRows<T> corrections) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay, rows);
  const T scale = static_cast<T>(p.scale), *beta = beta_of(p, a.beta, chunk);
  const HeadRows<const T> updates = chunk_rows(p, a.updates);
  const HeadRows<const T> residuals = chunk_rows(p, static_cast<const T*>(a.residuals));
  T *slopes = cuda::dynamic_shared<T>(), *system = slopes + kLinearChunk * kLinearChunk;  // dP and X
  chunk.make_value_pairs(updates, a.dy, p.value_width, scale, slopes);
  chunk.make_value_pairs(updates, residuals, p.value_width, T(-1), system);
  cuda::sync_threads();
  const T* state = chunk.state(p, a.states, chunk.number);
  const T* dstate = chunk.state(p, static_cast<const T*>(a.dstates), chunk.number + 1);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.width);
    const std::int64_t c = n % p.width;
    T dq = 0, d = 0, e = 0;
    for (int j = 0; j <= i; ++j) {
      const T key = chunk.row(a.k, j)[c] * chunk.between_of_row(i, j, c);
      dq += slopes[j * kLinearChunk + i] * key;
      if (j < i) d += system[j * kLinearChunk + i] * key;
    }
    for (int j = i; j < chunk.count; ++j) {
      T sum = slopes[i * kLinearChunk + j] * chunk.row(a.q, j)[c];
      if (j > i) sum += system[i * kLinearChunk + j] * beta[j] * chunk.row(a.k, j)[c];
      e += sum * chunk.between_of_row(j, i, c);
    }
    const T start = chunk.since_start(i) * chunk.since_start_of_row(i, c);
    dq += scale * start * times_state_row(p, chunk.row(a.dy, i), state, c);
    d -= start * times_state_row(p, chunk.row(residuals, i), state, c);
    e += chunk.until_end(i) * chunk.until_end_of_row(i, c) * times_state_row(p, chunk.row(updates, i), dstate, c);
    chunk.row(a.dq, i)[c] = dq;
    chunk.row(corrections, i)[c] = d;
    chunk.row(a.dk, i)[c] = beta[i] * d + e;
  }
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const std::int64_t i = n / p.value_width, v = n % p.value_width;
    chunk.row(a.dv, i)[v] = beta[i] * chunk.row(residuals, i)[v];
  }
  cuda::sync_threads();
  beta_gradient(a, chunk, residuals, corrections);
  if (a.dlog_decay == nullptr) return;
  decay_gradient(
      p, chunk, a.states, static_cast<const T*>(a.dstates),
      [&](int i, std::int64_t c) {  // q·dq + k·(β D - E), dk being β D + E
        return chunk.row(a.q, i)[c] * chunk.row(a.dq, i)[c] +
               chunk.row(a.k, i)[c] * (2 * beta[i] * chunk.row(corrections, i)[c] - chunk.row(a.dk, i)[c]);
      },
      a.dlog_decay);
}

}  // namespace

template <class T>
void DeltaRuleBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const RowDecayTables<T> rows(context, name, p, a.log_decay);
  constexpr std::size_t pairs = sizeof(T) * kLinearChunk * kLinearChunk;
  const cuda::Buffer<T> memory(context, p.batch * p.heads * p.positions * p.width);
  const HeadRows<T> corrections{memory.data(), p.heads * p.positions * p.width, p.positions * p.width, p.width};
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.dstate, p.chunks(), a.dstates);
  cuda::launch_kernel(context, name, add_results<T>, one_block_a_chunk(p, pairs), a, *rows);
  cuda::launch_kernel(context, name, follow_gradients<T>,
                      one_block_a_column(p, 2 * sizeof(T) * kLinearChunk * kStateColumns), a, *rows);
  cuda::launch_kernel(context, name, gradients<T>, one_block_a_chunk(p, 2 * pairs), a, *rows, corrections);
}
template void DeltaRuleBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void DeltaRuleBackward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
