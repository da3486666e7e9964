#include "tensor/cuda/emulation/fiber.h"

#include "tensor/error.h"

#include <boost/context/detail/fcontext.hpp>
#include <sys/mman.h>

// Functions of AddressSanitizer; null in programs that are built without it.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, std::size_t* size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, std::size_t);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace sq::cuda::emulation {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // touched as far as used
constexpr std::size_t kGuardBytes = 4096;                    // below it: overflowing is a fault, not a riddle

/// Stacks begin at different places of their pages: at the same one, those of a block would crowd each other out of
/// the cache.
std::size_t next_offset() {
  constinit thread_local std::size_t number = 0;
  return number++ % 29 * 128;
}

}  // namespace

/// What a switch carries over: who left, for whom.
struct Fiber::Entry {
  Fiber *from, *to;

  /// Runs on the new stack after every switch.
  static void arrive(context::transfer_t transfer, void* fake_stack) {
    const Entry entry = *static_cast<Entry*>(transfer.data);
    entry.from->context_ = transfer.fctx;
    if (__sanitizer_finish_switch_fiber != nullptr)
      __sanitizer_finish_switch_fiber(fake_stack, &entry.from->bottom_, &entry.from->size_);
  }

  static void begin(context::transfer_t transfer) {
    Fiber& self = *static_cast<Entry*>(transfer.data)->to;
    arrive(transfer, nullptr);
    self.body_(self.argument_);
  }
};

Fiber::Fiber(void (*body)(void*), void* argument)
    : body_(body), argument_(argument), size_(kStackBytes), offset_(next_offset()) {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  require(memory != MAP_FAILED, "cuda emulation", "no memory for another stack of {} bytes", kStackBytes);
  mprotect(memory, kGuardBytes, PROT_NONE);
  stack_ = static_cast<std::byte*>(memory) + kGuardBytes;
  bottom_ = stack_;
  reset();
}

Fiber::~Fiber() {
  if (stack_) munmap(stack_ - kGuardBytes, kStackBytes + kGuardBytes);
}

void Fiber::reset() {
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(stack_, kStackBytes);
  context_ = context::make_fcontext(stack_ + kStackBytes - offset_, kStackBytes - offset_, Entry::begin);
}

void Fiber::switch_to(Fiber& next) {
  Entry entry{this, &next};
  if (__sanitizer_start_switch_fiber != nullptr) __sanitizer_start_switch_fiber(&fake_stack_, next.bottom_, next.size_);
  Entry::arrive(context::jump_fcontext(next.context_, &entry), fake_stack_);
}

}  // namespace sq::cuda::emulation
