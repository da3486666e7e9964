// The runtime on whatever GPU there is, real or emulated: memory, copies, products.
#include "ops/cast.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cuda/context.h"
#include "tensor/cuda/gemm.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

constexpr Device kGpu = cuda_device(0);

bool have_gpu() { return cuda::device_count() > 0; }

Tensor on_gpu(const Tensor& x) { return moved(x, kGpu); }
Tensor host_randn(const Shape& shape, DType dtype = DType::f32) {
  return randn(shape, {.dtype = dtype, .device = Device{}});
}

}  // namespace

TEST_CASE("device names say what is there") {
  CHECK(parse_device("cpu") == Device{});
  CHECK_THROWS_WITH_AS(parse_device("gpu"), "device: 'gpu' is not a device; use cpu, cuda or cuda:N", UsageError);
  if (have_gpu()) {
    CHECK(parse_device("cuda") == kGpu);
    CHECK(parse_device("cuda:0") == kGpu);
    CHECK_THROWS_AS(parse_device("cuda:99"), UsageError);
    CHECK(name(kGpu) == "cuda:0");
  } else {
    CHECK_THROWS_AS(parse_device("cuda"), UsageError);
    CHECK(!cuda::why_no_device().empty());
  }
}

TEST_CASE("values survive the way to the GPU and back, whatever the strides, the size and the dtype" *
          doctest::skip(!have_gpu())) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
    CAPTURE(name(dtype));
    const Tensor x = packed_copy(host_randn({7, 5, 9}), DType::f32);
    Tensor host = Tensor::empty(x.shape(), {dtype, Device{}});
    copy_(host, x);
    const Tensor there = on_gpu(host);
    CHECK(there.device() == kGpu);
    CHECK(bit_equal(there, host));
    // a transposed view on either side
    const Tensor turned = there.alias({9, 5, 7}, {1, 9, 45}, 0), host_turned = host.alias({9, 5, 7}, {1, 9, 45}, 0);
    CHECK(bit_equal(moved(turned, Device{}), host_turned));
    Tensor target = Tensor::zeros({9, 5, 7}, {dtype, kGpu});
    copy_(target, host_turned);
    CHECK(bit_equal(target, host_turned));
    Tensor view = Tensor::zeros({7, 5, 9}, {dtype, kGpu});
    Tensor window = view.alias({9, 5, 7}, {1, 9, 45}, 0);
    copy_(window, host_turned);
    CHECK(bit_equal(view, host));
  }
  const Tensor large = host_randn({1500, 1001});  // more than the pinned buffers hold
  CHECK(bit_equal(on_gpu(large), large));
  CHECK(on_gpu(Tensor::empty({0, 3}, {.dtype = DType::f32, .device = Device{}})).numel() == 0);
}

TEST_CASE("dtypes are converted on the GPU as on the CPU" * doctest::skip(!have_gpu())) {
  const Tensor x = Tensor::from<double>(
      {0, -0.0, 1.5, -2.75, 1e-8, 65504, 65520, 3e9, -3e9, 1e300, NAN, INFINITY, 254.5, 6e-8}, {14});
  const Tensor host = moved(x, Device{}), there = on_gpu(x);
  for (const DType via : {DType::f64, DType::f32, DType::bf16, DType::f16})
    for (const DType to : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
      CAPTURE(name(via));
      CAPTURE(name(to));
      CHECK(relative_error(packed_copy(packed_copy(there, via), to), packed_copy(packed_copy(host, via), to)) == 0);
    }
}

