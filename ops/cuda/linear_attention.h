// ops/cuda/linear_attention.h: what the forward and the backward kernels of linear attention share. One block works on
// one chunk of one head; f32 or f64 throughout.
#pragma once

#include "ops/linear_attention.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {

constexpr int kLinearThreads = 256, kLinearChunk = LinearAttentionProblem::kChunk;

/// Where each row of the state has a decay of its own: for every position and row [B,H,T,K] the sum b_i since the start
/// of its chunk, e^(b_i) and e^(b_C - b_i); else null. Sums are f64, because differences of large ones are wanted.
template <class T>
struct RowDecays {
  const double* sums = nullptr;
  const T *since_start = nullptr, *until_end = nullptr;
};

/// One thread a chunk and row of the state.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    fill_row_decays(LinearAttentionProblem p, const T* __restrict__ log_decay, double* __restrict__ sums,
                    T* __restrict__ since_start, T* __restrict__ until_end) {
  const std::int64_t task = cuda::global_index() / p.width, c = cuda::global_index() % p.width;
  if (task >= p.batch * p.heads * p.chunks()) return;
  const std::int64_t begin = task % p.chunks() * kLinearChunk;
  const std::int64_t end = begin + kLinearChunk < p.positions ? begin + kLinearChunk : p.positions;
  const std::int64_t head = task / p.chunks() * p.positions * p.width + c;
  double sum = 0;
  for (std::int64_t t = begin; t < end; ++t) {
    sum += static_cast<double>(log_decay[head + t * p.width]);
    sums[head + t * p.width] = sum;
    since_start[head + t * p.width] = cuda::exp(static_cast<T>(sum));
  }
  for (std::int64_t t = begin; t < end; ++t)
    until_end[head + t * p.width] = cuda::exp(static_cast<T>(sum - sums[head + t * p.width]));
}

/// The tables for the length of a launch.
template <class T>
class RowDecayTables {
 public:
  RowDecayTables(const cuda::Context& context, std::string_view name, const LinearAttentionProblem& p,
                 const T* log_decay)
      : sums_(context, count(p)), since_start_(context, count(p)), until_end_(context, count(p)) {
    if (!p.decay_by_row) return;
    const std::int64_t threads = p.batch * p.heads * p.chunks() * p.width;
    cuda::launch_kernel(context, name, fill_row_decays<T>,
                        {.blocks = cuda::blocks_for(threads, kLinearThreads), .threads = kLinearThreads}, p, log_decay,
                        sums_.data(), since_start_.data(), until_end_.data());
    view_ = {sums_.data(), since_start_.data(), until_end_.data()};
  }
  const RowDecays<T>& operator*() const { return view_; }

 private:
  static std::int64_t count(const LinearAttentionProblem& p) {
    return p.decay_by_row ? p.batch * p.heads * p.positions * p.width : 0;
  }
  cuda::Buffer<double> sums_;
  cuda::Buffer<T> since_start_, until_end_;
  RowDecays<T> view_;
};

/// The chunk of this block: its positions [first, first+count), and in shared memory b_i = g_first + … + g_i, e^(b_i)
/// and e^(b_C - b_i) where one decay holds for all rows of the state.
template <class T>
struct LinearBlock {
  std::int64_t b, h, number, first;
  int count;
  const T *decay, *start, *end;
  bool decays, by_row;
  std::int64_t width;
  RowDecays<T> rows;  // those of the chunk

  __device__ LinearBlock(const LinearAttentionProblem& p, const T* log_decay, const RowDecays<T>& row_decays)
      : LinearBlock(p, log_decay, row_decays, cuda::block_index()) {}
  /// Chunk `task % chunks` of head `task / chunks`. All threads of the block have left the chunk before.
  __device__ LinearBlock(const LinearAttentionProblem& p, const T* log_decay, const RowDecays<T>& row_decays,
                         std::int64_t task) {
    const std::int64_t chunks = p.chunks();
    b = task / chunks / p.heads;
    h = task / chunks % p.heads;
    number = task % chunks;
    first = number * kLinearChunk;
    count = static_cast<int>(p.positions - first < kLinearChunk ? p.positions - first : kLinearChunk);
    by_row = row_decays.sums != nullptr;
    decays = log_decay != nullptr && !by_row;
    width = p.width;
    if (by_row) {
      const std::int64_t begin = position(p, 0) * width;
      rows = {row_decays.sums + begin, row_decays.since_start + begin, row_decays.until_end + begin};
    }
    struct Tag;
    T* sums = cuda::static_shared<T, 3 * kLinearChunk, Tag>();
    decay = sums;
    start = sums + kLinearChunk;
    end = sums + 2 * kLinearChunk;
    if (!decays) return;
    if (cuda::thread_index() == 0) {
      T sum = 0;
      for (int i = 0; i < count; ++i) sums[i] = sum += log_decay[position(p, i)];
    }
    cuda::sync_threads();
    for (int i = cuda::thread_index(); i < count; i += kLinearThreads) {
      sums[kLinearChunk + i] = cuda::exp(sums[i]);
      sums[2 * kLinearChunk + i] = cuda::exp(sums[count - 1] - sums[i]);
    }
    cuda::sync_threads();
  }

