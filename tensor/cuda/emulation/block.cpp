#include "tensor/cuda/emulation/block.h"

#include "tensor/cpu/threads.h"
#include "tensor/cuda/emulation/fiber.h"

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <vector>

namespace sq::cuda::emulation {

constinit thread_local Place place;

namespace {

std::atomic<std::uint64_t> order_seed{1};  // tests choose it

/// i -> (factor·i + offset) mod count, with a factor that has no divisor in common with `count`: a permutation that
/// costs nothing to make.
class Order {
 public:
  Order() = default;
  Order(std::uint64_t count, std::uint64_t seed) : count_(count) {
    seed = (seed + 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
    seed ^= seed >> 29;
    factor_ = count > 1 ? seed % count : 0;
    while (std::gcd(factor_, count) != 1) factor_ = factor_ + 1 < count ? factor_ + 1 : 1;
    offset_ = (seed >> 17) % count;
  }
  std::uint64_t operator()(std::uint64_t i) const { return (factor_ * i + offset_) % count_; }

 private:
  std::uint64_t count_ = 1, factor_ = 1, offset_ = 0;
};

/// Memory of exactly `bytes` bytes for AddressSanitizer, aligned for vector loads.
class Block {
 public:
  explicit Block(std::size_t bytes)
      : bytes_(bytes), memory_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, padded(bytes))), &std::free) {
    require(memory_ != nullptr, "cuda emulation", "no memory for {} bytes of shared memory", bytes);
  }
  // The array ends where the allocation does, not at the next multiple of the alignment.
  std::byte* data() const { return memory_.get() + (padded(bytes_) - (bytes_ + 15) / 16 * 16); }
  std::size_t bytes() const { return bytes_; }
  void poison() const { std::memset(data(), 0xFF, bytes_); }

 private:
  static constexpr std::size_t kAlignment = 128;
  static std::size_t padded(std::size_t bytes) {
    return std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  }

  std::size_t bytes_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
};

/// A warp operation that waits for lanes.
struct Meeting {
  unsigned mask = 0, arrived = 0;
  Complete complete = nullptr;
  const char* operation = nullptr;
  std::array<void*, 32> data;
};

/// Runs blocks, one after the other, on one thread of the system.
class BlockRunner {
 public:
  static BlockRunner& of_this_thread() {
    thread_local BlockRunner runner;
    return runner;
  }
  static BlockRunner*& running() {
    thread_local BlockRunner* runner = nullptr;
    return runner;
  }

  void run(const Launch& launch, std::int64_t number);
  void barrier(int line);
  void collective(unsigned mask, void* data, Complete complete, const char* operation);
  std::byte* dynamic_shared() const;
  std::byte* static_shared(const void* key, std::size_t bytes);
  const Launch& launch() const { return *launch_; }

 private:
  struct Worker {
    explicit Worker(BlockRunner* runner) : fiber([](void* r) { static_cast<BlockRunner*>(r)->work(); }, runner) {}
    Fiber fiber;
    int thread = 0;
  };
  struct StaticArray {
    const void* key;
    std::unique_ptr<Block> block;
    std::uint64_t serial;  // of the block that filled it last
  };

  void begin(const Launch& launch, std::int64_t number);
  void work();
  Worker& idle_worker();
  void wait();
  void go_to(Worker* next);
  void wake(std::vector<Worker*>& sleepers);
  std::string who_waits() const;

  const Launch* launch_ = nullptr;
  int threads_ = 0, started_ = 0, finished_ = 0;
  Order order_;
  std::uint64_t serial_ = 0;

  Fiber main_;
  Worker* current_ = nullptr;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_, ready_;
  std::size_t next_ready_ = 0;
  std::exception_ptr failure_;

  std::vector<Worker*> at_barrier_;
  int barrier_line_ = 0;
  std::vector<std::vector<Meeting>> meetings_;          // by warp
  std::vector<std::array<Worker*, 32>> meeting_lanes_;  // by warp: who sleeps in a warp operation

  std::unique_ptr<Block> dynamic_;
  std::vector<StaticArray> arrays_;
};

