// ops/cuda/linear_attention.cu: the forward pass, in the steps of ops/linear_attention.h: what each chunk adds to the
// state, the states, the results.
#include "ops/cuda/linear_attention.h"

namespace sq::kernel {
namespace {

template <class T>
__global__ void __launch_bounds__(kLinearThreads) add_chunk(LinearAttentionForward::Arguments<T> a) {
  const LinearBlock<T> chunk(a.problem, a.log_decay);
  outer_products(
      a.problem, chunk, a.k, a.v, [&](int i) { return chunk.kept_at_end(i); },
      chunk.state(a.problem, a.states, chunk.number + 1));
}

template <class T>
__global__ void __launch_bounds__(kLinearThreads) read_chunk(LinearAttentionForward::Arguments<T> a) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay);
  const T scale = static_cast<T>(p.scale);
  T* pairs = cuda::dynamic_shared<T>();
  chunk.make_pairs(a.k, a.q, p.width, scale, pairs);
  cuda::sync_threads();
  const T* state = chunk.state(p, static_cast<const T*>(a.states), chunk.number);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.value_width);
    const std::int64_t v = n % p.value_width;
    const T* q = chunk.row(a.q, i);
    T of_state = 0, of_chunk = 0;
    for (std::int64_t c = 0; c < p.width; ++c) of_state += q[c] * state[c * p.state_row() + v];
    for (int j = 0; j <= i; ++j) of_chunk += pairs[j * kLinearChunk + i] * chunk.row(a.v, j)[v];
    chunk.row(a.y, i)[v] = scale * chunk.kept_of_state(i) * of_state + of_chunk;
  }
}

}  // namespace

template <class T>
void LinearAttentionForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  constexpr std::size_t pairs = sizeof(T) * kLinearChunk * kLinearChunk;
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.first_state, std::int64_t{0},
                      a.states);
  cuda::launch_kernel(context, name, add_chunk<T>, one_block_a_chunk(p), a);
  cuda::launch_kernel(context, name, sum_over_chunks<T>, one_thread_a_state_element(p), p, a.log_decay, false,
                      a.states);
  cuda::launch_kernel(context, name, read_chunk<T>, one_block_a_chunk(p, pairs), a);
}
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