TEST_CASE("filling, adding and checking on the GPU" * doctest::skip(!have_gpu())) {
  const Tensor a = host_randn({13, 21}), b = host_randn({13, 21});
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    Tensor want = packed_copy(a, dtype), got = on_gpu(want);
    const Tensor term = packed_copy(b, dtype);
    accumulate_(want, term);
    accumulate_(got, on_gpu(term));
    CHECK(bit_equal(got, want));
    Tensor column = got.alias({13}, {21}, 4), host_column = want.alias({13}, {21}, 4);
    fill_(column, 0.1);
    fill_(host_column, 0.1);
    CHECK(bit_equal(got, want));
    CHECK(all_finite(got));
    Tensor one = got.alias({1}, {1}, 272);
    fill_(one, INFINITY);
    CHECK(!all_finite(got));
    fill_(got, -0.0);
    CHECK(std::signbit(got.to_vector<float>()[7]));
  }
  CHECK(Tensor::arange(5, {DType::i64, kGpu}).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(Tensor::full({2}, 7, {DType::u8, kGpu}).to_vector<int>() == std::vector<int>{7, 7});
  CHECK(Tensor::scalar(2.5, {DType::f16, kGpu}).item() == 2.5);
  CHECK(to_string(Tensor::ones({2}, {DType::f32, kGpu})) == "[1.0000, 1.0000] f32[2]@cuda:0");
}

TEST_CASE("random numbers are the same on every device" * doctest::skip(!have_gpu())) {
  Generator here(9), there(9);
  CHECK(bit_equal(randn({33}, {.dtype = DType::f32, .device = Device{}}, here),
                  randn({33}, {.dtype = DType::f32, .device = kGpu}, there)));
  CHECK(here == there);
}

TEST_CASE("tensors follow the default device" * doctest::skip(!have_gpu())) {
  const Device before = default_device();
  {
    const UseDevice use(kGpu);
    CHECK(Tensor::zeros({2}).device() == kGpu);
    CHECK(Tensor::from<float>({1, 2}, {2}).device() == kGpu);
    CHECK(Tensor::zeros({2}, {.dtype = DType::f32, .device = Device{}}).device() == Device{});
  }
  CHECK(default_device() == before);
}

TEST_CASE("device memory is handed out again" * doctest::skip(!have_gpu())) {
  release_cached_memory(kGpu);
  const MemoryStatistics before = memory_statistics(kGpu);
  reset_peak_memory(kGpu);
  {
    const Tensor a = Tensor::empty({1000}, {DType::f32, kGpu}), b = Tensor::empty({3 << 20}, {DType::f32, kGpu});
    CHECK(memory_statistics(kGpu).in_use >= before.in_use + 4000 + (12 << 20));
  }
  const MemoryStatistics after = memory_statistics(kGpu);
  CHECK(after.in_use == before.in_use);
  CHECK(after.peak >= before.in_use + 4000 + (12 << 20));
  CHECK(after.cached >= 12 << 20);
  for (int i = 0; i < 10; ++i) {
    const Tensor a = Tensor::empty({1000 + 100 * i}, {DType::f32, kGpu}),
                 b = Tensor::empty({2 << 20}, {DType::f32, kGpu});
    const Tensor c = Tensor::empty({1 << 20}, {DType::f32, kGpu});
  }
  CHECK(memory_statistics(kGpu).system_allocations == after.system_allocations);
  release_cached_memory(kGpu);
  CHECK(memory_statistics(kGpu).cached < after.cached);
}

TEST_CASE("a limit on device memory holds, and says so" * doctest::skip(!have_gpu())) {
  release_cached_memory(kGpu);
  const MemoryStatistics now = memory_statistics(kGpu);
  set_memory_limit(kGpu, now.in_use + now.cached + (64 << 20));
  CHECK_NOTHROW(Tensor::empty({8 << 20}, {DType::f32, kGpu}));
  try {
    Tensor::empty({40 << 20}, {DType::f32, kGpu});
    FAIL("the limit was passed");
  } catch (const Error& error) {
    const std::string text = error.what();
    CAPTURE(text);
    CHECK(text.starts_with("memory: cannot allocate 1677"));
    CHECK(text.find("bytes are in use by tensors") != std::string::npos);
    CHECK(text.find("and the limit is") != std::string::npos);
  }
  set_memory_limit(kGpu, 0);
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 42}, {DType::f32, kGpu}), Error);
  CHECK_THROWS_AS(set_memory_limit(Device{}, 1), Error);
}

