#include "train/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sys/ioctl.h>
#include <unistd.h>

namespace sq {
namespace {

double system_clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string progress_bar(double share) {
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * kWidth);
  std::string text(kWidth, ' ');
  std::fill_n(text.begin(), filled, '=');
  if (filled < kWidth) text[static_cast<std::size_t>(filled)] = '>';
  return "[" + text + "]";
}

std::string duration_text(double seconds) {
  const auto s = static_cast<std::int64_t>(std::llround(std::clamp(seconds, 0.0, 1e15)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  return fmt::format("{} d {:02} h", s / 86400, s / 3600 % 24);
}

std::string short_number(double value) {
  if (value < 999.5) return fmt::format("{:.0f}", value);
  for (const char unit : {'k', 'M'}) {
    value /= 1000;
    if (value < 99.95) return fmt::format("{:.1f}{}", value, unit);
    if (value < 999.5) return fmt::format("{:.0f}{}", value, unit);
  }
  return fmt::format("{:.1f}G", value / 1000);
}

std::string progress_line(const StepReport& report, double seconds_left, int width) {
  std::string line;
  if (report.last_step > 0)
    line =
        fmt::format("{} {}/{}", progress_bar(static_cast<double>(report.step) / static_cast<double>(report.last_step)),
                    report.step, report.last_step);
  else
    line = fmt::format("step {}", report.step);
  line += fmt::format("  loss {:.4f}", report.smoothed_loss);
  if (report.val_loss) line += fmt::format("  val {:.4f}", *report.val_loss);
  if (report.val_accuracy) line += fmt::format("  {:.1f} % right", 100 * *report.val_accuracy);
  line += fmt::format("  {} tokens/s", short_number(report.tokens_per_s));
  if (seconds_left >= 0) line += fmt::format("  {} left", duration_text(seconds_left));
  return line.substr(0, static_cast<std::size_t>(std::max(width, 1)));
}

ProgressOptions progress_on_stderr(bool quiet) {
  ProgressOptions options{.quiet = quiet, .live = ::isatty(STDERR_FILENO) == 1};
  winsize size{};
  if (options.live && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
    options.width = size.ws_col - 1;  // a full last column would wrap on some terminals
  return options;
}

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  if (!options_.clock) options_.clock = system_clock_seconds;
}

Progress::~Progress() { finish(); }

void Progress::step(const StepReport& report) {
  if (options_.quiet) return;
  const double now = options_.clock();
  const bool first = start_step_ < 0;
  if (first) start_ = now, start_step_ = report.step;
  last_ = report;
  last_.tokens_per_s = smoothed_speed(report);
  pending_ = true;
  const double interval = options_.live ? options_.redraw_seconds : options_.line_seconds;
  if (first || report.val_loss || report.step == report.last_step || now - shown_ >= interval) show();
}

/// Tokens by seconds, both summed with weights that fade by a tenth each step.
double Progress::smoothed_speed(const StepReport& report) {
  constexpr double kFade = 0.9;
  recent_seconds_ = kFade * recent_seconds_ + report.seconds;
  recent_tokens_ = kFade * recent_tokens_ + report.tokens_per_s * report.seconds;
  return recent_seconds_ > 0 ? recent_tokens_ / recent_seconds_ : report.tokens_per_s;
}

/// The steps seen took (now - start) / (step - first) seconds each, evaluations and saving included.
double Progress::seconds_left(const StepReport& report) {
  const std::int64_t seen = report.step - start_step_;
  if (seen < 1 || report.last_step <= 0) return -1;
  const double each = (options_.clock() - start_) / static_cast<double>(seen);
  return each * static_cast<double>(std::max<std::int64_t>(report.last_step - report.step, 0));
}

void Progress::show() {
  pending_ = false;
  shown_ = options_.clock();
  const std::string line = progress_line(last_, seconds_left(last_), options_.width);
  if (!options_.live) return print(line + "\n");
  // Blanks cover what is left of a longer line before.
  print("\r" + line + std::string(live_line_.size() > line.size() ? live_line_.size() - line.size() : 0, ' '));
  live_line_ = line;
  if (last_.val_loss) end_live_line();  // results of evaluations stay on the screen
}

void Progress::notice(const std::string& text) {
  if (live_line_.empty()) return print(text + "\n");
  print("\r" + std::string(live_line_.size(), ' ') + "\r" + text + "\n" + live_line_);
}

void Progress::finish() {
  if (pending_) show();
  end_live_line();
}

void Progress::end_live_line() {
  if (!live_line_.empty()) print("\n");
  live_line_.clear();
}

void Progress::print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), options_.out);
  std::fflush(options_.out);
}

}  // namespace sq
