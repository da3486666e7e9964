#include "tools/compare/progress.h"

#include <algorithm>
#include <chrono>

namespace sq::compare {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

CompareProgress::CompareProgress(const ProgressOptions& options, std::size_t measurements, double work)
    : options_(options), measurements_(measurements), total_(std::max(work, 1e-9)), start_(now_seconds()) {}

void CompareProgress::begin(const std::string& name, double work) {
  ++number_;
  name_ = name;
  current_ = work;
  redraw(0);
}

void CompareProgress::inner(double share) {
  if (now_seconds() - drawn_ >= options_.redraw_seconds) redraw(share);
}

void CompareProgress::end(const std::string& result) {
  done_ += current_;
  current_ = 0;
  if (options_.quiet || options_.live) return;
  print(fmt::format("{}/{}  {}  {}\n", number_, measurements_, name_, result));
}

void CompareProgress::redraw(double share) {
  if (options_.quiet || !options_.live) return;
  drawn_ = now_seconds();
  const double done = done_ + share * current_, seconds = drawn_ - start_;
  std::string line = fmt::format("{} {}/{}  {}", progress_bar(done / total_), number_, measurements_, name_);
  if (done > 0.01 * total_) line += fmt::format("  {} left", duration_text(seconds * (total_ - done) / done));
  line = line.substr(0, static_cast<std::size_t>(std::max(options_.width, 1)));
  print("\r" + line + std::string(live_line_.size() > line.size() ? live_line_.size() - line.size() : 0, ' '));
  live_line_ = line;
}

void CompareProgress::finish() {
  if (!live_line_.empty()) print("\r" + std::string(live_line_.size(), ' ') + "\r");
  live_line_.clear();
}

void CompareProgress::print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), options_.out);
  std::fflush(options_.out);
}

}  // namespace sq::compare
