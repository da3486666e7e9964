#include "ops/elementwise.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

using Function = std::function<double(double)>;
using Operation = std::function<Tensor(const Tensor&)>;
struct Named {
  const char* name;
  Operation operation;
  Function reference;
};

double normal(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double log_one_plus_exp(double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::abs(x))); }

const std::vector<Named>& unary_functions() {
  static const std::vector<Named> list{
      {"exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }},
      {"log", [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }},
      {"sqrt", [](const Tensor& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }},
      {"tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }},
      {"sigmoid", [](const Tensor& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"silu", [](const Tensor& x) { return silu(x); }, [](double x) { return x / (1 + std::exp(-x)); }},
      {"relu", [](const Tensor& x) { return relu(x); }, [](double x) { return std::isnan(x) || x > 0 ? x : 0; }},
      {"elu_plus_one", [](const Tensor& x) { return elu_plus_one(x); },
       [](double x) { return x > 0 ? 1 + x : std::exp(x); }},
      {"softplus", [](const Tensor& x) { return softplus(x); }, log_one_plus_exp},
      {"log_sigmoid", [](const Tensor& x) { return log_sigmoid(x); }, [](double x) { return -log_one_plus_exp(-x); }},
      {"gelu", [](const Tensor& x) { return gelu(x); }, [](double x) { return x * normal(x); }},
      {"gelu tanh", [](const Tensor& x) { return gelu(x, Gelu::tanh); },
       [](double x) {  // x/2·(1 + tanh u), with 1 + tanh u = 2 / (1 + e^-2u) to keep the tail's digits
         return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
       }},
      {"neg", [](const Tensor& x) { return neg(x); }, [](double x) { return -x; }},
      {"x + c", [](const Tensor& x) { return x + 1.5; }, [](double x) { return x + 1.5; }},
      {"c + x", [](const Tensor& x) { return 1.5 + x; }, [](double x) { return x + 1.5; }},
      {"x - c", [](const Tensor& x) { return x - 1.5; }, [](double x) { return x - 1.5; }},
      {"c - x", [](const Tensor& x) { return 1.5 - x; }, [](double x) { return 1.5 - x; }},
      {"c x", [](const Tensor& x) { return -2.5 * x; }, [](double x) { return -2.5 * x; }},
      {"x / c", [](const Tensor& x) { return x / 3; }, [](double x) { return x / 3; }},
      {"c / x", [](const Tensor& x) { return 3 / x; }, [](double x) { return 3 / x; }},
      {"max(x, c)", [](const Tensor& x) { return maximum(x, 0.25); },
       [](double x) { return std::isnan(x) || x > 0.25 ? x : 0.25; }},
      {"x^2", [](const Tensor& x) { return pow(x, 2); }, [](double x) { return x * x; }},
      {"x^3", [](const Tensor& x) { return pow(x, 3); }, [](double x) { return x * x * x; }},
      {"x^-1", [](const Tensor& x) { return pow(x, -1); }, [](double x) { return 1 / x; }},
      {"x^1/2", [](const Tensor& x) { return pow(x, 0.5); }, [](double x) { return std::sqrt(x); }},
      {"x^-1/2", [](const Tensor& x) { return pow(x, -0.5); }, [](double x) { return 1 / std::sqrt(x); }},
      {"x^1.7", [](const Tensor& x) { return pow(x, 1.7); }, [](double x) { return std::pow(x, 1.7); }},
      {"x^0", [](const Tensor& x) { return pow(x, 0); }, [](double) { return 1.0; }},
  };
  return list;
}

bool needs_positive(const std::string& name) {
  return name == "log" || name == "sqrt" || name == "x^1/2" || name == "x^-1/2" || name == "x^1.7" || name == "c / x" ||
         name == "x^-1";
}

Tensor mapped(const Function& f, const Tensor& x) {
  std::vector<double> values = x.to_vector<double>();
  for (double& value : values) value = f(value);
  return Tensor::from(values, x.shape());
}

/// Largest error relative to each single value (below `floor` relative to that).
double worst_ulp(const Tensor& y, const Tensor& wanted, double epsilon, double floor) {
  const std::vector<double> a = y.to_vector<double>(), b = wanted.to_vector<double>();
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), floor) / epsilon);
  }
  return worst;
}

}  // namespace

