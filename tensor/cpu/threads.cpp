#include "tensor/cpu/threads.h"

#include "tensor/error.h"

#include <atomic>
#include <fstream>
#include <sched.h>
#include <set>
#include <string>

namespace sq::cpu {
namespace {

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
