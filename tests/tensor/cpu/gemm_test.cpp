#include "tensor/cpu/gemm.h"

#include "tensor/cpu/blas.h"
#include "tensor/cpu/features.h"
#include "tensor/cpu/threads.h"
#include "tensor/random.h"

#include <doctest/doctest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

using namespace sq;
using namespace sq::cpu;

namespace {

/// Runs the checks with every backend of this build and, for the own one, with every vector target of this CPU.
template <class Checks>
void for_each_backend(Checks&& checks) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    const GemmBackendGuard own(GemmBackend::own);
    const std::string backend = simd_name();
    CAPTURE(backend);
    checks();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  if (openblas().linked) {
    const GemmBackendGuard guard(GemmBackend::openblas);
    const std::string backend = "openblas";
    CAPTURE(backend);
    checks();
  }
}

struct Threads {
  explicit Threads(int count) : saved(thread_count()) { set_thread_count(count); }
  ~Threads() { set_thread_count(saved); }
  int saved;
};

/// Numbers in [-1, 1] that T represents exactly in few bits, so that half-width storage loses nothing.
template <class T>
std::vector<T> numbers(std::int64_t count, std::uint64_t seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<float>(philox(seed, 0, i)[0] % 129) / 64.0f - 1.0f);
  return values;
}

struct Case {
  std::int64_t m, n, k;
  Transpose transpose_a = Transpose::no, transpose_b = Transpose::no;
  double alpha = 1, beta = 0;
  bool bias = false;
  std::int64_t slack = 0;  // elements between the rows of each matrix
  GemmBatch batch = {}, outer = {};
};

constexpr float kSentinel = 12345.0f;

/// The matrices of a case, C filled with numbers (NaN when it must not be read) and sentinels between its rows.
template <class T, class A, class B>
struct Problem {
  explicit Problem(const Case& test) {
    arguments.m = test.m, arguments.n = test.n, arguments.k = test.k;
    arguments.transpose_a = test.transpose_a, arguments.transpose_b = test.transpose_b;
    arguments.alpha = static_cast<T>(test.alpha), arguments.beta = static_cast<T>(test.beta);
    const bool ta = test.transpose_a == Transpose::yes, tb = test.transpose_b == Transpose::yes;
    arguments.lda = (ta ? test.m : test.k) + test.slack;
    arguments.ldb = (tb ? test.k : test.n) + 2 * test.slack;
    arguments.ldc = test.n + 3 * test.slack;
    arguments.batch = test.batch, arguments.outer_batch = test.outer;
    const auto size = [&](std::int64_t rows, std::int64_t stride, auto member) {
      return rows * stride + (test.batch.count - 1) * test.batch.*member + (test.outer.count - 1) * test.outer.*member;
    };
    a = numbers<A>(size(ta ? test.k : test.m, arguments.lda, &GemmBatch::stride_a), 1);
    b = numbers<B>(size(tb ? test.n : test.k, arguments.ldb, &GemmBatch::stride_b), 2);
    bias = numbers<T>(test.n, 3);
    const std::vector<T> old = numbers<T>(size(test.m, arguments.ldc, &GemmBatch::stride_c), 4);
    c.assign(old.size() + 2 * kGuard, T(kSentinel));
    for_each_row([&](std::int64_t, std::int64_t, std::int64_t, std::int64_t at) {
      for (std::int64_t j = 0; j < test.n; ++j)
        c[kGuard + at + j] = test.beta == 0 ? std::numeric_limits<T>::quiet_NaN() : old[at + j];
    });
    before = c;
    arguments.a = a.data(), arguments.b = b.data(), arguments.c = c.data() + kGuard;
    arguments.bias = test.bias ? bias.data() : nullptr;
  }

  /// Calls row(outer, inner, i, offset in C).
  template <class Row>
  void for_each_row(Row&& row) const {
    const auto& g = arguments;
    for (std::int64_t o = 0; o < g.outer_batch.count; ++o)
      for (std::int64_t q = 0; q < g.batch.count; ++q)
        for (std::int64_t i = 0; i < g.m; ++i)
          row(o, q, i, o * g.outer_batch.stride_c + q * g.batch.stride_c + i * g.ldc);
  }

