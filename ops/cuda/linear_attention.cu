// ops/cuda/linear_attention.cu: the forward pass, in the steps of ops/linear_attention.h: what each chunk adds to the
// state, the states, the results.
#include "ops/cuda/linear_attention.h"

namespace sq::kernel {
namespace {

template <class T>
__global__ void __launch_bounds__(kLinearThreads) add_chunk(LinearAttentionForward::Arguments<T> a, RowDecays<T> rows) {
  const LinearBlock<T> chunk(a.problem, a.log_decay, rows);
  outer_products(
      a.problem, chunk, a.k, a.v,
      [&](int i, std::int64_t c) { return chunk.until_end(i) * chunk.until_end_of_row(i, c); },
      chunk.state(a.problem, a.states, chunk.number + 1));
}

template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    read_chunks(LinearAttentionForward::Arguments<T> a, RowDecays<T> rows) {
  const LinearBlock<T> chunk(a.problem, a.log_decay, rows);
  read_chunk(a.problem, chunk, a.q, a.k, a.v, static_cast<const T*>(a.states), a.y);
}

}  // namespace

template <class T>
void LinearAttentionForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  constexpr std::size_t pairs = sizeof(T) * kLinearChunk * kLinearChunk;
  const RowDecayTables<T> rows(context, name, p, a.log_decay);
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.first_state, std::int64_t{0},
                      a.states);
  cuda::launch_kernel(context, name, add_chunk<T>, one_block_a_chunk(p), a, *rows);
  cuda::launch_kernel(context, name, sum_over_chunks<T>, one_thread_a_state_element(p), p, a.log_decay, *rows, false,
                      a.states);
  cuda::launch_kernel(context, name, read_chunks<T>, one_block_a_chunk(p, pairs), a, *rows);
}
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearAttentionForward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
