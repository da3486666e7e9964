// train/progress.h: what a person sees of a training run.
#pragma once

#include "train/trainer.h"

#include <cstdio>
#include <functional>
#include <string>

namespace sq {

/// "[=====>     ] 1200/2000  loss 1.842  val 1.901  12.3k tokens/s  1 min 20 s left", cut to `width` columns.
/// Behind val the share of right answers where it was counted. Without a known last step: "step 1200  loss …".
/// `seconds_left` below 0 = not known.
std::string progress_line(const StepReport& report, double seconds_left, int width);

/// "[=====>     ]" for a share of 0 … 1, 26 columns wide.
std::string progress_bar(double share);

/// "47 s", "3 min 05 s", "2 h 07 min", "3 d 04 h".
std::string duration_text(double seconds);
/// Four characters or so: "950", "12.3k", "4.5M".
std::string short_number(double value);

struct ProgressOptions {
  bool quiet = false;           // warnings only
  bool live = false;            // a terminal: one line that changes; otherwise a line now and then
  double line_seconds = 10;     // between two lines
  double redraw_seconds = 0.1;  // between two changes of the live line
  int width = 100;              // columns
  std::FILE* out = stderr;
  std::function<double()> clock = {};  // seconds; the system's when empty
};

/// Options for a run whose standard error is a terminal of so many columns, or is none.
ProgressOptions progress_on_stderr(bool quiet);

/// Shows the reports of a run. Wire it up as TrainingJob::on_step and notice.
class Progress {
 public:
  explicit Progress(ProgressOptions options);
  /// Ends the live line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const StepReport& report);
  /// A line that stays, above the live one; shown although quiet.
  void notice(const std::string& text);
  /// Leaves the live line standing, complete; the next step begins a new one.
  void finish();

 private:
  double smoothed_speed(const StepReport& report);
  double seconds_left(const StepReport& report);
  void show();
  void end_live_line();
  void print(const std::string& text);

  ProgressOptions options_;
  std::string live_line_;  // as it stands on the terminal
  StepReport last_;        // the newest report,
  bool pending_ = false;   // whether it waits to be shown,
  double shown_ = 0;       // and when one was last shown
  double recent_seconds_ = 0, recent_tokens_ = 0;
  double start_ = 0;              // when the first report came,
  std::int64_t start_step_ = -1;  // and its step
};

}  // namespace sq
