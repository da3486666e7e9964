// train/data/streaming.h: endless training data from files of any size, shuffled in a buffer.
#pragma once

#include "train/data/batch.h"
#include "train/data/document_reader.h"

#include <filesystem>

namespace sq {

enum class StreamShuffle {
  /// Each sequence is drawn at random from the buffer and replaced by the next one read. The buffer starts small and
  /// grows as sequences are drawn, so that the first batch does not wait for 10,000 sequences.
  reservoir,
  /// The original's: fill the buffer, shuffle it, give all of it, start again.
  blocks
};

struct StreamingOptions {
  std::int64_t length = 0;            ///< L, must be given; a sequence has L+1 ids
  std::int64_t buffer_size = 10'000;  ///< sequences; 1 keeps the order of the files
  StreamShuffle shuffle = StreamShuffle::reservoir;
  std::uint64_t seed = 42;
  DocumentOptions documents = {};
};

/// Sequences of L+1 ids from documents joined one behind the other; the files are read in order again and again.
/// Memory: the buffer (4·(L+1) bytes a sequence) and one document.
class StreamingData {
 public:
  /// Throws UsageError when a file cannot be read or an option is out of range.
  StreamingData(std::vector<std::filesystem::path> files, std::shared_ptr<const Tokenizer> tokenizer,
                StreamingOptions options);
  std::int64_t length() const { return options_.length; }
  /// The next item. Throws UsageError when a whole round over the files gives nothing.
  void next(ItemSpans item);
  /// What was skipped in the first round; may be called while another thread reads.
  SkipReport skipped() const { return sequences_.documents().skipped(); }

  /// The exact position: where the next sequence starts, and where those in the buffer do (their ids are read again on
  /// restoring).
  SourceState state() const;
  /// Throws UsageError naming what differs when files or settings are others.
  void restore(const Json& state);

 private:
  void read_into_buffer();
  void fill_buffer();
  std::span<std::int32_t> slot(std::size_t index);

  StreamingOptions options_;
  std::string tokenizer_;  // fingerprint
  SequenceReader sequences_;
  std::int64_t given_ = 0;                // sequences given since the start
  std::vector<SequencePosition> starts_;  // of the sequences in the buffer
  std::vector<std::int32_t> buffer_;      // their ids
  std::vector<std::int64_t> sequence_;
};

/// Batches of the next items.
class StreamBatches final : public BatchSource {
 public:
  StreamBatches(std::shared_ptr<StreamingData> data, std::int64_t batch_size);
  bool next(Batch& batch) override;
  SourceState state() const override;
  void restore(const Json& state) override;

 private:
  std::shared_ptr<StreamingData> data_;
  std::int64_t batch_size_;
};

}  // namespace sq
