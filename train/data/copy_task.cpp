#include "train/data/copy_task.h"

#include "tensor/error.h"
#include "tensor/random.h"

#include <algorithm>

namespace sq {

CopyTask::CopyTask(CopyOptions options) : options_(options) {
  require_input(options.vocab_size >= 2, "copy task", "a vocabulary of {} is too small; it must be at least 2",
                options.vocab_size);
  require_input(options.length >= 1 && options.items >= 1 && options.pattern_length >= 1, "copy task",
                "length {}, items {} and pattern length {} must all be at least 1", options.length, options.items,
                options.pattern_length);
}

void CopyTask::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < options_.items, "copy task", "there is no item {} among {}", index, options_.items);
  const auto choices = static_cast<std::uint64_t>(options_.vocab_size - 1);
  const auto id_at = [&](std::int64_t position) {
    const auto draw = static_cast<std::uint64_t>(position % options_.pattern_length);
    const std::uint64_t stream = data_stream::kCopyTask + static_cast<std::uint64_t>(index);
    return static_cast<std::int64_t>(1 + random_below(options_.seed, stream, draw, choices));
  };
  for (std::int64_t t = 0; t < options_.length; ++t) {
    const auto i = static_cast<std::size_t>(t);
    item.x[i] = id_at(t);
    item.y[i] = options_.answer_only && t + 1 < options_.pattern_length ? kIgnoreTarget : id_at(t + 1);
  }
}

std::string CopyTask::fingerprint() const {
  const CopyOptions& o = options_;
  return fmt::format("copy-{}-{}-{}-{}-{}-{}", o.vocab_size, o.length, o.items, o.pattern_length, o.seed,
                     o.answer_only);
}

}  // namespace sq
