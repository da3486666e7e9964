// ops/cuda/linear_attention.h: what the forward and the backward kernels of linear attention share. One block works on
// one chunk of one head; f32 or f64 throughout.
#pragma once

#include "ops/linear_attention.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {

constexpr int kLinearThreads = 256, kLinearChunk = LinearAttentionProblem::kChunk;

/// The chunk of this block: its positions [first, first+count), and in shared memory b_i = g_first + … + g_i.
template <class T>
struct LinearBlock {
  std::int64_t b, h, number, first;
  int count;
  const T* decay;
  bool decays;

  __device__ LinearBlock(const LinearAttentionProblem& p, const T* log_decay)
      : LinearBlock(p, log_decay, cuda::block_index()) {}
  /// Chunk `task % chunks` of head `task / chunks`. All threads of the block have left the chunk before.
  __device__ LinearBlock(const LinearAttentionProblem& p, const T* log_decay, std::int64_t task) {
    const std::int64_t chunks = p.chunks();
    b = task / chunks / p.heads;
    h = task / chunks % p.heads;
    number = task % chunks;
    first = number * kLinearChunk;
    count = static_cast<int>(p.positions - first < kLinearChunk ? p.positions - first : kLinearChunk);
    decays = log_decay != nullptr;
    struct Tag;
    T* sums = cuda::static_shared<T, kLinearChunk, Tag>();
    if (cuda::thread_index() == 0) {
      T sum = 0;
      for (int i = 0; i < count; ++i) {
        if (decays) sum += log_decay[(b * p.heads + h) * p.positions + first + i];
        sums[i] = sum;
      }
    }
    cuda::sync_threads();
    decay = sums;
  }
  __device__ T kept_of_state(int i) const { return decays ? cuda::exp(decay[i]) : T(1); }
  __device__ T kept_at_end(int i) const { return decays ? cuda::exp(decay[count - 1] - decay[i]) : T(1); }

  template <class Row>
  __device__ auto* row(const HeadRows<Row>& rows, std::int64_t i) const {
    return rows.at(b, h, first + i);
  }
  __device__ T* state(const LinearAttentionProblem& p, T* states, std::int64_t chunk) const {
    return states + ((b * p.heads + h) * (p.chunks() + 1) + chunk) * p.state_size();
  }
  __device__ const T* state(const LinearAttentionProblem& p, const T* states, std::int64_t chunk) const {
    return states + ((b * p.heads + h) * (p.chunks() + 1) + chunk) * p.state_size();
  }

  /// pairs[key][query] = scale Γ (left_key · right_query) for the queries that are not before the key, else 0.
  template <class Left, class Right>
  __device__ void make_pairs(const HeadRows<Left>& left, const HeadRows<Right>& right, std::int64_t width, T scale,
                             T* pairs) const {
    for (int n = cuda::thread_index(); n < kLinearChunk * kLinearChunk; n += kLinearThreads) {
      const int key = n / kLinearChunk, query = n % kLinearChunk;
      T sum = 0;
      if (key <= query && query < count) {
        const auto *x = row(left, key), *y = row(right, query);
        for (std::int64_t c = 0; c < width; ++c) sum += x[c] * y[c];
        sum *= decays ? scale * cuda::exp(decay[query] - decay[key]) : scale;
      }
      pairs[n] = sum;
    }
  }
};

/// outer[c][v] = Σ_i factor(i) left_i[c] right_i[v] over the chunk, columns behind value_width 0.
template <class T, class Factor>
__device__ inline void outer_products(const LinearAttentionProblem& p, const LinearBlock<T>& chunk,
                                      const HeadRows<const T>& left, const HeadRows<const T>& right, Factor factor,
                                      T* outer) {
  for (std::int64_t n = cuda::thread_index(); n < p.state_size(); n += kLinearThreads) {
    const std::int64_t c = n / p.state_row(), v = n % p.state_row();
    T sum = 0;
    if (v < p.value_width)
      for (int i = 0; i < chunk.count; ++i) sum += factor(i) * chunk.row(left, i)[c] * chunk.row(right, i)[v];
    outer[n] = sum;
  }
}

