// tensor/profiler.h: where the time of a program goes, kernel by kernel.
//
// A Profiler watches the thread that made it. Spans of that thread tell it their name, begin and end:
//
//   phase    a part of the work, named by the program ("forward", "backward", "update"); no phase lies in another
//   node     the backward of one recorded operation, from its function to its gradients' way on (autograd/engine.cpp)
//   kernel   one run of a kernel (ops/dispatch.h), or of a copy of tensors (tensor/memory.cpp); a kernel that another
//            one runs belongs to the outer one
//
// What a phase spends outside kernels is bookkeeping: checks, shapes, allocation, the tape. Without a Profiler a span
// is one branch.
#pragma once

#include "tensor/error.h"

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sq {

/// What something has to do at least: a multiply-add counts two FLOPs; each byte of operands and results moves once.
struct Work {
  static constexpr double kUnknown = -1;
  double flops = kUnknown;
  double bytes = kUnknown;

  /// `count` values of type T read or written; where the time is that of the memory, FLOPs are not counted.
  template <class T>
  static Work moving(std::int64_t count) {
    return {.flops = kUnknown, .bytes = static_cast<double>(count) * sizeof(T)};
  }
};

enum class SpanKind : std::uint8_t { phase, node, kernel };

struct ProfileEvent {
  SpanKind kind;
  std::string_view name;    // of static life
  std::string_view phase;   // the phase it happened in, or empty
  std::int64_t begin, end;  // nanoseconds since the profiler was made
  Work work;                // kernels only
};

class Profiler {
 public:
  /// This thread's spans are recorded here while the object lives; of several, by the youngest.
  Profiler();
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  /// What has ended so far, in order of ends: what lies inside a span comes before it.
  const std::vector<ProfileEvent>& events() const { return events_; }
  /// Forgets them.
  void clear() { events_.clear(); }

  /// The one that watches this thread, or null.
  static Profiler* current();

 private:
  friend class ProfileSpan;
  std::int64_t now() const;

  Profiler* before_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<ProfileEvent> events_;
  std::string_view phase_;
  bool in_kernel_ = false;
};

namespace detail {
extern constinit thread_local Profiler* current_profiler;
}  // namespace detail

inline Profiler* Profiler::current() { return detail::current_profiler; }

/// Reports its own life to the profiler, if there is one.
class ProfileSpan {
 public:
  ProfileSpan(SpanKind kind, std::string_view name) : profiler_(Profiler::current()) {
    if (profiler_) [[unlikely]]
      begin(kind, name, {});
  }
  ~ProfileSpan() {
    if (profiler_) [[unlikely]]
      end();
  }
  ProfileSpan(const ProfileSpan&) = delete;
  ProfileSpan& operator=(const ProfileSpan&) = delete;

 protected:
  explicit ProfileSpan(Profiler* profiler) : profiler_(profiler) {}
  void begin(SpanKind kind, std::string_view name, const Work& work);
  void end() noexcept;

  Profiler* profiler_;
  ProfileEvent event_;  // set while profiling only
};

/// The run of a kernel. `work()` is asked only while profiling.
class KernelSpan : public ProfileSpan {
 public:
  template <class WorkOf>
  KernelSpan(std::string_view name, const WorkOf& work) : ProfileSpan(Profiler::current()) {
    if (profiler_) [[unlikely]]
      begin(SpanKind::kernel, name, work());
  }
};

}  // namespace sq
