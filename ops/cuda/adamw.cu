// ops/cuda/adamw.cu: 64 tensors a launch (multi_tensor.h). Four streams in, three out; bound by memory: for an f32
// weight 28 bytes an element, for a 16-bit one 22.
#include "ops/adamw.h"
#include "ops/cuda/multi_tensor.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

constexpr int kThreads = 256, kTogether = 4;  // elements that a thread moves at a time
constexpr std::int64_t kElementsPerBlock = 4 * kThreads * kTogether;

/// The numbers of a step, rounded once.
template <class W>
struct Rates {
  W beta1, rest1, beta2, rest2, step_size, inverse_root, epsilon, scale;  // scale: of the gradients, set in the kernel
};

template <class T>
struct Element {
  Wide<T> weight, exp_avg, exp_avg_sq;
};

template <class T>
__device__ inline Element<T> updated(const Rates<Wide<T>>& r, Wide<T> shrink, Element<T> before, Wide<T> gradient) {
  const Wide<T> g = gradient * r.scale;
  Element<T> e;
  e.exp_avg = r.beta1 * before.exp_avg + r.rest1 * g;
  e.exp_avg_sq = r.beta2 * before.exp_avg_sq + r.rest2 * (g * g);
  const Wide<T> root = cuda::sqrt(e.exp_avg_sq) * r.inverse_root + r.epsilon;
  e.weight = before.weight * shrink - r.step_size * (e.exp_avg / root);
  return e;
}

template <class T>
__device__ inline void update_pack(const AdamW::Item<T>& item, const Rates<Wide<T>>& r, std::int64_t i) {
  using Values = cuda::Pack<T, kTogether>;
  using Averages = cuda::Pack<Wide<T>, kTogether>;
  const auto gradient = Values::load(item.gradient + i);
  auto weight = Values::load(item.weight + i);
  auto exp_avg = Averages::load(item.exp_avg + i), exp_avg_sq = Averages::load(item.exp_avg_sq + i);
  const auto shrink = static_cast<Wide<T>>(item.shrink);
#pragma unroll
  for (int n = 0; n < kTogether; ++n) {
    const Element<T> e = updated<T>(r, shrink, {cuda::widen(weight.items[n]), exp_avg.items[n], exp_avg_sq.items[n]},
                                    cuda::widen(gradient.items[n]));
    weight.items[n] = cuda::narrow<T>(e.weight);
    exp_avg.items[n] = e.exp_avg;
    exp_avg_sq.items[n] = e.exp_avg_sq;
  }
  weight.store(item.weight + i);
  exp_avg.store(item.exp_avg + i);
  exp_avg_sq.store(item.exp_avg_sq + i);
}

template <class T>
__device__ inline void update_one(const AdamW::Item<T>& item, const Rates<Wide<T>>& r, std::int64_t i) {
  const Element<T> e =
      updated<T>(r, static_cast<Wide<T>>(item.shrink),
                 {cuda::load(item.weight + i), item.exp_avg[i], item.exp_avg_sq[i]}, cuda::load(item.gradient + i));
  cuda::store(item.weight + i, e.weight);
  item.exp_avg[i] = e.exp_avg;
  item.exp_avg_sq[i] = e.exp_avg_sq;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    update(TensorBatch<AdamW::Item<T>> batch, Rates<Wide<T>> rates, double scale, const double* norm, double max_norm) {
  const double factor = gradient_factor(scale, norm, max_norm);
  if (factor != factor) return;  // the gradients are not finite
  rates.scale = static_cast<Wide<T>>(factor);
  const std::int64_t block = cuda::block_index();
  const int number = batch.item_of(block);
  const AdamW::Item<T>& item = batch.items[number];
  const std::int64_t begin = (block - batch.first_block[number]) * kElementsPerBlock;
  const std::int64_t end = begin + kElementsPerBlock < item.count ? begin + kElementsPerBlock : item.count;
  const bool packed = (batch.packed >> number & 1) != 0;
  for (std::int64_t i = begin + cuda::thread_index() * kTogether; i < end; i += kThreads * kTogether) {
    if (packed && i + kTogether <= end) {
      update_pack(item, rates, i);
    } else {
      for (std::int64_t n = i; n < i + kTogether && n < end; ++n) update_one(item, rates, n);
    }
  }
}

}  // namespace

template <class T>
void AdamW::cuda(const cuda::Context& context, const Arguments<T>& a) {
  using W = Wide<T>;
  const auto as_w = [](double value) { return static_cast<W>(value); };
  const Rates<W> rates{.beta1 = as_w(a.beta1),
                       .rest1 = as_w(1 - a.beta1),
                       .beta2 = as_w(a.beta2),
                       .rest2 = as_w(1 - a.beta2),
                       .step_size = as_w(a.step_size),
                       .inverse_root = as_w(a.inverse_root),
                       .epsilon = as_w(a.epsilon),
                       .scale = 0};
  const auto is_packed = [](const Item<T>& item) {
    return cuda::is_aligned<T, kTogether>(item.weight) && cuda::is_aligned<T, kTogether>(item.gradient) &&
           cuda::is_aligned<W, kTogether>(item.exp_avg) && cuda::is_aligned<W, kTogether>(item.exp_avg_sq);
  };
  for_batches(a.items, kElementsPerBlock, is_packed,
              [&](const TensorBatch<Item<T>>& batch, std::int64_t blocks, std::int64_t) {
                cuda::launch_kernel(context, name, update<T>, {.blocks = blocks, .threads = kThreads}, batch, rates,
                                    a.gradient_scale, a.norm, a.max_norm);
              });
}
template void AdamW::cuda(const cuda::Context&, const Arguments<float>&);
template void AdamW::cuda(const cuda::Context&, const Arguments<double>&);
template void AdamW::cuda(const cuda::Context&, const Arguments<bf16>&);
template void AdamW::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