/// Y = s (diag(e^b) Q S + (Q Kᵀ ∘ Γ) V): what the chunk reads from its first state S and its own values. Dynamic shared
/// memory holds the pairs.
template <class T>
__device__ inline void read_chunk(const LinearAttentionProblem& p, const LinearBlock<T>& chunk,
                                  const HeadRows<const T>& queries, const HeadRows<const T>& keys,
                                  const HeadRows<const T>& values, const T* states, const HeadRows<T>& y) {
  const T scale = static_cast<T>(p.scale);
  T* pairs = cuda::dynamic_shared<T>();
  chunk.make_pairs(keys, queries, p.width, scale, pairs);
  cuda::sync_threads();
  const T* state = chunk.state(p, states, chunk.number);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.value_width);
    const std::int64_t v = n % p.value_width;
    const T* q = chunk.row(queries, i);
    T of_state = 0, of_chunk = 0;
    for (std::int64_t c = 0; c < p.width; ++c) of_state += q[c] * state[c * p.state_row() + v];
    for (int j = 0; j <= i; ++j) of_chunk += pairs[j * kLinearChunk + i] * chunk.row(values, j)[v];
    chunk.row(y, i)[v] = scale * chunk.kept_of_state(i) * of_state + of_chunk;
  }
}

/// Σ_v x[v] state[c][v]
template <class T>
__device__ inline T times_state_row(const LinearAttentionProblem& p, const T* x, const T* state, std::int64_t c) {
  T sum = 0;
  for (std::int64_t v = 0; v < p.value_width; ++v) sum += x[v] * state[c * p.state_row() + v];
  return sum;
}

/// One thread an element of a head's state: each chunk's own contribution becomes the sum over chunks so far, from the
/// first to the last or (backwards) from the last to the first.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    sum_over_chunks(LinearAttentionProblem p, const T* __restrict__ log_decay, bool backwards, T* states) {
  const std::int64_t index = cuda::global_index(), head = index / p.state_size(), chunks = p.chunks();
  if (head >= p.batch * p.heads) return;
  T* state = states + head * (chunks + 1) * p.state_size() + index % p.state_size();
  for (std::int64_t n = 0; n < chunks; ++n) {
    const std::int64_t chunk = backwards ? chunks - 1 - n : n;
    const std::int64_t begin = chunk * kLinearChunk;
    const std::int64_t end = begin + kLinearChunk < p.positions ? begin + kLinearChunk : p.positions;
    T kept = 1;
    if (log_decay != nullptr) {
      T sum = 0;
      for (std::int64_t t = begin; t < end; ++t) sum += log_decay[head * p.positions + t];
      kept = cuda::exp(sum);
    }
    T *before = state + chunk * p.state_size(), *after = before + p.state_size();
    if (backwards)
      *before += kept * *after;
    else
      *after += kept * *before;
  }
}

/// A state given as [B,H,K,V], or nothing, into place `chunk` of the stored ones.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    set_state(LinearAttentionProblem p, const T* __restrict__ given, std::int64_t chunk, T* states) {
  const std::int64_t index = cuda::global_index(), head = index / p.state_size(), place = index % p.state_size();
  if (head >= p.batch * p.heads) return;
  const std::int64_t c = place / p.state_row(), v = place % p.state_row();
  const bool real = given != nullptr && v < p.value_width;
  states[(head * (p.chunks() + 1) + chunk) * p.state_size() + place] =
      real ? given[(head * p.width + c) * p.value_width + v] : T(0);
}

inline cuda::Grid one_block_a_chunk(const LinearAttentionProblem& p, std::size_t shared_bytes = 0) {
  return {.blocks = p.batch * p.heads * p.chunks(), .threads = kLinearThreads, .shared_bytes = shared_bytes};
}
inline cuda::Grid one_thread_a_state_element(const LinearAttentionProblem& p) {
  return {.blocks = cuda::blocks_for(p.batch * p.heads * p.state_size(), kLinearThreads), .threads = kLinearThreads};
}

}  // namespace sq::kernel