TEST_CASE("functions of one operand equal the standard library's in every dtype") {
  const Poison poison;
  default_generator() = Generator(3);  // numbers close to 0 have few digits in f16: none by chance
  for (const Named& f : unary_functions())
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
      for (const Shape& shape : {Shape{}, Shape{1}, Shape{0, 3}, Shape{3, 21}, Shape{257}, Shape{2, 17, 300}}) {
        CAPTURE(f.name);
        CAPTURE(to_string(shape));
        Tensor x = randn(shape, {.dtype = DType::f64});
        if (needs_positive(f.name)) x = x * x + 0.05;  // keeps 1/x within the range of f16
        x = cast(x, dtype);
        const Tensor y = f.operation(x);
        CHECK(y.dtype() == dtype);
        check_close(y, mapped(f.reference, x));
      }
}

TEST_CASE("each value of the exponential family is accurate to a few units in the last place") {
  // from deep in the underflow to past the overflow; below the smallest normal number kernels flush to zero
  const auto check = [](const char* name, double low, double high, double limit) {
    const auto& list = unary_functions();
    const auto& f =
        *std::find_if(list.begin(), list.end(), [&](const Named& n) { return n.name == std::string(name); });
    CAPTURE(name);
    for (const DType dtype : {DType::f32, DType::f64}) {
      Tensor x = Tensor::empty({60001}, {.dtype = dtype});
      fill_uniform_(x, low, high);
      const double epsilon = dtype == DType::f32 ? 0x1p-24 : 0x1p-53;
      const double smallest = dtype == DType::f32 ? 0x1p-126 : 0x1p-1022;
      const double error = worst_ulp(f.operation(x), cast(mapped(f.reference, x), dtype), epsilon, smallest / epsilon);
      INFO("error in halves of the last place: ", error);
      CHECK(error <= limit);
    }
  };
  check("exp", -120, 100, 4);
  check("exp", -1, 1, 4);
  check("log", 1e-9, 5, 5);
  check("log", 0, 1e6, 5);
  check("tanh", -20, 20, 8);
  check("tanh", -0.01, 0.01, 8);
  check("sigmoid", -80, 40, 8);
  check("silu", -80, 40, 8);
  check("elu_plus_one", -80, 40, 8);
  check("softplus", -80, 40, 8);
  check("softplus", -2, 2, 8);
  check("log_sigmoid", -40, 80, 8);
  check("gelu", -3, 8, 32);
  check("gelu tanh", -3, 8, 32);
}

TEST_CASE("gelu's relative error stays small far into the tail") {
  Tensor x = Tensor::empty({20001});
  fill_uniform_(x, -12, 12);
  const Tensor y = gelu(x), wanted = mapped([](double v) { return v * normal(v); }, x);
  CHECK(worst_ulp(y, wanted, 1, 1e-37) < 1e-5);  // the rounding of x²/2 shows in e^(-x²/2)
}

TEST_CASE("special values") {
  const double inf = INFINITY;
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = cast(Tensor::from<double>({NAN, inf, -inf, 0, -1024, 1024}, {6}), dtype);
    const auto check = [&](const Tensor& y, const std::vector<double>& wanted) {
      CHECK(relative_error(y, Tensor::from(wanted, {6})) == 0);
    };
    check(exp(x), {NAN, inf, 0, 1, 0, inf});
    check(tanh(x), {NAN, 1, -1, 0, -1, 1});
    check(sigmoid(x), {NAN, 1, 0, 0.5, 0, 1});
    check(relu(x), {NAN, inf, 0, 0, 0, 1024});
    check(gelu(slice(x, 0, 0, 6)), {NAN, inf, NAN, 0, 0, 1024});
    check(elu_plus_one(x), {NAN, inf, 0, 1, 0, 1025});
    check(relu(softplus(x) - 1), {NAN, inf, 0, 0, 0, 1023});
    check(relu(-log_sigmoid(x) - 1), {NAN, 0, inf, 0, 1023, 0});
    check(silu(x), {NAN, inf, NAN, 0, 0, 1024});
    check(sqrt(slice(x, 0, 0, 6)), {NAN, inf, NAN, 0, NAN, 32});
    const Tensor y = log(x);
    CHECK(std::isnan(select(y, 0, 0).item()));
    CHECK(select(y, 0, 1).item() == inf);
    CHECK(std::isnan(select(y, 0, 2).item()));
    CHECK(select(y, 0, 3).item() == -inf);
    CHECK(std::isnan(select(y, 0, 4).item()));
    // the maximum of anything and NaN is NaN, in either order
    const Tensor zero = Tensor::zeros({6}, {.dtype = dtype});
    check(maximum(x, zero), {NAN, inf, 0, 0, 0, 1024});
    check(maximum(zero, x), {NAN, inf, 0, 0, 0, 1024});
    check(maximum(x, 0), {NAN, inf, 0, 0, 0, 1024});
  }
}

