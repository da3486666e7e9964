#include "train/data/streaming.h"

#include "tensor/error.h"
#include "tensor/random.h"
#include "train/json_check.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

constexpr std::string_view kWhere = "data position";
constexpr std::int64_t kFirstFill = 256;  // sequences in a reservoir before the first is drawn

Json to_json(const SequencePosition& p) { return {p.line.round, p.line.file, p.line.offset, p.line.line, p.token}; }

SequencePosition position_from(const Json& json) {
  const bool good = json.is_array() && json.size() == 5 &&
                    std::all_of(json.begin(), json.end(), [](const auto& n) { return n.is_number_integer(); });
  require_input(good, kWhere, "a place in the files must be five whole numbers");
  const auto n = [&](std::size_t i) { return json[i].template get<std::int64_t>(); };
  return {{.round = n(0), .file = n(1), .offset = n(2), .line = n(3)}, n(4)};
}

}  // namespace

StreamingData::StreamingData(std::vector<std::filesystem::path> files, std::shared_ptr<const Tokenizer> tokenizer,
                             StreamingOptions options)
    : options_(std::move(options)),
      tokenizer_(tokenizer->fingerprint()),
      sequences_(std::make_unique<DocumentReader>(std::move(files), tokenizer, options_.documents)) {
  require_input(options_.length >= 1, "data", "a context of {} tokens is not possible; it must be at least 1",
                options_.length);
  require_input(options_.buffer_size >= 1, "data", "a buffer of {} sequences is not possible; it must hold at least 1",
                options_.buffer_size);
  sequence_.resize(static_cast<std::size_t>(options_.length) + 1);
}

std::span<std::int32_t> StreamingData::slot(std::size_t index) {
  return std::span(buffer_).subspan(index * sequence_.size(), sequence_.size());
}

void StreamingData::read_into_buffer() {
  starts_.push_back(sequences_.next(sequence_));
  buffer_.resize(starts_.size() * sequence_.size());
  std::transform(sequence_.begin(), sequence_.end(), slot(starts_.size() - 1).begin(),
                 [](std::int64_t id) { return static_cast<std::int32_t>(id); });
}

void StreamingData::fill_buffer() {
  const bool blocks = options_.shuffle == StreamShuffle::blocks;
  if (blocks && !starts_.empty()) return;
  const bool full = blocks || given_ >= options_.buffer_size;
  const std::int64_t wanted = full ? options_.buffer_size : std::min(options_.buffer_size, kFirstFill + 2 * given_);
  while (std::ssize(starts_) < wanted) read_into_buffer();
  if (!blocks) return;
  // Fisher-Yates; the draws of a block are numbered like its sequences.
  for (std::size_t i = starts_.size(); i-- > 1;) {
    const auto draw = static_cast<std::uint64_t>(given_) + i;
    const std::size_t j = random_below(options_.seed, data_stream::kShuffleBuffer, draw, i + 1);
    std::swap(starts_[i], starts_[j]);
    std::swap_ranges(slot(i).begin(), slot(i).end(), slot(j).begin());
  }
}

void StreamingData::next(ItemSpans item) {
  fill_buffer();
  const std::size_t last = starts_.size() - 1;
  const std::size_t drawn = options_.shuffle == StreamShuffle::blocks
                                ? last
                                : random_below(options_.seed, data_stream::kShuffleBuffer,
                                               static_cast<std::uint64_t>(given_), starts_.size());
  const auto ids = slot(drawn);
  std::copy(ids.begin(), ids.end() - 1, item.x.begin());
  std::copy(ids.begin() + 1, ids.end(), item.y.begin());
  if (drawn != last) {
    std::copy(slot(last).begin(), slot(last).end(), ids.begin());
    starts_[drawn] = starts_[last];
  }
  starts_.pop_back();
  ++given_;
}

SourceState StreamingData::state() const {
  return [files = sequences_.documents().file_fingerprints(), tokenizer = tokenizer_, options = options_,
          given = given_, starts = starts_, next = sequences_.position()]() -> Json {
    const DocumentOptions& documents = options.documents;
    Json buffer = Json::array();
    for (const SequencePosition& start : starts) buffer.push_back(to_json(start));
    return {{"files", files},
            {"tokenizer", tokenizer},
            {"length", options.length},
            {"buffer_size", options.buffer_size},
            {"shuffle", options.shuffle == StreamShuffle::blocks ? "blocks" : "reservoir"},
            {"seed", options.seed},
            {"format", documents.format == LineFormat::jsonl ? "jsonl" : "text"},
            {"text_field", documents.text_field},
            {"shard", {documents.shard.index, documents.shard.count}},
            {"separator", documents.separator ? Json(*documents.separator) : Json()},
            {"given", given},
            {"next", to_json(next)},
            {"buffer", std::move(buffer)}};
  };
}

void StreamingData::restore(const Json& state) {
  check_source_state(state, this->state()(), {"given", "next", "buffer"});
  const std::int64_t given = json_integer(state, "given", kWhere, 0);
  require_input(state.at("buffer").is_array() && std::ssize(state.at("buffer")) <= options_.buffer_size, kWhere,
                "\"buffer\" must be a list of at most {} places in the files", options_.buffer_size);
  starts_.clear();
  for (const Json& place : state.at("buffer")) {
    sequences_.seek(position_from(place));
    read_into_buffer();
  }
  sequences_.seek(position_from(state.at("next")));
  given_ = given;
}

StreamBatches::StreamBatches(std::shared_ptr<StreamingData> data, std::int64_t batch_size)
    : data_(std::move(data)), batch_size_(batch_size) {
  require_input(batch_size >= 1, "data", "a batch size of {} is not possible; it must be at least 1", batch_size);
}

bool StreamBatches::next(Batch& batch) {
  batch.resize(batch_size_, data_->length());
  batch.epoch = 0;
  batch.ends_epoch = false;
  for (std::int64_t row = 0; row < batch_size_; ++row) data_->next(batch.row(row));
  return true;
}

SourceState StreamBatches::state() const {
  return [rows = batch_size_, data = data_->state()]() -> Json {
    return {{"kind", "stream"}, {"batch_size", rows}, {"data", data()}};
  };
}

void StreamBatches::restore(const Json& state) {
  check_source_state(state, this->state()(), {"data"});
  data_->restore(state.at("data"));
}

}  // namespace sq
