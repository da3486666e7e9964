#include "nn/mixers/mixer.h"

#include "autograd/grad_mode.h"
#include "nn/mixers/real_rows.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/view.h"

#include <algorithm>
#include <functional>

namespace sq {
namespace {

/// x [B,T,C] with zeros outside `mask` (u8 [B,T]); a NaN there goes too, forward and backward.
Tensor cleared(const Tensor& x, const Tensor& mask) {
  return where(unsqueeze(mask, 2), x, Tensor::zeros({}, x.options()));
}

/// `what` is "length" or "count".
void check_lengths(std::span<const std::int64_t> lengths, const Tensor& x, std::string_view what) {
  require(static_cast<std::int64_t>(lengths.size()) == x.size(0), "mixer", "{} {}s for the {} rows of {}",
          lengths.size(), what, x.size(0), x);
  for (std::size_t b = 0; b < lengths.size(); ++b)
    require(lengths[b] >= 0 && lengths[b] <= x.size(1), "mixer", "{} is no {} for row {} of {}", lengths[b], what, b,
            x);
}

void check_documents(const std::vector<std::vector<std::int64_t>>& documents, const Tensor& x) {
  require(static_cast<std::int64_t>(documents.size()) == x.size(0), "mixer",
          "document starts for {} rows, but {} has {}", documents.size(), x, x.size(0));
  for (std::size_t b = 0; b < documents.size(); ++b) {
    const auto& starts = documents[b];
    require(!starts.empty() && starts.front() == 0 && starts.back() < x.size(1) &&
                std::adjacent_find(starts.begin(), starts.end(), std::greater_equal<>()) == starts.end(),
            "mixer", "the document starts of row {} of {} must ascend from 0 and lie below {}", b, x, x.size(1));
  }
}

}  // namespace

MixerState::MixerState(const Mixer& owner, std::int64_t batch, std::int64_t capacity)
    : owner_(&owner), lengths_(static_cast<std::size_t>(std::max<std::int64_t>(batch, 0))), capacity_(capacity) {
  require(batch >= 1 && capacity >= 1, "mixer", "a state of {} rows of {} positions holds nothing", batch, capacity);
}

Tensor Mixer::forward(const Tensor& x, const SequenceInfo& info) {
  require(x.rank() == 3, "mixer", "{} is not [B,T,C]", x);
  const int given = int{!info.lengths.empty()} + int{!info.documents.empty()} + int{info.mask.defined()};
  require(given <= 1, "mixer", "of lengths, documents and a mask only one can be given");
  if (!info.lengths.empty()) check_lengths(info.lengths, x, "length");
  if (info.mask.defined())
    require(info.mask.shape() == Shape{x.size(0), x.size(1)}, "mixer", "mask {} is not [B,T] for {}", info.mask, x);
  if (x.numel() == 0) return x;
  if (!info.documents.empty()) {
    check_documents(info.documents, x);
    return mix_documents(x, info.documents);
  }
  if (info.mask.defined()) return mix_masked(x, info.mask);
  return mix_lengths(x, info.lengths);
}

Tensor Mixer::mix_lengths(const Tensor& x, std::span<const std::int64_t> lengths) {
  const Tensor mask = real_mask(lengths, x.size(1));
  if (!mask.defined()) return mix(x, {});
  return cleared(mix(cleared(x, mask), {.lengths = lengths}), mask);
}

Tensor Mixer::mix_masked(const Tensor& x, const Tensor& given) {
  const std::vector<double> values = given.to_vector<double>();
  std::vector<std::uint8_t> real(values.size());
  std::transform(values.begin(), values.end(), real.begin(), [](double value) { return value != 0 ? 1 : 0; });
  std::vector<std::int64_t> lengths;
  bool gaps = false;
  for (auto row = real.begin(); row != real.end(); row += x.size(1)) {
    lengths.push_back(std::count(row, row + x.size(1), 1));
    gaps = gaps || std::count(row, row + lengths.back(), 1) != lengths.back();
  }
  if (!gaps) return mix_lengths(x, lengths);
  const Tensor mask = Tensor::from(real, {x.size(0), x.size(1)});
  return cleared(mix(cleared(x, mask), {.mask = mask}), mask);
}

Tensor Mixer::mix_documents(const Tensor& x, const std::vector<std::vector<std::int64_t>>& documents) {
  const auto each_alone = [&](const Tensor& rows, const std::vector<std::int64_t>& starts) {
    std::vector<Tensor> results;
    for (std::size_t d = 0; d < starts.size(); ++d) {
      const std::int64_t end = d + 1 < starts.size() ? starts[d + 1] : x.size(1);
      results.push_back(mix(slice(rows, 1, starts[d], end), {}));
    }
    return results.size() == 1 ? results.front() : concat(results, 1);
  };
  const auto same = [&](const auto& starts) { return starts == documents.front(); };
  if (std::all_of(documents.begin(), documents.end(), same)) return each_alone(x, documents.front());
  std::vector<Tensor> rows;
  for (std::int64_t b = 0; b < x.size(0); ++b)
    rows.push_back(each_alone(slice(x, 0, b, b + 1), documents[static_cast<std::size_t>(b)]));
  return concat(rows, 0);
}

Tensor Mixer::step(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  require(state.owner_ == this, "mixer", "the state belongs to another mixer");
  const auto batch = static_cast<std::int64_t>(state.lengths_.size());
  require(x.rank() == 3 && x.size(0) == batch && x.size(1) >= 1, "mixer", "{} is not [B,t,C] with B = {} and t >= 1", x,
          batch);
  if (!counts.empty()) check_lengths(counts, x, "count");
  std::vector<std::int64_t> added(counts.begin(), counts.end());
  if (counts.empty()) added.assign(state.lengths_.size(), x.size(1));
  for (std::size_t b = 0; b < added.size(); ++b)
    require(state.lengths_[b] + added[b] <= state.capacity_, "mixer",
            "row {} of the state holds {} positions and has no room for {} more: its capacity is {}", b,
            state.lengths_[b], added[b], state.capacity_);

  const NoGrad no_grad;
  const EvalMode evaluation(*this);
  const Tensor y = advance(x, state, added);
  for (std::size_t b = 0; b < added.size(); ++b) state.lengths_[b] += added[b];
  const Tensor mask = real_mask(added, x.size(1));
  return mask.defined() ? cleared(y, mask) : y;
}

}  // namespace sq
