// train/data/batch_loader.h: a thread that prepares the next batches while the current one trains.
#pragma once

#include "train/data/batch.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sq {

/// Runs a source ahead of its consumer, by at most `depth` batches. The batches and their order are those of the
/// source, whatever the timing. One consumer at a time.
class BatchLoader {
 public:
  /// Starts the thread. To resume, restore the source first. Throws UsageError when depth < 1.
  explicit BatchLoader(std::unique_ptr<BatchSource> source, std::int64_t depth = 4);
  /// Stops the thread; waits at most for the batch in preparation.
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// Replaces `batch` by the next one, taking over its memory for later batches; false when the source has no more. An
  /// exception of the source comes out here, after all batches before it, and again at each further call.
  bool next(Batch& batch);
  /// The position behind the last batch that next() gave, not behind those prepared: what a checkpoint must keep.
  Json state() const;
  /// The same, to be turned into JSON only when somebody saves it.
  SourceState position() const { return consumed_; }

 private:
  struct Prepared {
    Batch batch;
    SourceState state_after;
  };

  void run();

  std::unique_ptr<BatchSource> source_;
  const std::size_t depth_;
  SourceState consumed_;  // the consumer's alone

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<Prepared> ready_;
  std::vector<Batch> spare_;  // memory for batches to come
  bool stop_ = false, ended_ = false;
  std::exception_ptr failure_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace sq