void BlockRunner::begin(const Launch& launch, std::int64_t number) {
  const Grid& grid = launch.grid;
  launch_ = &launch;
  threads_ = grid.threads;
  started_ = finished_ = 0;
  order_ = Order(static_cast<std::uint64_t>(threads_), order_seed.load() + static_cast<std::uint64_t>(number));
  ++serial_;
  ready_.clear();
  next_ready_ = 0;
  at_barrier_.clear();
  const auto warps = static_cast<std::size_t>(threads_ / 32);
  if (meetings_.size() < warps) meetings_.resize(warps);
  meeting_lanes_.resize(warps);
  if (!dynamic_ || dynamic_->bytes() != grid.shared_bytes) dynamic_ = std::make_unique<Block>(grid.shared_bytes);
  dynamic_->poison();
  place = {.thread = 0,
           .threads = threads_,
           .block = {number % grid.blocks, number / grid.blocks % grid.blocks_y, number / grid.blocks / grid.blocks_y},
           .blocks = {grid.blocks, grid.blocks_y, grid.blocks_z}};
}

void BlockRunner::run(const Launch& launch, std::int64_t number) {
  begin(launch, number);
  BlockRunner* const outer = std::exchange(running(), this);
  go_to(&idle_worker());
  running() = outer;
  if (finished_ == threads_ && !failure_) return;
  if (!failure_) failure_ = std::make_exception_ptr(Error(fmt::format("{}: {}", launch.name, who_waits())));
  // The threads that were under way are forgotten with their stacks.
  idle_.clear();
  for (const auto& worker : workers_) {
    worker->fiber.reset();
    idle_.push_back(worker.get());
  }
  for (auto& open : meetings_) open.clear();
  std::rethrow_exception(std::exchange(failure_, nullptr));
}

/// What a worker does all its life: threads that nobody has begun, then waiting for the next block.
void BlockRunner::work() {
  for (;;) {
    while (started_ < threads_ && !failure_) {
      place.thread = static_cast<int>(order_(static_cast<std::uint64_t>(started_++)));
      try {
        launch_->body(launch_->arguments);
      } catch (...) {
        failure_ = std::current_exception();
      }
      ++finished_;
    }
    idle_.push_back(current_);
    go_to(failure_ || next_ready_ == ready_.size() ? nullptr : ready_[next_ready_++]);
  }
}

BlockRunner::Worker& BlockRunner::idle_worker() {
  if (idle_.empty()) {
    workers_.push_back(std::make_unique<Worker>(this));
    return *workers_.back();
  }
  Worker& worker = *idle_.back();
  idle_.pop_back();
  return worker;
}

/// Switches to a worker, or (null) to the runner itself.
void BlockRunner::go_to(Worker* next) {
  Fiber& from = current_ ? current_->fiber : main_;
  current_ = next;
  from.switch_to(next ? next->fiber : main_);
}

/// The running thread sleeps until it is woken; others go on.
void BlockRunner::wait() {
  Worker* const self = current_;
  const int thread = place.thread;
  Worker* next = nullptr;
  if (next_ready_ < ready_.size())
    next = ready_[next_ready_++];
  else if (started_ < threads_)
    next = &idle_worker();
  go_to(next);
  current_ = self;
  place.thread = thread;
}

void BlockRunner::wake(std::vector<Worker*>& sleepers) {
  if (next_ready_ == ready_.size()) {
    ready_.clear();
    next_ready_ = 0;
  }
  const Order order(sleepers.size(), order_seed.load() + static_cast<std::uint64_t>(finished_) + sleepers.size());
  for (std::size_t i = 0; i < sleepers.size(); ++i) ready_.push_back(sleepers[order(i)]);
  sleepers.clear();
}

void BlockRunner::barrier(int line) {
  if (at_barrier_.empty())
    barrier_line_ = line;
  else if (line != barrier_line_)
    fail(fmt::format("threads of one block wait at different barriers, in lines {} and {}", barrier_line_, line));
  if (static_cast<int>(at_barrier_.size()) + 1 == threads_) return at_barrier_.empty() ? void() : wake(at_barrier_);
  at_barrier_.push_back(current_);
  wait();
}

