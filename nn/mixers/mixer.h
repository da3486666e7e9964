// nn/mixers/mixer.h: what every mixer is. A mixer moves information between positions: [B,T,C] -> [B,T,C].
//
// The contract, tested for every mixer of mixers.list by tests/nn/mixers/contract_test.cpp: the output at position t
// depends on inputs <= t only; `forward` on any prefix followed by `step` in any split equals one `forward`; rows of a
// batch and packed documents do not touch; padding changes nothing; every parameter gets a gradient that checks; the
// same bits for any number of threads; save and reload; state bytes are what `cost` says.
//
// Positions are the rows that a mixer is given: the tokens and, where it asks for them (GlobalRows), the learned rows
// between them.
#pragma once

#include "nn/mixers/plan.h"
#include "nn/module.h"

#include <memory>
#include <span>

namespace sq {

/// What a batch of sequences looks like besides its values; at most one of the three. None: B full rows of one document
/// each.
struct SequenceInfo {
  /// Real positions of each row; the rest of the row is padding. Results at padding are zero.
  std::vector<std::int64_t> lengths;
  /// Packed documents: for each row the first positions of its documents, ascending, the first one 0. Each document is
  /// computed as if it stood alone at position 0.
  std::vector<std::vector<std::int64_t>> documents;
  /// [B,T] of any dtype, nonzero at real positions: for rows with gaps or padding in front, which lengths cannot say.
  /// Positions keep their places, so that distances count the gaps. Results at padding are zero.
  Tensor mask = {};
};

/// The same, as a mixer's `mix` is told it.
struct Padding {
  /// Real positions of each row, the first ones; empty: all, or what the mask says.
  std::span<const std::int64_t> lengths = {};
  /// u8 [B,T], 1 at real positions; defined only where real positions are not just the first ones of each row.
  Tensor mask = {};
};

class Mixer;

/// What a mixer remembers of the positions it has seen, for each row of a batch.
class MixerState {
 public:
  /// Empty. Throws Error unless batch and capacity are >= 1.
  MixerState(const Mixer& owner, std::int64_t batch, std::int64_t capacity);
  virtual ~MixerState() = default;

  /// Positions seen so far in each row.
  std::span<const std::int64_t> lengths() const { return lengths_; }
  /// Most positions that a row may hold.
  std::int64_t capacity() const { return capacity_; }
  /// Bytes held, for the whole batch.
  virtual std::int64_t bytes() const = 0;

 private:
  friend class Mixer;
  const Mixer* owner_;
  std::vector<std::int64_t> lengths_;
  std::int64_t capacity_;
};

class Mixer : public Module {
 public:
  /// x [B,T,C], T >= 0. Splits packed documents and clears padding, then calls `mix`. Throws Error when info does not
  /// fit x.
  Tensor forward(const Tensor& x, const SequenceInfo& info = {});

  /// Whether this mixer, as it is configured, can continue a sequence: false when results depend on later positions or
  /// on the total length.
  virtual bool can_step() const { return true; }
  /// An empty state for `batch` rows of up to `capacity` positions. Throws Error when can_step() is false.
  virtual std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const = 0;

  /// x [B,t,C]: the next t >= 1 positions of every row -> [B,t,C], equal to what `forward` gives for them on the whole
  /// sequence in evaluation mode. `counts`, if not empty, says how many of the t are real in each row (the first ones;
  /// the rest is padding, leaves no trace and gives zero). Unrecorded. Throws Error, and changes nothing, when the
  /// state is full or belongs to another mixer.
  Tensor step(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts = {});

  /// For a sequence of T tokens, the rows of GlobalRows come on top.
  virtual Cost cost(std::int64_t tokens) const = 0;

 protected:
  /// Rows of one document each, T >= 1. x is zero at padding; what stands there must leave no trace elsewhere, and
  /// results there do not matter.
  virtual Tensor mix(const Tensor& x, const Padding& padding) = 0;
  /// `step` with counts for every row, checked; recording is off. state.lengths() are those before the step, the caller
  /// adds counts afterwards. Results at padding do not matter.
  virtual Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) = 0;

 private:
  Tensor mix_documents(const Tensor& x, const std::vector<std::vector<std::int64_t>>& documents);
  Tensor mix_lengths(const Tensor& x, std::span<const std::int64_t> lengths);
  Tensor mix_masked(const Tensor& x, const Tensor& mask);
};

}  // namespace sq