  /// The place of the chunk's position i in [B,H,T].
  __device__ std::int64_t position(const LinearAttentionProblem& p, std::int64_t i) const {
    return (b * p.heads + h) * p.positions + first + i;
  }

  // e^(b_i), e^(b_C - b_i) and e^(b_i - b_j), the first two in two factors: of all rows and of row c alone. One is 1.
  __device__ T since_start(std::int64_t i) const { return decays ? start[i] : T(1); }
  __device__ T until_end(std::int64_t i) const { return decays ? end[i] : T(1); }
  __device__ T since_start_of_row(std::int64_t i, std::int64_t c) const {
    return by_row ? rows.since_start[i * width + c] : T(1);
  }
  __device__ T until_end_of_row(std::int64_t i, std::int64_t c) const {
    return by_row ? rows.until_end[i * width + c] : T(1);
  }
  __device__ T between_of_row(std::int64_t i, std::int64_t j, std::int64_t c) const {
    return by_row ? cuda::exp(static_cast<T>(rows.sums[i * width + c] - rows.sums[j * width + c])) : T(1);
  }

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

  /// pairs[key][query] = scale Σ_c key_c query_c Γ_c for the queries that are not before the key, else 0.
  template <class Left, class Right>
  __device__ void make_key_pairs(const HeadRows<Left>& keys, const HeadRows<Right>& queries, T scale, T* pairs) const {
    for_pairs(pairs, [&](int key, int query) {
      const auto *x = row(keys, key), *y = row(queries, query);
      T sum = 0;
      for (std::int64_t c = 0; c < width; ++c) sum += x[c] * y[c] * between_of_row(query, key, c);
      return weighed(key, query, scale * sum);
    });
  }
  /// The same for rows of V. Where Γ depends on the row of the state it is left out.
  template <class Left, class Right>
  __device__ void make_value_pairs(const HeadRows<Left>& left, const HeadRows<Right>& right, std::int64_t columns,
                                   T scale, T* pairs) const {
    for_pairs(pairs, [&](int key, int query) {
      const auto *x = row(left, key), *y = row(right, query);
      T sum = 0;
      for (std::int64_t c = 0; c < columns; ++c) sum += x[c] * y[c];
      return weighed(key, query, scale * sum);
    });
  }

 private:
  __device__ T weighed(int key, int query, T product) const {
    return decays ? product * cuda::exp(decay[query] - decay[key]) : product;
  }
  template <class Pair>
  __device__ void for_pairs(T* pairs, Pair pair) const {
    for (int n = cuda::thread_index(); n < kLinearChunk * kLinearChunk; n += kLinearThreads) {
      const int key = n / kLinearChunk, query = n % kLinearChunk;
      pairs[n] = key <= query && query < count ? pair(key, query) : T(0);
    }
  }
};

