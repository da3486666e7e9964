// ops/cpu/linear_attention.cpp: the forward pass, in three loops (ops/linear_attention.h): what each chunk adds to the
// state, the states, the results.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear_attention.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/linear_attention.h"

#include "ops/cpu/decay_tile-inl.h"
#include "ops/cpu/versions.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// (diag(e^(b_C - b)) K)ᵀ V, into the place of the state after the chunk.
template <class T>
void add_chunk(const LinearAttentionForward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> scratch(kTile * (width + row) + ChunkDecay<T>::size(p));
  T *keys = scratch.take(kTile * width), *values = scratch.take(kTile * row);
  plain_rows(a.k, chunk, p.width, width, keys);
  ChunkDecay<T>(p, a.log_decay, chunk, scratch).until_end(keys);
  plain_rows(a.v, chunk, p.value_width, row, values);
  T* state = state_at(p, a.states, chunk.b, chunk.h, number + 1);
  whole_product<Start::zero>(Product<T>{keys, 1, width, values, row, state, row}, p.width, row, chunk.count);
}

template <class T>
void forward(const LinearAttentionForward::Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t products = kTile * p.width * p.value_width;
  set_state(p, a.first_state, 0, a.states);
  for_linear_chunks(p, a.log_decay, products,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { add_chunk(a, chunk, number); });
  sum_over_chunks(p, a.log_decay, false, a.states, [](const T* before, T* after, T kept, std::int64_t count) {
    add_scaled(kept, before, after, count);
  });
  for_linear_chunks(p, a.log_decay, 2 * products, [&](const LinearChunk<T>& chunk, std::int64_t number) {
    read_chunk(p, a.log_decay, a.q, a.k, a.v, chunk, number, a.states, a.y);
  });
}

}  // namespace

Versions<LinearAttentionForward> linear_attention_forward_versions() { return {forward<float>, forward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(linear_attention_forward_versions);

template <class T>
void LinearAttentionForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(linear_attention_forward_versions)()(a);
}
template void LinearAttentionForward::cpu(const Arguments<float>&);
template void LinearAttentionForward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