  /// C as the definition says, in f64; sentinels elsewhere.
  std::vector<double> expected() const {
    std::vector<double> result(before.begin(), before.end());
    const auto& g = arguments;
    for_each_row([&](std::int64_t o, std::int64_t q, std::int64_t i, std::int64_t at) {
      const A* pa = g.a + o * g.outer_batch.stride_a + q * g.batch.stride_a;
      const B* pb = g.b + o * g.outer_batch.stride_b + q * g.batch.stride_b;
      for (std::int64_t j = 0; j < g.n; ++j) {
        double sum = 0;
        for (std::int64_t p = 0; p < g.k; ++p)
          sum += static_cast<double>(g.transpose_a == Transpose::yes ? pa[p * g.lda + i] : pa[i * g.lda + p]) *
                 static_cast<double>(g.transpose_b == Transpose::yes ? pb[j * g.ldb + p] : pb[p * g.ldb + j]);
        double& value = result[kGuard + at + j];
        value = static_cast<double>(g.alpha) * sum + (g.beta == T(0) ? 0.0 : static_cast<double>(g.beta) * value);
        if (g.bias != nullptr) value += static_cast<double>(g.bias[j]);
      }
    });
    return result;
  }

  static constexpr std::int64_t kGuard = 64;
  GemmArguments<T, A, B> arguments;
  std::vector<A> a;
  std::vector<B> b;
  std::vector<T> bias, c, before;
};

/// The largest difference between C and its definition; infinite when anything around C has changed.
/// The rounding of a sum of k products of numbers up to 1 is at most about k·ε.
template <class T, class A = T, class B = T>
void check_case(const Case& test) {
  CAPTURE(test.m);
  CAPTURE(test.n);
  CAPTURE(test.k);
  CAPTURE(test.alpha);
  CAPTURE(test.beta);
  CAPTURE(test.slack);
  CAPTURE(test.transpose_a == Transpose::yes);
  CAPTURE(test.transpose_b == Transpose::yes);
  Problem<T, A, B> problem(test);
  const std::vector<double> expected = problem.expected();
  gemm(problem.arguments);
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(problem.c[i]) - expected[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
  }
  const double allowed = std::numeric_limits<T>::epsilon() * (2.0 + static_cast<double>(test.k));
  CHECK(worst <= allowed);
}

constexpr Transpose kNo = Transpose::no, kYes = Transpose::yes;

}  // namespace

TEST_CASE("a product of edge sizes equals its definition") {
  for_each_backend([] {
    const std::int64_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65};
    std::uint64_t draw = 0;
    for (const std::int64_t m : sizes)
      for (const std::int64_t n : sizes) {  // every m with every n; k, transposes and factors are drawn
        const auto random = philox(5, 0, draw++);
        Case test{m, n, sizes[random[0] % 15]};
        test.transpose_a = random[1] % 2 == 0 ? kNo : kYes;
        test.transpose_b = random[1] % 4 < 2 ? kNo : kYes;
        test.beta = std::vector<double>{0, 1, 0.5}[random[2] % 3];
        test.alpha = random[2] % 5 == 0 ? -0.75 : 1.0;
        test.bias = random[3] % 2 == 0;
        test.slack = random[3] % 3;
        check_case<float>(test);
        check_case<double>(test);
      }
  });
}

TEST_CASE("larger products, all transposes, several blocks in every direction") {
  for_each_backend([] {
    for (const Transpose ta : {kNo, kYes})
      for (const Transpose tb : {kNo, kYes}) {
        check_case<float>({.m = 211, .n = 307, .k = 293, .transpose_a = ta, .transpose_b = tb, .bias = true});
        check_case<float>({.m = 128, .n = 96, .k = 769, .transpose_a = ta, .transpose_b = tb, .beta = 1, .slack = 5});
        check_case<float>({.m = 1031, .n = 37, .k = 65, .transpose_a = ta, .transpose_b = tb, .beta = 0.5});
        check_case<float>({.m = 256, .n = 256, .k = 256, .transpose_a = ta, .transpose_b = tb});
        check_case<double>({.m = 101, .n = 103, .k = 523, .transpose_a = ta, .transpose_b = tb, .slack = 3});
      }
  });
}