TEST_CASE("poisoned device memory begins as NaN" * doctest::skip(!have_gpu())) {
  const Poison poison;
  CHECK(!all_finite(Tensor::empty({100}, {DType::f32, kGpu})));
}

namespace {

/// Compares a product of the GPU with the CPU's.
template <class T, class C>
void check_gemm(std::int64_t m, std::int64_t n, std::int64_t k, bool ta, bool tb, bool with_bias, double beta,
                std::int64_t count, std::int64_t outer) {
  CAPTURE(name(dtype_of<T>()));
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(ta);
  CAPTURE(tb);
  const Tensor a = packed_copy(host_randn({outer, count, m * k + 3}), dtype_of<T>());
  const Tensor b = packed_copy(host_randn({count, k * n}), dtype_of<T>());  // shared by the outer level
  const Tensor c = packed_copy(host_randn({outer, count, m, n + 2}), dtype_of<C>());
  const Tensor bias = packed_copy(host_randn({n}), dtype_of<C>());
  const Tensor da = on_gpu(a), db = on_gpu(b), dbias = on_gpu(bias);
  Tensor dc = on_gpu(c);
  cuda::gemm(cuda::context(kGpu),
             cuda::GemmArguments<T, C>{.m = m,
                                       .n = n,
                                       .k = k,
                                       .a = da.data<T>(),
                                       .lda = ta ? m : k,
                                       .transpose_a = ta,
                                       .b = db.data<T>(),
                                       .ldb = tb ? k : n,
                                       .transpose_b = tb,
                                       .c = dc.data<C>(),
                                       .ldc = n + 2,
                                       .alpha = 0.5,
                                       .beta = beta,
                                       .bias = with_bias ? dbias.data<C>() : nullptr,
                                       .batch = {count, m * k + 3, k * n, m * (n + 2)},
                                       .outer_batch = {outer, count * (m * k + 3), 0, count * m * (n + 2)}});
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>(), z = bias.to_vector<double>();
  std::vector<double> want = c.to_vector<double>();
  for (std::int64_t o = 0; o < outer * count; ++o)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t p = 0; p < k; ++p)
          sum += x[static_cast<std::size_t>(o * (m * k + 3) + (ta ? p * m + i : i * k + p))] *
                 y[static_cast<std::size_t>(o % count * k * n + (tb ? j * k + p : p * n + j))];
        double& target = want[static_cast<std::size_t>((o * m + i) * (n + 2) + j)];
        target = 0.5 * sum + (beta == 0 ? 0 : beta * target) + (with_bias ? z[static_cast<std::size_t>(j)] : 0);
      }
  check_close(moved(dc, Device{}), Tensor::from(want, c.shape()));
}

template <class T, class C>
void check_products() {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      check_gemm<T, C>(17, 33, 9, ta, tb, false, 0, 1, 1);
      check_gemm<T, C>(8, 64, 32, ta, tb, true, 0, 1, 1);
      check_gemm<T, C>(5, 7, 3, ta, tb, true, 2, 2, 3);
      check_gemm<T, C>(1, 40, 16, ta, tb, false, 1, 3, 1);
    }
  check_gemm<T, C>(3, 4, 0, false, false, true, 0, 2, 1);
  check_gemm<T, C>(3, 4, 0, false, false, false, 0.5, 1, 1);
  check_gemm<T, C>(0, 4, 3, false, false, false, 0, 1, 1);
}

}  // namespace

TEST_CASE("products on the GPU equal the definition" * doctest::skip(!have_gpu())) {
  const UseDevice host(Device{});
  check_products<float, float>();
  check_products<double, double>();
  check_products<bf16, bf16>();
  check_products<bf16, float>();
  check_products<f16, f16>();
  check_products<f16, float>();
}
