// tools/compare/progress.h: what a person sees of a comparison: one line that changes on a terminal, otherwise a line
// for each measurement.
#pragma once

#include "train/progress.h"

namespace sq::compare {

class CompareProgress {
 public:
  /// `work`: of all measurements to come, in any unit that is roughly proportional to time.
  CompareProgress(const ProgressOptions& options, std::size_t measurements, double work);
  ~CompareProgress() { finish(); }
  CompareProgress(const CompareProgress&) = delete;
  CompareProgress& operator=(const CompareProgress&) = delete;

  /// The next measurement, named for people.
  void begin(const std::string& name, double work);
  /// So much of the measurement under way is done.
  void inner(double share);
  /// The measurement is finished; `result` in a few words.
  void end(const std::string& result);
  /// Leaves the live line.
  void finish();

 private:
  void redraw(double share);
  void print(const std::string& text);

  ProgressOptions options_;
  std::size_t measurements_, number_ = 0;
  double total_, done_ = 0, current_ = 0, start_, drawn_ = 0;
  std::string name_, live_line_;
};

}  // namespace sq::compare