TEST_CASE("few rows or columns: decoding and vectors") {
  for_each_backend([] {
    for (std::int64_t m = 1; m <= 9; ++m)
      for (const Transpose tb : {kNo, kYes})
        for (const Transpose ta : {kNo, kYes}) {
          check_case<float>({.m = m, .n = 2051, .k = 131, .transpose_a = ta, .transpose_b = tb, .bias = true});
          check_case<float>({.m = m, .n = 65, .k = 1037, .transpose_a = ta, .transpose_b = tb, .beta = 1, .slack = 1});
          check_case<double>({.m = m, .n = 133, .k = 301, .transpose_a = ta, .transpose_b = tb, .beta = 0.5});
          check_case<float>(
              {.m = 333, .n = m, .k = 77, .transpose_a = ta, .transpose_b = tb, .bias = true, .slack = 2});
        }
  });
}

TEST_CASE("16-bit operands are widened exactly") {
  for_each_backend([] {
    for (const Transpose ta : {kNo, kYes})
      for (const Transpose tb : {kNo, kYes})
        for (const std::int64_t m : {1, 5, 70}) {
          const Case test{.m = m, .n = 45, .k = 83, .transpose_a = ta, .transpose_b = tb, .bias = true, .slack = 1};
          check_case<float, float, bf16>(test);
          check_case<float, float, f16>(test);
          check_case<float, bf16, float>(test);
          check_case<float, f16, float>(test);
          check_case<float, bf16, bf16>(test);
          check_case<float, f16, f16>(test);
        }
  });
}

TEST_CASE("batches") {
  for_each_backend([] {
    for (const Transpose tb : {kNo, kYes}) {
      Case test{.m = 20, .n = 18, .k = 13, .transpose_b = tb, .beta = 0.5, .bias = true};
      test.batch = {.count = 5, .stride_a = 260, .stride_b = 234, .stride_c = 360};
      check_case<float>(test);
      test.batch.stride_b = 0;  // one B for all, the rows of A and C in sequence
      check_case<float>(test);
      test.batch.stride_a = 0;
      check_case<float>(test);
      test.batch = {.count = 3, .stride_a = 300, .stride_b = 0, .stride_c = 400};
      test.outer = {.count = 2, .stride_a = 1000, .stride_b = 300, .stride_c = 1500};
      check_case<float>(test);
      check_case<double>(test);
    }
    // Heads interleaved in the rows, as attention has them: [T, H, D] with H = 4, D = 8.
    Case heads{.m = 11, .n = 11, .k = 8, .transpose_b = kYes, .slack = 24};
    heads.batch = {.count = 4, .stride_a = 8, .stride_b = 8, .stride_c = 1000};
    check_case<float>(heads);
  });
}

TEST_CASE("nothing to sum leaves C scaled, and reads neither A nor B") {
  for_each_backend([] {
    for (const double beta : {0.0, 1.0, 0.5}) {
      check_case<float>({.m = 7, .n = 9, .k = 0, .beta = beta, .bias = true});
      check_case<float>({.m = 7, .n = 9, .k = 0, .beta = beta, .slack = 2});
    }
    check_case<float>({.m = 0, .n = 9, .k = 4});
    check_case<float>({.m = 9, .n = 0, .k = 4});
    check_case<float>({.m = 3, .n = 3, .k = 3, .batch = {.count = 0}});
    Problem<float, float, float> problem({.m = 5, .n = 6, .k = 3, .alpha = 0, .beta = 0.5});
    problem.a.assign(problem.a.size(), std::numeric_limits<float>::quiet_NaN());
    gemm(problem.arguments);
    for (std::int64_t i = 64; i < 64 + 30; ++i) CHECK(problem.c[i] == 0.5f * problem.before[i]);
  });
}

