#include "tensor/tensor.h"

#include "tensor/memory.h"
#include "tensor/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

using namespace sq;

TEST_CASE("a tensor keeps its values in row-major order" * doctest::test_suite("cpu")) {
  const Tensor t = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(t.to_vector<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(describe(t) == "f32[2,3]@cpu");
  const Tensor transposed = t.alias({3, 2}, {1, 3}, 0);
  CHECK(transposed.to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK_FALSE(transposed.is_contiguous());
  CHECK(packed(transposed).is_contiguous());
}

TEST_CASE("Philox gives the published numbers") {
  // Known-answer vectors of Random123: all-zero and all-one counter and key.
  CHECK(philox(0, 0, 0) == std::array<std::uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(philox(~0ull, ~0ull, ~0ull) ==
        std::array<std::uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
}

TEST_CASE("wrong use is an Error that names the tensor" * doctest::test_suite("cpu")) {
  const Tensor t = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(t.data<double>(), "tensor: f32[2,3]@cpu does not hold f64 values", Error);
  CHECK_THROWS_AS(t.alias({4, 3}, {3, 1}, 0), Error);
  CHECK_THROWS_AS(Tensor().shape(), Error);
}

TEST_CASE("sizes that no memory has are refused, whatever they wrap around to") {
  constexpr std::int64_t huge = std::int64_t{1} << 61;
  CHECK_THROWS_WITH_AS(Tensor::empty({huge}, {.dtype = DType::f64}),
                       "tensor: f64[2305843009213693952] has more bytes than 63 bits count", Error);
  CHECK_THROWS_AS(Tensor::empty({huge, huge}), Error);
  CHECK_THROWS_AS(Tensor::empty({huge}, {.dtype = DType::u8}), Error);
  CHECK_THROWS_AS(Tensor::zeros({0, huge, huge}), Error);  // its strides would not fit
  CHECK(Tensor::zeros({0, huge}).numel() == 0);
  CHECK(to_string(Tensor::zeros({huge, 0})).size() < 200);
  CHECK(packed_copy(Tensor::zeros({huge, 0, 3}), DType::f64).numel() == 0);
}

TEST_CASE("conversion to whole numbers stops at the largest and smallest") {
  const Tensor x = Tensor::from<double>({1e300, -1e300, NAN, -INFINITY, 2147483647.9, -3.7, 300, -1}, {8});
  CHECK(packed_copy(x, DType::i32).to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{INT32_MAX, INT32_MIN, 0, INT32_MIN, INT32_MAX, -3, 300, -1});
  CHECK(packed_copy(x, DType::u8).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{255, 0, 0, 0, 255, 0, 255, 0});
  CHECK(packed_copy(x, DType::i64).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{INT64_MAX, INT64_MIN, 0, INT64_MIN, 2147483647, -3, 300, -1});
  CHECK(packed_copy(packed_copy(x, DType::bf16), DType::i32).to_vector<std::int32_t>()[2] == 0);
}

TEST_CASE("copying a transposed tensor puts every element in its place, whatever the size of an element") {
  for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::f64})
    for (const Shape& shape : {Shape{1, 1, 2}, {1, 2, 3}, {2, 17, 70}, {3, 64, 33}}) {
      const std::int64_t outer = shape[0], rows = shape[1], columns = shape[2];
      CAPTURE(rows);
      std::vector<std::int64_t> values;
      for (std::int64_t i = 0; i < outer * rows * columns; ++i) values.push_back(i * 7 % 251);
      const Tensor source = packed_copy(Tensor::from(values, {outer, rows, columns}), dtype);
      const Tensor copy = packed_copy(source.alias({outer, columns, rows}, {rows * columns, 1, columns}, 0));
      std::vector<std::int64_t> want;
      for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t c = 0; c < columns; ++c)
          for (std::int64_t r = 0; r < rows; ++r) want.push_back((o * rows * columns + r * columns + c) * 7 % 251);
      CHECK(copy.is_contiguous());
      CHECK(copy.to_vector<std::int64_t>() == want);
      // the axes outside the transposed pair may lie anywhere
      const Tensor first = packed_copy(source.alias({columns, outer, rows}, {1, rows * columns, columns}, 0));
      for (std::int64_t o = 0; o < outer; ++o)
        CHECK(bit_equal(first.alias({columns, rows}, {outer * rows, 1}, o * rows),
                        copy.alias({columns, rows}, {rows, 1}, o * rows * columns)));
    }
}
