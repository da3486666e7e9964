// ops/cuda/linear_attention_backward.cu: gradients, in the steps of ops/linear_attention.h: what each chunk adds to the
// gradient of the state before it, these gradients from the end to the beginning, dq, dk, dv and dg.
#include "ops/cuda/linear_attention.h"

namespace sq::kernel {
namespace {

template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    add_chunk(LinearAttentionBackward::Arguments<T> a, RowDecays<T> rows) {
  const LinearBlock<T> chunk(a.problem, a.log_decay, rows);
  const T scale = static_cast<T>(a.problem.scale);
  outer_products(
      a.problem, chunk, a.q, a.dy,
      [&](int i, std::int64_t c) { return scale * chunk.since_start(i) * chunk.since_start_of_row(i, c); },
      chunk.state(a.problem, a.dstates, chunk.number));
}

template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    gradients(LinearAttentionBackward::Arguments<T> a, RowDecays<T> rows) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay, rows);
  const T scale = static_cast<T>(p.scale);
  T *pairs = cuda::dynamic_shared<T>(), *slopes = pairs + kLinearChunk * kLinearChunk;
  chunk.make_key_pairs(a.k, a.q, scale, pairs);
  chunk.make_value_pairs(a.v, a.dy, p.value_width, scale, slopes);
  cuda::sync_threads();
  const T* state = chunk.state(p, a.states, chunk.number);
  const T* dstate = chunk.state(p, static_cast<const T*>(a.dstates), chunk.number + 1);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.width);
    const std::int64_t c = n % p.width;
    T dq = 0, dk = 0;
    for (int j = 0; j <= i; ++j)
      dq += slopes[j * kLinearChunk + i] * chunk.row(a.k, j)[c] * chunk.between_of_row(i, j, c);
    for (int j = i; j < chunk.count; ++j)
      dk += slopes[i * kLinearChunk + j] * chunk.row(a.q, j)[c] * chunk.between_of_row(j, i, c);
    const T start = chunk.since_start(i) * chunk.since_start_of_row(i, c);
    const T end = chunk.until_end(i) * chunk.until_end_of_row(i, c);
    chunk.row(a.dq, i)[c] = dq + scale * start * times_state_row(p, chunk.row(a.dy, i), state, c);
    chunk.row(a.dk, i)[c] = dk + end * times_state_row(p, chunk.row(a.v, i), dstate, c);
  }
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const int j = static_cast<int>(n / p.value_width);
    const std::int64_t v = n % p.value_width;
    T of_chunk = 0, of_state = 0;
    for (int i = j; i < chunk.count; ++i) of_chunk += pairs[j * kLinearChunk + i] * chunk.row(a.dy, i)[v];
    for (std::int64_t c = 0; c < p.width; ++c)
      of_state += chunk.row(a.k, j)[c] * chunk.until_end_of_row(j, c) * dstate[c * p.state_row() + v];
    chunk.row(a.dv, j)[v] = of_chunk + chunk.until_end(j) * of_state;
  }
  if (a.dlog_decay == nullptr) return;
  cuda::sync_threads();  // dq and dk stand
  decay_gradient(
      p, chunk, a.states, static_cast<const T*>(a.dstates),
      [&](int i, std::int64_t c) {
        return chunk.row(a.q, i)[c] * chunk.row(a.dq, i)[c] - chunk.row(a.k, i)[c] * chunk.row(a.dk, i)[c];
      },
      a.dlog_decay);
}

}  // namespace

template <class T>
void LinearAttentionBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const RowDecayTables<T> rows(context, name, p, a.log_decay);
  constexpr std::size_t pairs = 2 * sizeof(T) * kLinearChunk * kLinearChunk;
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.dstate, p.chunks(), a.dstates);
  cuda::launch_kernel(context, name, add_chunk<T>, one_block_a_chunk(p), a, *rows);
  cuda::launch_kernel(context, name, sum_over_chunks<T>, one_thread_a_state_element(p), p, a.log_decay, *rows, true,
                      a.dstates);
  cuda::launch_kernel(context, name, gradients<T>, one_block_a_chunk(p, pairs), a, *rows);
}
template void LinearAttentionBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearAttentionBackward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