void BlockRunner::collective(unsigned mask, void* data, Complete complete, const char* operation) {
  const unsigned lane = static_cast<unsigned>(place.thread) % 32, bit = 1u << lane;
  const auto warp = static_cast<std::size_t>(place.thread / 32);
  if ((mask & bit) == 0)
    fail(fmt::format("lane {} calls {} with mask {:#010x}, which leaves it out", lane, operation, mask));
  std::vector<Meeting>& open = meetings_[warp];
  Meeting* meeting = nullptr;
  for (Meeting& other : open) {
    if (other.mask == mask && other.complete == complete) {
      meeting = &other;
    } else if ((other.mask & mask) != 0) {
      fail(fmt::format("lanes of one warp meet in different operations: {} with mask {:#010x} and {} with {:#010x}",
                       other.operation, other.mask, operation, mask));
    }
  }
  if (!meeting) {
    open.push_back({.mask = mask, .complete = complete, .operation = operation, .data = {}});
    meeting = &open.back();
  }
  meeting->data[lane] = data;
  meeting->arrived |= bit;
  std::array<Worker*, 32>& lanes = meeting_lanes_[warp];
  if (meeting->arrived != mask) {
    lanes[lane] = current_;
    return wait();
  }
  const Meeting complete_one = *meeting;
  *meeting = open.back();
  open.pop_back();
  complete_one.complete(complete_one.data.data(), mask);
  if (next_ready_ == ready_.size()) {
    ready_.clear();
    next_ready_ = 0;
  }
  for (unsigned rest = mask & ~bit; rest != 0; rest &= rest - 1)
    ready_.push_back(lanes[static_cast<std::size_t>(std::countr_zero(rest))]);
}

std::string BlockRunner::who_waits() const {
  for (std::size_t warp = 0; warp < meetings_.size(); ++warp)
    for (const Meeting& meeting : meetings_[warp])
      return fmt::format("lanes {:#010x} of warp {} never came to the {} for which lanes {:#010x} wait",
                         meeting.mask & ~meeting.arrived, warp, meeting.operation, meeting.arrived);
  return fmt::format("{} of {} threads never reached the barrier in line {} at which the others wait",
                     threads_ - static_cast<int>(at_barrier_.size()), threads_, barrier_line_);
}

std::byte* BlockRunner::dynamic_shared() const { return dynamic_->data(); }

std::byte* BlockRunner::static_shared(const void* key, std::size_t bytes) {
  StaticArray* found = nullptr;
  for (StaticArray& array : arrays_)
    if (array.key == key) found = &array;
  if (!found) {
    arrays_.push_back({key, std::make_unique<Block>(bytes), 0});
    found = &arrays_.back();
  }
  if (found->serial != serial_) {
    found->block->poison();
    found->serial = serial_;
  }
  return found->block->data();
}

}  // namespace

void run(const Launch& launch) {
  const Grid& grid = launch.grid;
  const std::int64_t blocks = grid.blocks * grid.blocks_y * grid.blocks_z;
  const Order order(static_cast<std::uint64_t>(blocks), order_seed.load());
  const std::int64_t grain = std::max<std::int64_t>(1, 4096 / grid.threads);
  cpu::parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    const DeviceAccess access;
    for (std::int64_t i = begin; i < end; ++i)
      BlockRunner::of_this_thread().run(launch, static_cast<std::int64_t>(order(static_cast<std::uint64_t>(i))));
  });
}

void barrier(int line) { BlockRunner::running()->barrier(line); }
void collective(unsigned mask, void* data, Complete complete, const char* operation) {
  BlockRunner::running()->collective(mask, data, complete, operation);
}
std::byte* dynamic_shared() { return BlockRunner::running()->dynamic_shared(); }
std::byte* static_shared(const void* key, std::size_t bytes) {
  return BlockRunner::running()->static_shared(key, bytes);
}
void set_order_seed(std::uint64_t seed) { order_seed = seed; }

void fail(const std::string& text) { throw Error(fmt::format("{}: {}", BlockRunner::running()->launch().name, text)); }

}  // namespace sq::cuda::emulation
