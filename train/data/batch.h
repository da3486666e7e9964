// train/data/batch.h: batches of items, and the sources that give them one after the other.
#pragma once

#include "nn/json.h"
#include "tensor/tensor.h"
#include "train/data/token_array.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sq {

/// B items of T ids: x and y are row-major [B,T].
struct Batch {
  std::int64_t rows = 0, length = 0;
  std::vector<std::int64_t> x, y;
  std::int64_t epoch = 0;   ///< from 0; always 0 where the source has no epochs
  bool ends_epoch = false;  ///< the last batch of its epoch

  /// Makes room for rows x length ids, keeping the memory of an earlier use.
  void resize(std::int64_t new_rows, std::int64_t new_length);
  ItemSpans row(std::int64_t index);
  Tensor inputs() const;   ///< x as i64[B,T]
  Tensor targets() const;  ///< y as i64[B,T]
};

/// The position of a source, to be turned into JSON only when somebody saves it: taking one after each batch is cheap.
using SourceState = std::function<Json()>;

/// Gives batches in an order that depends on its settings alone.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Fills the next batch, or returns false when there are no more.
  virtual bool next(Batch& batch) = 0;
  /// Where the source stands: a source of the same settings that restores it gives the same batches from here on.
  virtual SourceState state() const = 0;
  /// Throws UsageError naming what differs when the state was saved with other settings or other data.
  virtual void restore(const Json& state) = 0;
};

struct EpochOptions {
  std::int64_t batch_size = 1;
  bool shuffle = true;
  bool drop_last = false;  ///< leave out a last batch with fewer than batch_size items
  std::uint64_t seed = 42;
  /// Stop after so many epochs; none: never.
  std::optional<std::int64_t> epochs = {};
};

/// Every item once per epoch, in a new order each epoch (Permutation) or as they are.
class EpochBatches final : public BatchSource {
 public:
  /// Throws UsageError when the data set is empty, smaller than one batch that must be full, or an option is out of
  /// range.
  EpochBatches(std::shared_ptr<const Dataset> dataset, EpochOptions options);
  std::int64_t batches_per_epoch() const;
  /// Batch `index` of an epoch, a pure function of both.
  void read(std::int64_t epoch, std::int64_t index, Batch& batch) const;

  bool next(Batch& batch) override;
  SourceState state() const override;
  void restore(const Json& state) override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  EpochOptions options_;
  std::string data_;  // fingerprint
  std::int64_t epoch_ = 0, index_ = 0;
};

/// Windows at random places of one long text, without epochs and without end, as nanoGPT trains: row b of batch n
/// starts at random_below(seed, stream, n·B + b, T_data - L).
class RandomWindowBatches final : public BatchSource {
 public:
  /// Throws UsageError naming `source` when the text is shorter than length + 1 ids or an option is out of range.
  RandomWindowBatches(TokenSpan tokens, std::int64_t length, std::int64_t batch_size, std::uint64_t seed,
                      std::string_view source = "text");
  /// Batch `index`, a pure function of it.
  void read(std::int64_t index, Batch& batch) const;

  bool next(Batch& batch) override;
  SourceState state() const override;
  void restore(const Json& state) override;

 private:
  TokenSpan tokens_;
  std::int64_t length_, batch_size_;
  std::uint64_t seed_;
  std::string data_;  // fingerprint
  std::int64_t index_ = 0;
};

/// For sources' own use: throws UsageError listing the keys in which a saved state differs from what the source would
/// save now, those that say where it stands (`position`) aside.
void check_source_state(const Json& saved, const Json& now, std::initializer_list<std::string_view> position);

}  // namespace sq
