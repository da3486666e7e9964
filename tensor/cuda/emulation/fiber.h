// tensor/cuda/emulation/fiber.h: several stacks on one thread of the system, switched by hand (Boost.Context).
#pragma once

#include <cstddef>

namespace sq::cuda::emulation {

/// A stack and where it stopped. The fiber that a system thread begins with has no stack of its own here.
class Fiber {
 public:
  /// The system thread's own stack.
  Fiber() = default;
  /// A new stack on which `body(argument)` will run, and never return, once it is switched to.
  Fiber(void (*body)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Stops here and goes on in `next`, until somebody switches back.
  void switch_to(Fiber& next);
  /// Forgets whatever the stack holds: `body` will begin anew.
  void reset();

 private:
  struct Entry;

  void* context_ = nullptr;  // where it stopped; null for a running fiber
  std::byte* stack_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  // For AddressSanitizer, which must be told of every switch.
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
  std::size_t offset_ = 0;  // of where it begins
  void* fake_stack_ = nullptr;
};

}  // namespace sq::cuda::emulation
