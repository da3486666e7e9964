// The worker threads behind parallel_for.
//
// A loop is published in a slot, its blocks divided into as many shares as threads may work on it. The calling thread
// and every idle worker claim blocks one by one, each first from the share with its own number, then from the others.
// A thread thus meets the same rows in loop after loop and finds them in its own cache, as long as all goes evenly; and
// the caller never waits for a worker to arrive, only for blocks that a worker has begun. On a busy machine, where the
// system runs a worker late, the caller simply does more of the blocks itself; a team of threads that meets at a
// barrier (OpenMP) would wait for the late one although nothing is left for it to do.
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
    block_ = block;
    context_ = context;
    failure_ = nullptr;
    end_.store(blocks, std::memory_order_relaxed);
    share_count_ = static_cast<std::size_t>(workers) + 1;
    if (shares_.size() < share_count_) shares_ = std::vector<Share>(share_count_);
    for (std::size_t s = 0; s < share_count_; ++s) {
      const auto begin_of = [&](std::size_t share) {
        return blocks * static_cast<std::int64_t>(share) / static_cast<std::int64_t>(share_count_);
      };
      shares_[s].next.store(begin_of(s), std::memory_order_relaxed);
      shares_[s].end = begin_of(s + 1);
    }
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

  /// Claims and runs blocks until none is left. The caller is number 0, the workers follow.
  void work(std::size_t number) {
    const FlushDenormals flush;
    inside_loop = true;
    for (std::size_t turn = 0; turn < share_count_; ++turn) {
      Share& share = shares_[(number + turn) % share_count_];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const std::int64_t i = share.next.fetch_add(1, std::memory_order_relaxed);
        if (i < share.end && i < end_.load(std::memory_order_relaxed)) run(i);
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
  /// The blocks next … end-1 of the loop are not yet claimed.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void run(std::int64_t i) {
    try {
      block_(context_, i);
    } catch (...) {
      // Blocks after the first that failed are skipped, those before it still run and may fail themselves.
      const std::lock_guard lock(failure_mutex_);
      if (i >= end_.load(std::memory_order_relaxed)) return;
      end_.store(i, std::memory_order_relaxed);
      failure_ = std::current_exception();
    }
  }

  static constexpr std::uint32_t kTaken = 1u << 31, kPlace = 1u << 12, kPlaces = kTaken - kPlace;

  alignas(64) std::atomic<std::uint32_t> state_{0};  // kTaken, free places for workers, number of workers inside
  void (*block_)(void*, std::int64_t) = nullptr;
  void* context_ = nullptr;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::atomic<std::int64_t> end_{0};  // blocks from here on do not run
  std::size_t share_count_ = 0;
  std::vector<Share> shares_;
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
        slot.work(0);
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
    while (static_cast<int>(workers_.size()) < count)
      workers_.emplace_back([this, number = workers_.size() + 1] { serve(number); });
    worker_count_.store(static_cast<int>(workers_.size()), std::memory_order_release);
  }

  void announce() {
    news_.fetch_add(1, std::memory_order_acq_rel);
    news_.notify_all();
  }

  /// The life of a worker.
  void serve(std::size_t number) {
    while (!stop_) {
      const std::uint32_t seen = news_.load(std::memory_order_acquire);
      for (Slot& slot : slots_)
        if (slot.try_enter()) {
          slot.work(number);
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
