#include "train/data/batch.h"

#include "tensor/error.h"
#include "tensor/random.h"
#include "train/data/permutation.h"
#include "train/data/windows.h"
#include "train/json_check.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

constexpr std::string_view kWhere = "data position";

void check_batch_size(std::int64_t batch_size) {
  require_input(batch_size >= 1, "data", "a batch size of {} is not possible; it must be at least 1", batch_size);
}

}  // namespace

void Batch::resize(std::int64_t new_rows, std::int64_t new_length) {
  rows = new_rows;
  length = new_length;
  x.resize(static_cast<std::size_t>(rows * length));
  y.resize(x.size());
}

ItemSpans Batch::row(std::int64_t index) {
  require(index >= 0 && index < rows, "batch", "there is no row {} among {}", index, rows);
  const auto begin = static_cast<std::size_t>(index * length), count = static_cast<std::size_t>(length);
  return {std::span(x).subspan(begin, count), std::span(y).subspan(begin, count)};
}

Tensor Batch::inputs() const { return Tensor::from(x, {rows, length}); }
Tensor Batch::targets() const { return Tensor::from(y, {rows, length}); }

void check_source_state(const Json& saved, const Json& now, std::initializer_list<std::string_view> position) {
  require_input(saved.is_object(), kWhere, "a JSON object is needed, this is a value of type {}", saved.type_name());
  Json settings_then = saved, settings_now = now;
  for (const std::string_view key : position) {
    require_input(saved.contains(std::string(key)), kWhere, "the key \"{}\" is missing", key);
    settings_then.erase(std::string(key));
    settings_now.erase(std::string(key));
  }
  const std::vector<std::string> changes = differences(settings_then, settings_now);
  require_input(changes.empty(), kWhere, "the run was saved with other data or settings: {}", fmt::join(changes, "; "));
}

EpochBatches::EpochBatches(std::shared_ptr<const Dataset> dataset, EpochOptions options)
    : dataset_(std::move(dataset)), options_(options), data_(dataset_->fingerprint()) {
  check_batch_size(options_.batch_size);
  require_input(dataset_->size() > 0, "data", "the data set is empty");
  require_input(!options_.drop_last || dataset_->size() >= options_.batch_size, "data",
                "{} items do not fill one batch of {}; use a smaller batch", dataset_->size(), options_.batch_size);
  require_input(!options_.epochs || *options_.epochs >= 1, "data", "{} epochs are not possible; it must be at least 1",
                options_.epochs.value_or(0));
}

std::int64_t EpochBatches::batches_per_epoch() const {
  const std::int64_t items = dataset_->size(), rows = options_.batch_size;
  return options_.drop_last ? items / rows : (items - 1) / rows + 1;
}

void EpochBatches::read(std::int64_t epoch, std::int64_t index, Batch& batch) const {
  require(epoch >= 0 && index >= 0 && index < batches_per_epoch(), "data", "there is no batch {} in epoch {}", index,
          epoch);
  const std::int64_t begin = index * options_.batch_size;
  batch.resize(std::min(options_.batch_size, dataset_->size() - begin), dataset_->length());
  batch.epoch = epoch;
  batch.ends_epoch = index + 1 == batches_per_epoch();
  const Permutation order(dataset_->size(), options_.seed, epoch);
  for (std::int64_t row = 0; row < batch.rows; ++row)
    dataset_->read(options_.shuffle ? order(begin + row) : begin + row, batch.row(row));
}

bool EpochBatches::next(Batch& batch) {
  if (options_.epochs && epoch_ >= *options_.epochs) return false;
  read(epoch_, index_, batch);
  if (++index_ == batches_per_epoch()) {
    index_ = 0;
    ++epoch_;
  }
  return true;
}

SourceState EpochBatches::state() const {
  return [data = data_, options = options_, epoch = epoch_, index = index_]() -> Json {
    return {{"kind", "epochs"},
            {"data", data},
            {"batch_size", options.batch_size},
            {"shuffle", options.shuffle},
            {"drop_last", options.drop_last},
            {"seed", options.seed},
            {"epoch", epoch},
            {"batch", index}};
  };
}

void EpochBatches::restore(const Json& state) {
  check_source_state(state, this->state()(), {"epoch", "batch"});
  const std::int64_t epoch = json_integer(state, "epoch", kWhere, 0), index = json_integer(state, "batch", kWhere, 0);
  require_input(index < batches_per_epoch(), kWhere, "batch {} is not among the {} of an epoch", index,
                batches_per_epoch());
  epoch_ = epoch;
  index_ = index;
}

RandomWindowBatches::RandomWindowBatches(TokenSpan tokens, std::int64_t length, std::int64_t batch_size,
                                         std::uint64_t seed, std::string_view source)
    : tokens_(std::move(tokens)), length_(length), batch_size_(batch_size), seed_(seed), data_(tokens_.fingerprint()) {
  check_batch_size(batch_size);
  require_window_fits(tokens_.size(), length, source);
}

void RandomWindowBatches::read(std::int64_t index, Batch& batch) const {
  batch.resize(batch_size_, length_);
  batch.epoch = 0;
  batch.ends_epoch = false;
  for (std::int64_t row = 0; row < batch_size_; ++row) {
    const std::uint64_t draw =
        static_cast<std::uint64_t>(index) * static_cast<std::uint64_t>(batch_size_) + static_cast<std::uint64_t>(row);
    const auto places = static_cast<std::uint64_t>(tokens_.size() - length_);
    const auto begin = static_cast<std::int64_t>(random_below(seed_, data_stream::kWindows, draw, places));
    const ItemSpans item = batch.row(row);
    tokens_.copy(begin, item.x);
    tokens_.copy(begin + 1, item.y);
  }
}

bool RandomWindowBatches::next(Batch& batch) {
  read(index_++, batch);
  return true;
}

SourceState RandomWindowBatches::state() const {
  return [data = data_, length = length_, rows = batch_size_, seed = seed_, index = index_]() -> Json {
    return {{"kind", "windows"},  {"data", data}, {"length", length},
            {"batch_size", rows}, {"seed", seed}, {"batch", index}};
  };
}

void RandomWindowBatches::restore(const Json& state) {
  check_source_state(state, this->state()(), {"batch"});
  index_ = json_integer(state, "batch", kWhere, 0);
}

}  // namespace sq
