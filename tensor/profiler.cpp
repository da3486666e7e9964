#include "tensor/profiler.h"

#include <utility>

namespace sq {

namespace detail {
constinit thread_local Profiler* current_profiler = nullptr;
}  // namespace detail

Profiler::Profiler() : before_(std::exchange(detail::current_profiler, this)) {}
Profiler::~Profiler() { detail::current_profiler = before_; }

std::int64_t Profiler::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start_).count();
}

void ProfileSpan::begin(SpanKind kind, std::string_view name, const Work& work) {
  const bool inside_another =
      (kind == SpanKind::kernel && profiler_->in_kernel_) || (kind == SpanKind::phase && !profiler_->phase_.empty());
  if (inside_another) {  // belongs to the outer one
    profiler_ = nullptr;
    return;
  }
  if (kind == SpanKind::kernel) profiler_->in_kernel_ = true;
  if (kind == SpanKind::phase) profiler_->phase_ = name;
  event_ = {.kind = kind, .name = name, .phase = profiler_->phase_, .begin = 0, .end = 0, .work = work};
  event_.begin = profiler_->now();
}

void ProfileSpan::end() noexcept {
  event_.end = profiler_->now();
  if (event_.kind == SpanKind::kernel) profiler_->in_kernel_ = false;
  if (event_.kind == SpanKind::phase) profiler_->phase_ = {};
  try {
    profiler_->events_.push_back(event_);
  } catch (const std::bad_alloc&) {  // a span less in the profile; the work itself goes on
  }
}

}  // namespace sq