TEST_CASE("two operands broadcast like NumPy's") {
  const Poison poison;
  const auto reference = [](const Tensor& a, const Tensor& b, const std::function<double(double, double)>& f) {
    const Shape shape = broadcast(a.shape(), b.shape(), "test");
    std::vector<double> x = expand(a, shape).to_vector<double>();
    const std::vector<double> y = expand(b, shape).to_vector<double>();
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = f(x[i], y[i]);
    return Tensor::from(x, shape);
  };
  const std::vector<std::pair<Shape, Shape>> pairs{{{5}, {5}},          {{3, 7}, {7}},          {{3, 7}, {3, 1}},
                                                   {{3, 1}, {1, 5}},    {{2, 1, 4}, {3, 1}},    {{}, {2, 2}},
                                                   {{0, 3}, {3}},       {{4, 300}, {4, 1}},     {{2, 3, 5}, {2, 3, 5}},
                                                   {{1, 1, 1}, {1, 1}}, {{3, 257, 2}, {257, 1}}};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& pair : pairs) {
      const Shape &first = pair.first, &second = pair.second;
      CAPTURE(to_string(first));
      CAPTURE(to_string(second));
      const Tensor a = cast(randn(first), dtype), b = cast(randn(second), dtype);
      check_close(a + b, reference(a, b, [](double x, double y) { return x + y; }));
      check_close(a - b, reference(a, b, [](double x, double y) { return x - y; }));
      check_close(a * b, reference(a, b, [](double x, double y) { return x * y; }));
      check_close(a / b, reference(a, b, [](double x, double y) { return x / y; }));
      check_close(maximum(a, b), reference(a, b, [](double x, double y) { return std::max(x, y); }));
      check_close(pow(a * a + 0.5, b), reference(a * a + 0.5, b, [](double x, double y) { return std::pow(x, y); }));
    }
}

TEST_CASE("strided operands give the bits of packed ones") {
  const Tensor x = randn({6, 20, 37}), z = randn({37, 20, 6});
  const Tensor moved = permute(z, {2, 1, 0}), thin = slice(x, 2, 1, 36, 3), wide = slice(z, 0, 1, 13);
  CHECK(bit_equal(add(x, moved), add(x, packed_copy(moved))));
  CHECK(bit_equal(exp(thin), exp(packed_copy(thin))));
  CHECK(bit_equal(mul(permute(wide, {2, 1, 0}), thin), mul(packed_copy(permute(wide, {2, 1, 0})), packed_copy(thin))));
  // a value does not depend on where it stands
  CHECK(bit_equal(select(exp(x), 2, 36), exp(select(x, 2, 36))));
}

TEST_CASE("gradients of functions of one operand") {
  for (const Named& f : unary_functions()) {
    CAPTURE(f.name);
    const bool positive = needs_positive(f.name);
    check_gradients(
        [&](const std::vector<Tensor>& in) { return f.operation(positive ? add(mul(in[0], in[0]), 0.1) : in[0]); },
        {variable({3, 11}, 3)});
    check_gradients(
        [&](const std::vector<Tensor>& in) {
          const Tensor view = transpose(in[0], 0, 1);
          return f.operation(positive ? add(mul(view, view), 0.1) : view);
        },
        {variable({2, 3}, 5)});
  }
}

