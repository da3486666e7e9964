// tensor/cuda/gpu/mma.h: tensor/cuda/mma.h on tensor cores (PTX of compute capability 8.0).
#pragma once

#include "tensor/cuda/mma.h"

namespace sq::cuda {

/// A f32 number as a tensor core takes it.
__device__ inline std::uint32_t to_tf32(float x) {
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

/// d += a·b. All 32 lanes call.
template <class T>
__device__ inline void mma(MatrixD& d, const MatrixA<T>& a, const MatrixB<T>& b) {
  if constexpr (std::is_same_v<T, bf16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d.item[0]), "+f"(d.item[1]), "+f"(d.item[2]), "+f"(d.item[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
  else if constexpr (std::is_same_v<T, f16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d.item[0]), "+f"(d.item[1]), "+f"(d.item[2]), "+f"(d.item[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
  else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d.item[0]), "+f"(d.item[1]), "+f"(d.item[2]), "+f"(d.item[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
}

/// Four 8×8 matrices of 16-bit numbers from shared memory. Lane 8i + r says where row r of matrix i begins (16 bytes, a
/// multiple of 16); word i of each lane gets items 2t, 2t+1 of row g of matrix i.
__device__ inline void load_matrices(std::uint32_t (&word)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(address)
               : "memory");
}
/// The same with each matrix transposed: word i gets items 2t, 2t+1 of column g.
__device__ inline void load_matrices_transposed(std::uint32_t (&word)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(address)
               : "memory");
}

}  // namespace sq::cuda
