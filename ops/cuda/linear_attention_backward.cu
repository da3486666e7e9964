// ops/cuda/linear_attention_backward.cu: gradients, in the steps of ops/linear_attention.h: what each chunk adds to the
// gradient of the state before it, these gradients from the end to the beginning, dq, dk and dv, and dg.
#include "ops/cuda/linear_attention.h"

namespace sq::kernel {
namespace {

template <class T>
__global__ void __launch_bounds__(kLinearThreads) add_chunk(LinearAttentionBackward::Arguments<T> a) {
  const LinearBlock<T> chunk(a.problem, a.log_decay);
  const T scale = static_cast<T>(a.problem.scale);
  outer_products(
      a.problem, chunk, a.q, a.dy, [&](int i) { return scale * chunk.kept_of_state(i); },
      chunk.state(a.problem, a.dstates, chunk.number));
}

template <class T>
__global__ void __launch_bounds__(kLinearThreads) gradients(LinearAttentionBackward::Arguments<T> a) {
  const LinearAttentionProblem& p = a.problem;
  const LinearBlock<T> chunk(p, a.log_decay);
  const T scale = static_cast<T>(p.scale);
  T *pairs = cuda::dynamic_shared<T>(), *slopes = pairs + kLinearChunk * kLinearChunk;
  chunk.make_pairs(a.k, a.q, p.width, scale, pairs);
  chunk.make_pairs(a.v, a.dy, p.value_width, scale, slopes);
  cuda::sync_threads();
  const T* state = chunk.state(p, a.states, chunk.number);
  const T* dstate = chunk.state(p, static_cast<const T*>(a.dstates), chunk.number + 1);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.width);
    const std::int64_t c = n % p.width;
    T dq = 0, dk = 0;
    for (int j = 0; j <= i; ++j) dq += slopes[j * kLinearChunk + i] * chunk.row(a.k, j)[c];
    for (int j = i; j < chunk.count; ++j) dk += slopes[i * kLinearChunk + j] * chunk.row(a.q, j)[c];
    chunk.row(a.dq, i)[c] = dq + scale * chunk.kept_of_state(i) * times_state_row(p, chunk.row(a.dy, i), state, c);
    chunk.row(a.dk, i)[c] = dk + chunk.kept_at_end(i) * times_state_row(p, chunk.row(a.v, i), dstate, c);
  }
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const int j = static_cast<int>(n / p.value_width);
    const std::int64_t v = n % p.value_width;
    T of_chunk = 0, of_state = 0;
    for (int i = j; i < chunk.count; ++i) of_chunk += pairs[j * kLinearChunk + i] * chunk.row(a.dy, i)[v];
    for (std::int64_t c = 0; c < p.width; ++c) of_state += chunk.row(a.k, j)[c] * dstate[c * p.state_row() + v];
    chunk.row(a.dv, j)[v] = of_chunk + chunk.kept_at_end(j) * of_state;
  }
}

/// q_t·dq_t - k_t·dk_t
template <class T>
__device__ inline T decay_term(const LinearAttentionBackward::Arguments<T>& a, std::int64_t b, std::int64_t h,
                               std::int64_t t) {
  const T *q = a.q.at(b, h, t), *k = a.k.at(b, h, t), *dq = a.dq.at(b, h, t), *dk = a.dk.at(b, h, t);
  T sum = 0;
  for (std::int64_t c = 0; c < a.problem.width; ++c) sum += q[c] * dq[c] - k[c] * dk[c];
  return sum;
}

/// One block a head: dg_t = Σ_{l>=t} (q_l·dq_l - k_l·dk_l) + ⟨S_T, dS_T⟩. Each thread sums a stretch of positions, from
/// what the stretches behind it add up to.
template <class T>
__global__ void __launch_bounds__(kLinearThreads) decay_gradient(LinearAttentionBackward::Arguments<T> a) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t head = cuda::block_index(), b = head / p.heads, h = head % p.heads;
  const std::int64_t last = (head * (p.chunks() + 1) + p.chunks()) * p.state_size();
  T inner = 0;
  for (std::int64_t n = cuda::thread_index(); n < p.state_size(); n += kLinearThreads)
    inner += a.states[last + n] * a.dstates[last + n];
  inner = cuda::block_sum(inner);
  const std::int64_t stretch = (p.positions + kLinearThreads - 1) / kLinearThreads;
  const std::int64_t begin = cuda::thread_index() * stretch;
  const std::int64_t end = begin + stretch < p.positions ? begin + stretch : p.positions;
  T own = 0;
  for (std::int64_t t = begin; t < end; ++t) own += decay_term(a, b, h, t);
  struct Tag;
  T* sums = cuda::static_shared<T, kLinearThreads, Tag>();
  sums[cuda::thread_index()] = own;
  cuda::sync_threads();
  T sum = inner;
  for (int n = kLinearThreads - 1; n > cuda::thread_index(); --n) sum += sums[n];
  for (std::int64_t t = end - 1; t >= begin; --t) {
    sum += decay_term(a, b, h, t);
    a.dlog_decay[head * p.positions + t] = sum;
  }
}

}  // namespace

template <class T>
void LinearAttentionBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  constexpr std::size_t pairs = 2 * sizeof(T) * kLinearChunk * kLinearChunk;
  cuda::launch_kernel(context, name, set_state<T>, one_thread_a_state_element(p), p, a.dstate, p.chunks(), a.dstates);
  cuda::launch_kernel(context, name, add_chunk<T>, one_block_a_chunk(p), a);
  cuda::launch_kernel(context, name, sum_over_chunks<T>, one_thread_a_state_element(p), p, a.log_decay, true,
                      a.dstates);
  cuda::launch_kernel(context, name, gradients<T>, one_block_a_chunk(p, pairs), a);
  if (a.dlog_decay != nullptr && p.positions > 0)
    cuda::launch_kernel(context, name, decay_gradient<T>, {.blocks = p.batch * p.heads, .threads = kLinearThreads}, a);
}
template void LinearAttentionBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearAttentionBackward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