/// outer[c][v] = Σ_i factor(i, c) left_i[c] right_i[v] over the chunk, columns behind value_width 0.
template <class T, class Factor>
__device__ inline void outer_products(const LinearAttentionProblem& p, const LinearBlock<T>& chunk,
                                      const HeadRows<const T>& left, const HeadRows<const T>& right, Factor factor,
                                      T* outer) {
  for (std::int64_t n = cuda::thread_index(); n < p.state_size(); n += kLinearThreads) {
    const std::int64_t c = n / p.state_row(), v = n % p.state_row();
    T sum = 0;
    if (v < p.value_width)
      for (int i = 0; i < chunk.count; ++i) sum += factor(i, c) * chunk.row(left, i)[c] * chunk.row(right, i)[v];
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
  chunk.make_key_pairs(keys, queries, scale, pairs);
  cuda::sync_threads();
  const T* state = chunk.state(p, states, chunk.number);
  for (std::int64_t n = cuda::thread_index(); n < chunk.count * p.value_width; n += kLinearThreads) {
    const int i = static_cast<int>(n / p.value_width);
    const std::int64_t v = n % p.value_width;
    const T* q = chunk.row(queries, i);
    T of_state = 0, of_chunk = 0;
    for (std::int64_t c = 0; c < p.width; ++c)
      of_state += q[c] * chunk.since_start_of_row(i, c) * state[c * p.state_row() + v];
    for (int j = 0; j <= i; ++j) of_chunk += pairs[j * kLinearChunk + i] * chunk.row(values, j)[v];
    chunk.row(y, i)[v] = scale * chunk.since_start(i) * of_state + of_chunk;
  }
}

/// Σ_v x[v] state[c][v]
template <class T>
__device__ inline T times_state_row(const LinearAttentionProblem& p, const T* x, const T* state, std::int64_t c) {
  T sum = 0;
  for (std::int64_t v = 0; v < p.value_width; ++v) sum += x[v] * state[c * p.state_row() + v];
  return sum;
}

/// dg_i = Σ_{l>=i} Σ_c term(l, c) + ⟨S', dS'⟩ for the positions of the chunk, or, for each row c of the state, without
/// the sum over c. All threads of the block call.
template <class T, class Term>
__device__ inline void decay_gradient(const LinearAttentionProblem& p, const LinearBlock<T>& chunk, const T* states,
                                      const T* dstates, Term term, T* dlog_decay) {
  const T *state = chunk.state(p, states, chunk.number + 1), *dstate = chunk.state(p, dstates, chunk.number + 1);
  if (chunk.by_row) {
    for (std::int64_t c = cuda::thread_index(); c < p.width; c += kLinearThreads) {
      T sum = times_state_row(p, state + c * p.state_row(), dstate, c);
      for (int i = chunk.count - 1; i >= 0; --i) {
        sum += term(i, c);
        dlog_decay[chunk.position(p, i) * p.width + c] = sum;
      }
    }
    return;
  }
  struct Tag;
  T* sums = cuda::static_shared<T, kLinearChunk, Tag>();
  for (int i = cuda::warp_index(); i < chunk.count; i += kLinearThreads / cuda::kWarp) {
    T sum = 0;
    for (std::int64_t c = cuda::lane_index(); c < p.width; c += cuda::kWarp) sum += term(i, c);
    sum = cuda::warp_sum(sum);
    if (cuda::lane_index() == 0) sums[i] = sum;
  }
  T inner = 0;
  for (std::int64_t n = cuda::thread_index(); n < p.state_size(); n += kLinearThreads) inner += state[n] * dstate[n];
  inner = cuda::block_sum(inner);  // its barriers also make `sums` whole
  if (cuda::thread_index() != 0) return;
  for (int i = chunk.count - 1; i >= 0; --i) {
    inner += sums[i];
    dlog_decay[chunk.position(p, i)] = inner;
  }
}

/// One thread an element of a head's state: each chunk's own contribution becomes the sum over chunks so far, from the
/// first to the last or (backwards) from the last to the first.
template <class T>
__global__ void __launch_bounds__(kLinearThreads)
    sum_over_chunks(LinearAttentionProblem p, const T* __restrict__ log_decay, RowDecays<T> rows, bool backwards,
                    T* states) {
  const std::int64_t index = cuda::global_index(), head = index / p.state_size(), chunks = p.chunks();
  if (head >= p.batch * p.heads) return;
  T* state = states + head * (chunks + 1) * p.state_size() + index % p.state_size();
  for (std::int64_t n = 0; n < chunks; ++n) {
    const std::int64_t chunk = backwards ? chunks - 1 - n : n;
    const std::int64_t begin = chunk * kLinearChunk;
    const std::int64_t end = begin + kLinearChunk < p.positions ? begin + kLinearChunk : p.positions;
    T kept = 1;
    if (rows.sums != nullptr) {
      const std::int64_t c = index % p.state_size() / p.state_row();
      kept = rows.since_start[(head * p.positions + end - 1) * p.width + c];
    } else if (log_decay != nullptr) {
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