TEST_CASE("gradients of functions of two operands, broadcasting included") {
  using Pair = std::function<Tensor(const Tensor&, const Tensor&)>;
  const std::vector<Pair> pairs{[](const Tensor& a, const Tensor& b) { return a + b; },
                                [](const Tensor& a, const Tensor& b) { return a - b; },
                                [](const Tensor& a, const Tensor& b) { return a * b; },
                                [](const Tensor& a, const Tensor& b) { return a / (b * b + 0.5); },
                                [](const Tensor& a, const Tensor& b) { return maximum(a, b); },
                                [](const Tensor& a, const Tensor& b) { return pow(a * a + 0.2, b); },
                                [](const Tensor& a, const Tensor& b) {
                                  return where(Tensor::from<std::uint8_t>({1, 0, 1}, {3}), a, b);
                                }};
  for (const Pair& f : pairs)
    for (const auto& [first, second] : std::vector<std::pair<Shape, Shape>>{
             {{2, 3}, {2, 3}}, {{4, 3}, {3}}, {{2, 1}, {1, 3}}, {{}, {2, 3}}, {{2, 4, 3}, {4, 1}}, {{0, 3}, {1, 3}}})
      check_gradients([&](const std::vector<Tensor>& in) { return f(in[0], in[1]); },
                      {variable(first, 1), variable(second, 2)});
}

TEST_CASE("gradients where a function has a corner") {
  const Tensor a = Tensor::from<float>({1, 2, 0}, {3}), b = Tensor::from<float>({1, 1, 3}, {3});
  set_requires_grad(a);
  set_requires_grad(b);
  const Tensor dy = Tensor::from<float>({1, 1, 1}, {3});
  backward(maximum(a, b), dy);
  CHECK(grad(a).to_vector<float>() == std::vector<float>{0.5f, 1, 0});
  CHECK(grad(b).to_vector<float>() == std::vector<float>{0.5f, 0, 1});
  set_grad(a, Tensor());
  backward(pow(a, 0), dy);
  CHECK(grad(a).to_vector<float>() == std::vector<float>{0, 0, 0});
  set_grad(a, Tensor());
  backward(relu(a), dy);
  CHECK(grad(a).to_vector<float>() == std::vector<float>{1, 1, 0});
  // 0^b: the slope in b is 0 for b >= 0
  const Tensor zero = Tensor::zeros({2}), power = Tensor::from<float>({0, 2}, {2});
  set_requires_grad(power);
  backward(pow(zero, power), Tensor::ones({2}));
  CHECK(grad(power).to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("where takes either side and keeps the other's NaN away") {
  const Tensor condition = Tensor::from<std::uint8_t>({1, 0, 2, 0}, {2, 2});
  const Tensor a = Tensor::from<float>({1, NAN}, {2}), b = Tensor::from<float>({NAN, 4}, {2});
  CHECK(where(condition, a, b).to_vector<float>() == std::vector<float>{1, 4, 1, 4});
  CHECK(where(condition, cast(a, DType::bf16), cast(b, DType::bf16)).dtype() == DType::bf16);
  const Tensor column = where(transpose(condition, 0, 1), Tensor::full({}, 1), Tensor::full({}, 2));
  CHECK(column.to_vector<float>() == std::vector<float>{1, 1, 2, 2});
  set_requires_grad(a);
  backward(where(condition, a, b), Tensor::from<float>({1, 2, 3, 4}, {2, 2}));
  CHECK(grad(a).to_vector<float>() == std::vector<float>{4, 0});
}

TEST_CASE("elementwise results have the same bits for any thread count") {
  const Tensor a = randn({70, 1000}), b = randn({1000});
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    const Tensor bias = packed_copy(b);
    set_requires_grad(bias);
    const Tensor y = gelu(a * bias);
    backward(y, a);
    results.push_back(y);
    results.push_back(grad(bias));
  }
  cpu::set_thread_count(threads);
  for (std::size_t i = 2; i < results.size(); ++i) CHECK(bit_equal(results[i], results[i % 2]));
}

TEST_CASE("elementwise operations say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(add(x, Tensor::zeros({2})), "add: shapes [2,3] and [2] do not broadcast: extents 3 and 2 differ",
                       Error);
  CHECK_THROWS_WITH_AS(mul(x, Tensor::zeros({3}, {.dtype = DType::f64})),
                       "mul: f32[2,3]@cpu and f64[3]@cpu differ in dtype or device; cast or move one of them", Error);
  CHECK_THROWS_WITH_AS(exp(Tensor::arange(3)), "exp: dtype i64 is not supported; use f32 or f64", Error);
  CHECK_THROWS_WITH_AS(where(x, x, x), "where: the condition f32[2,3]@cpu must be u8 on the device of f32[2,3]@cpu",
                       Error);
}
