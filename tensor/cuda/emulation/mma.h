// tensor/cuda/emulation/mma.h: tensor/cuda/mma.h element by element. gpu/mma.h says what each function does.
#pragma once

#include "tensor/cuda/mma.h"

#include <bit>
#include <cstring>

namespace sq::cuda {

/// Rounded to 10 bits of mantissa, halves away from zero.
inline std::uint32_t to_tf32(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

namespace emulation {

template <class T>
struct Product {
  MatrixD* d;
  const MatrixA<T>* a;
  const MatrixB<T>* b;
};

/// Number `half` (0, 1) of a word of T.
template <class T>
float number(std::uint32_t word, int half) {
  if constexpr (sizeof(T) == 2) {
    T value;
    value.bits = static_cast<std::uint16_t>(word >> (16 * half));
    return value;
  } else {
    return std::bit_cast<float>(word & ~0x1fffu);  // a tensor core ignores the rest
  }
}

/// The matrices put together from the lanes, multiplied, and handed back.
template <class T>
void multiply(void* const* lanes, unsigned) {
  constexpr int K = kMmaDepth<T>, kNumbers = sizeof(T) == 2 ? 2 : 1;
  float a[16][K], b[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& p = *static_cast<const Product<T>*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < kNumbers; ++half) {
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t * kNumbers + half + i / 2 * K / 2] = number<T>(p.a->word[i], half);
      for (int i = 0; i < 2; ++i) b[t * kNumbers + half + i * K / 2][g] = number<T>(p.b->word[i], half);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& p = *static_cast<const Product<T>*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
      p.d->item[i] += sum;
    }
  }
}

struct MatrixRow {
  std::uint32_t* word;
  const void* row;
};

template <bool Transposed>
void distribute(void* const* lanes, unsigned) {
  std::uint16_t item[4][8][8];
  for (int lane = 0; lane < 32; ++lane)
    std::memcpy(item[lane / 8][lane % 8], static_cast<const MatrixRow*>(lanes[lane])->row, 16);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t low = Transposed ? item[i][2 * t][g] : item[i][g][2 * t];
      const std::uint32_t high = Transposed ? item[i][2 * t + 1][g] : item[i][g][2 * t + 1];
      static_cast<const MatrixRow*>(lanes[lane])->word[i] = low | high << 16;
    }
  }
}

}  // namespace emulation

template <class T>
void mma(MatrixD& d, const MatrixA<T>& a, const MatrixB<T>& b) {
  emulation::Product<T> mine{&d, &a, &b};
  emulation::collective(kAllLanes, &mine, emulation::multiply<T>, "mma");
}

inline void load_matrices(std::uint32_t (&word)[4], const void* row) {
  emulation::MatrixRow mine{word, row};
  emulation::collective(kAllLanes, &mine, emulation::distribute<false>, "load_matrices");
}
inline void load_matrices_transposed(std::uint32_t (&word)[4], const void* row) {
  emulation::MatrixRow mine{word, row};
  emulation::collective(kAllLanes, &mine, emulation::distribute<true>, "load_matrices_transposed");
}

}  // namespace sq::cuda
