// tensor/cuda/emulation/threads.h: tensor/cuda/threads.h as the host plays it.
#pragma once

#include "tensor/cuda/emulation/block.h"
#include "tensor/cuda/emulation/language.h"

#include <bit>
#include <cstring>

namespace sq::cuda {

inline int thread_index() { return emulation::place.thread; }
inline int thread_count() { return emulation::place.threads; }
inline std::int64_t block_index(int axis = 0) { return emulation::place.block[axis]; }
inline std::int64_t block_count(int axis = 0) { return emulation::place.blocks[axis]; }

inline void sync_threads(int line = __builtin_LINE()) { emulation::barrier(line); }
inline void sync_warp(unsigned mask = 0xffffffffu) {
  emulation::collective(
      mask, nullptr, [](void* const*, unsigned) {}, "sync_warp");
}

namespace emulation {

template <class T>
struct Exchange {
  T value;
  int source;  // a lane
};

/// Each lane gets the value of its source, all at once.
template <class T>
T exchange(T value, int source, unsigned mask, const char* operation) {
  if (source < 0 || source > 31 || (mask >> source & 1u) == 0)
    fail(fmt::format("{} reads lane {}, which is not in the mask {:#010x}", operation, source, mask));
  Exchange<T> mine{value, source};
  collective(
      mask, &mine,
      [](void* const* lanes, unsigned all) {
        T results[32];
        for (int lane = 0; lane < 32; ++lane)
          if (all >> lane & 1u)
            results[lane] = static_cast<Exchange<T>*>(lanes[static_cast<Exchange<T>*>(lanes[lane])->source])->value;
        for (int lane = 0; lane < 32; ++lane)
          if (all >> lane & 1u) static_cast<Exchange<T>*>(lanes[lane])->value = results[lane];
      },
      operation);
  return mine.value;
}

}  // namespace emulation

template <class T>
T shuffle(T value, int lane, unsigned mask = 0xffffffffu) {
  return emulation::exchange(value, lane % 32, mask, "shuffle");
}
template <class T>
T shuffle_xor(T value, int lane_mask, unsigned mask = 0xffffffffu) {
  return emulation::exchange(value, thread_index() % 32 ^ lane_mask, mask, "shuffle_xor");
}
template <class T>
T shuffle_up(T value, int distance, unsigned mask = 0xffffffffu) {
  const int lane = thread_index() % 32;
  return emulation::exchange(value, lane >= distance ? lane - distance : lane, mask, "shuffle_up");
}
template <class T>
T shuffle_down(T value, int distance, unsigned mask = 0xffffffffu) {
  const int lane = thread_index() % 32;
  return emulation::exchange(value, lane + distance < 32 ? lane + distance : lane, mask, "shuffle_down");
}
inline unsigned ballot(bool predicate, unsigned mask = 0xffffffffu) {
  unsigned mine = predicate ? 1u : 0u;
  emulation::collective(
      mask, &mine,
      [](void* const* lanes, unsigned all) {
        unsigned bits = 0;
        for (int lane = 0; lane < 32; ++lane)
          if (all >> lane & 1u) bits |= *static_cast<unsigned*>(lanes[lane]) << lane;
        for (int lane = 0; lane < 32; ++lane)
          if (all >> lane & 1u) *static_cast<unsigned*>(lanes[lane]) = bits;
      },
      "ballot");
  return mine;
}

inline int first_lane(unsigned bits) { return std::countr_zero(bits); }
inline int last_lane(unsigned bits) { return 31 - std::countl_zero(bits); }

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(emulation::dynamic_shared());
}
template <class T, int N, class Tag>
T* static_shared() {
  static const char key = 0;
  return reinterpret_cast<T*>(emulation::static_shared(&key, sizeof(T) * N));
}

// Copied when it is committed to, so that the source may not change meanwhile; a kernel that reads before it has waited
// is not found out.
inline void copy_async(void* to, const void* from) { std::memcpy(to, from, 16); }
inline void copy_async_commit() {}
template <int N>
void copy_async_wait() {}

}  // namespace sq::cuda
