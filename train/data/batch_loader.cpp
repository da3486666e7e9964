#include "train/data/batch_loader.h"

#include "tensor/error.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace sq {

BatchLoader::BatchLoader(std::unique_ptr<BatchSource> source, std::int64_t depth)
    : source_(std::move(source)), depth_(static_cast<std::size_t>(depth)) {
  require_input(depth >= 1, "loader", "a queue of {} batches is not possible; it must hold at least 1", depth);
  consumed_ = source_->state();
  thread_ = std::thread([this] { run(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BatchLoader::run() {
  while (true) {
    Prepared prepared;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || ready_.size() < depth_; });
      if (stop_) return;
      if (!spare_.empty()) {
        prepared.batch = std::move(spare_.back());
        spare_.pop_back();
      }
    }
    bool more = false;
    std::exception_ptr failure;
    try {
      more = source_->next(prepared.batch);
      if (more) prepared.state_after = source_->state();
    } catch (...) {
      failure = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      if (more && !failure) ready_.push_back(std::move(prepared));
      ended_ = !more || failure;
      failure_ = failure;
    }
    changed_.notify_all();
    if (!more || failure) return;
  }
}

bool BatchLoader::next(Batch& batch) {
  Prepared prepared;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty() || ended_; });
    if (ready_.empty()) {
      if (failure_) std::rethrow_exception(failure_);
      return false;
    }
    prepared = std::move(ready_.front());
    ready_.pop_front();
    if (!batch.x.empty()) spare_.push_back(std::move(batch));
  }
  changed_.notify_all();
  batch = std::move(prepared.batch);
  consumed_ = std::move(prepared.state_after);
  return true;
}

Json BatchLoader::state() const { return consumed_(); }

}  // namespace sq
