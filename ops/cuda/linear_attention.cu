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
__global__ void __launch_bounds__(kLinearThreads) read_chunks(LinearAttentionForward::Arguments<T> a) {
  const LinearBlock<T> chunk(a.problem, a.log_decay);
  read_chunk(a.problem, chunk, a.q, a.k, a.v, static_cast<const T*>(a.states), a.y);
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
  cuda::launch_kernel(context, name, read_chunks<T>, one_block_a_chunk(p, pairs), a);
}
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
