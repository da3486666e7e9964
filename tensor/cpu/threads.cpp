// The worker threads behind parallel_for.
//
// A loop is published in a slot; the calling thread and any idle workers claim its blocks one by one from a shared
// counter. The caller never waits for a worker to arrive, only for blocks that a worker has begun. On a busy machine,
// where the system runs a worker late, the caller simply does more of the blocks itself; a team of threads that meets
// at a barrier (OpenMP) would wait for the late one although nothing is left for it to do.
//
// Idle workers look for work for a moment, so that the next loop of a training step finds them awake, and then sleep.

#include "tensor/cpu/threads.h"

#include "tensor/error.h"

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <mutex>
#include <sched.h>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace sq::cpu {
namespace {

constexpr auto kAwake = std::chrono::microseconds(100);  // how long an idle worker looks for work before it sleeps
constexpr int kMaxWorkers = 1023;

thread_local bool inside_loop = false;

/// Tells the core that this thread is only waiting.
void relax() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// A loop in progress. Its fields are valid while someone is inside.
class Slot {
 public:
  /// Publishes a loop here, for the caller and up to `workers` workers; false when the slot is in use.
  bool try_open(std::int64_t blocks, int workers, void (*block)(void*, std::int64_t), void* context) {
    std::uint32_t unused = 0;
    if (!state_.compare_exchange_strong(unused, kTaken, std::memory_order_acquire)) return false;
    blocks_ = blocks;
    block_ = block;
    context_ = context;
    failure_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    state_.store(kTaken + static_cast<std::uint32_t>(workers) * kPlace, std::memory_order_release);
    return true;
  }

  /// A worker takes a free place, if there is one.
  bool try_enter() {
    std::uint32_t seen = state_.load(std::memory_order_relaxed);
    while ((seen & kPlaces) != 0)
      if (state_.compare_exchange_weak(seen, seen - kPlace + 1, std::memory_order_acquire)) return true;
    return false;
  }

  void leave() {
    const std::uint32_t left = state_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if (left == kTaken) state_.notify_one();  // the caller may be asleep in close()
  }

  /// Claims and runs blocks until none is left.
  void work() {
    const FlushDenormals flush;
    inside_loop = true;
    for (;;) {
      const std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= blocks_) break;
      try {
        block_(context_, i);
      } catch (...) {
        // Blocks are claimed in order: all before this one have been claimed and will report. Later ones are skipped.
        next_.store(blocks_, std::memory_order_relaxed);
        const std::lock_guard lock(failure_mutex_);
        if (failure_ == nullptr || i < failed_block_) {
          failed_block_ = i;
          failure_ = std::current_exception();
        }
      }
    }
    inside_loop = false;
  }

  /// The caller's end of the loop: no worker enters any more, those inside finish their blocks, the slot is free again.
  std::exception_ptr close() {
    std::uint32_t seen = state_.fetch_and(~kPlaces, std::memory_order_acq_rel) & ~kPlaces;
    for (int round = 0; seen != kTaken; ++round) {
      if (round < 1000)
        relax();
      else
        state_.wait(seen, std::memory_order_acquire);
      seen = state_.load(std::memory_order_acquire);
    }
    std::exception_ptr failure = std::move(failure_);
    failure_ = nullptr;
    state_.store(0, std::memory_order_release);
    return failure;
  }

 private:
  static constexpr std::uint32_t kTaken = 1u << 31, kPlace = 1u << 12, kPlaces = kTaken - kPlace;

  alignas(64) std::atomic<std::uint32_t> state_{0};  // kTaken, free places for workers, number of workers inside
  std::int64_t blocks_ = 0;
  void (*block_)(void*, std::int64_t) = nullptr;
  void* context_ = nullptr;
  std::mutex failure_mutex_;
  std::int64_t failed_block_ = 0;
  std::exception_ptr failure_;
  alignas(64) std::atomic<std::int64_t> next_{0};
};

class Pool {
 public:
  ~Pool() {
    stop_ = true;
    announce();
    for (std::thread& worker : workers_) {
      if (getpid() == process_)
        worker.join();
      else
        worker.detach();  // a forked child has this object but not the threads
    }
  }

  /// Runs a loop with up to `threads` threads, the calling one among them. Several threads may call this at once; when
  /// all slots are in use, the caller does the work alone.
  void run(std::int64_t blocks, int threads, void (*block)(void*, std::int64_t), void* context) {
    const int workers = std::min(threads - 1, kMaxWorkers);
    start_workers(workers);
    for (Slot& slot : slots_)
      if (slot.try_open(blocks, workers, block, context)) {
        announce();
        slot.work();
        if (const std::exception_ptr failure = slot.close()) std::rethrow_exception(failure);
        return;
      }
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < blocks; ++i) block(context, i);
  }

 private:
  void start_workers(int count) {
    if (worker_count_.load(std::memory_order_acquire) >= count) return;
    const std::lock_guard lock(workers_mutex_);
    while (static_cast<int>(workers_.size()) < count) workers_.emplace_back([this] { serve(); });
    worker_count_.store(static_cast<int>(workers_.size()), std::memory_order_release);
  }

  void announce() {
    news_.fetch_add(1, std::memory_order_acq_rel);
    news_.notify_all();
  }

  /// The life of a worker.
  void serve() {
    while (!stop_) {
      const std::uint32_t seen = news_.load(std::memory_order_acquire);
      for (Slot& slot : slots_)
        if (slot.try_enter()) {
          slot.work();
          slot.leave();
        }
      const auto deadline = std::chrono::steady_clock::now() + kAwake;
      while (news_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < deadline)
        for (int i = 0; i < 8; ++i) relax();
      news_.wait(seen, std::memory_order_acquire);  // returns at once when there are news
    }
  }

  std::array<Slot, 8> slots_;
  alignas(64) std::atomic<std::uint32_t> news_{0};  // counts the loops published
  std::atomic<bool> stop_{false};
  std::atomic<int> worker_count_{0};
  std::mutex workers_mutex_;
  std::vector<std::thread> workers_;
  const pid_t process_ = getpid();
};

/// The processors on which the kernel may schedule this process.
cpu_set_t allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) CPU_SET(0, &set);
  return set;
}

std::atomic<int>& configured_threads() {
  static std::atomic<int> threads{physical_core_count()};
  return threads;
}

}  // namespace

namespace detail {

bool in_parallel_loop() { return inside_loop; }

void run_blocks(std::int64_t blocks, int threads, void (*block)(void*, std::int64_t), void* context) {
  static Pool pool;
  pool.run(blocks, threads, block, context);
}

}  // namespace detail

int physical_core_count() {
  const cpu_set_t allowed = allowed_processors();
  std::set<std::string> cores;  // hyper-threads of one core share the text of their sibling list
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
    cores.insert(siblings);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

int thread_count() { return configured_threads().load(std::memory_order_relaxed); }

void set_thread_count(int count) {
  require(count >= 1, "threads", "{} is not a number of threads; use 1 or more", count);
  configured_threads().store(count, std::memory_order_relaxed);
}

}  // namespace sq::cpu