TEST_CASE("NaN and infinity reach the elements that contain them, and no others") {
  for_each_backend([] {
    for (const std::array<std::int64_t, 3>& size :
         std::vector<std::array<std::int64_t, 3>>{{3, 40, 50}, {50, 70, 40}, {40, 1, 30}, {130, 140, 270}})
      for (const Transpose tb : {kNo, kYes}) {
        const std::int64_t m = size[0], n = size[1], k = size[2];
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        Problem<float, float, float> problem({.m = m, .n = n, .k = k, .transpose_b = tb});
        const float infinity = std::numeric_limits<float>::infinity();
        for (float& b : problem.b) b = 1.0f;
        problem.a[1 * k + 3] = infinity;
        problem.a[2 * k + k - 1] = std::numeric_limits<float>::quiet_NaN();
        gemm(problem.arguments);
        bool others_finite = true, first = true, second = true;
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            const float value = problem.arguments.c[i * n + j];
            if (i == 1)
              first = first && value == infinity;
            else if (i == 2)
              second = second && std::isnan(value);
            else
              others_finite = others_finite && std::isfinite(value);
          }
        CHECK(first);
        CHECK(second);
        CHECK(others_finite);
      }
  });
}

TEST_CASE("the bits do not depend on the number of threads") {
  for_each_backend([] {
    std::vector<Case> cases = {{.m = 500, .n = 300, .k = 300},
                               {.m = 1, .n = 1500, .k = 700},
                               {.m = 1, .n = 1500, .k = 700, .transpose_b = kYes},
                               {.m = 5, .n = 900, .k = 1300},
                               {.m = 48, .n = 40, .k = 9000, .transpose_a = kYes},
                               {.m = 2000, .n = 1, .k = 300},
                               {.m = 64, .n = 64, .k = 32, .transpose_b = kYes}};
    cases.back().batch = {.count = 24, .stride_a = 2048, .stride_b = 2048, .stride_c = 4096};
    for (const Case& test : cases) {
      CAPTURE(test.m);
      CAPTURE(test.n);
      CAPTURE(test.k);
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 3}) {
        const Threads setting(threads);
        Problem<float, float, float> problem(test);
        gemm(problem.arguments);
        results.push_back(problem.c);
      }
      const std::size_t bytes = results[0].size() * sizeof(float);
      CHECK(std::memcmp(results[0].data(), results[1].data(), bytes) == 0);
      CHECK(std::memcmp(results[0].data(), results[2].data(), bytes) == 0);
    }
  });
}

TEST_CASE("a product inside a parallel loop runs on its thread and gives the same bits") {
  Problem<float, float, float> reference({.m = 150, .n = 150, .k = 150});
  gemm(reference.arguments);
  std::vector<Problem<float, float, float>> problems(4, Problem<float, float, float>({.m = 150, .n = 150, .k = 150}));
  parallel_for(4, 1, [&](std::int64_t i, std::int64_t) {
    auto g = problems[i].arguments;
    g.a = problems[i].a.data(), g.b = problems[i].b.data(), g.c = problems[i].c.data() + 64;
    gemm(g);
  });
  const std::size_t bytes = reference.c.size() * sizeof(float);
  for (const auto& problem : problems) CHECK(std::memcmp(problem.c.data(), reference.c.data(), bytes) == 0);
}

TEST_CASE("arguments that make no sense are refused") {
  Problem<float, float, float> problem({.m = 4, .n = 5, .k = 6});
  auto g = problem.arguments;
  g.m = -1;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: the extents m -1, n 5, k 6 must not be negative", Error);
  g = problem.arguments, g.lda = 5;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: the row stride of A is 5, but its rows have 6 elements", Error);
  g = problem.arguments, g.ldb = 4;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: the row stride of B is 4, but its rows have 5 elements", Error);
  g = problem.arguments, g.ldc = 4;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: the row stride of C is 4, but its rows have 5 elements", Error);
  g = problem.arguments, g.batch.count = 2;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: 2 products would be written to the same C", Error);
  g = problem.arguments, g.outer_batch.count = -2;
  CHECK_THROWS_WITH_AS(gemm(g), "gemm: a batch of -2 matrices is not possible", Error);
}
