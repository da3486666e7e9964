#include "tensor/memory.h"
#include "tensor/profile_report.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <thread>

using namespace sq;

namespace {

/// Two phases with copies inside, an operation's backward in the second, and a copy in no phase.
void work_of_two_phases() {
  {
    const ProfileSpan phase(SpanKind::phase, "first");
    Tensor x = Tensor::zeros({1000});
    copy_(x, Tensor::ones({1000}, {.dtype = DType::f64}));
  }
  {
    const ProfileSpan phase(SpanKind::phase, "second");
    const ProfileSpan node(SpanKind::node, "some_op");
    const Tensor x = Tensor::zeros({10}), y = Tensor::zeros({10});
  }
  Tensor::zeros({5});
}

const KernelTotal& find(const ProfileReport& report, std::string_view phase, std::string_view name) {
  for (const KernelTotal& kernel : report.kernels)
    if (kernel.phase == phase && kernel.name == name) return kernel;
  FAIL(fmt::format("no kernel {} in {}", name, phase));
  std::abort();
}

}  // namespace

TEST_CASE("a report counts the kernels of each phase and leaves out the rest") {
  const Profiler profiler;
  work_of_two_phases();
  const ProfileReport report = summarise(profiler);
  REQUIRE(report.phases.size() == 2);
  REQUIRE(report.kernels.size() == 3);
  CHECK(report.kernel_calls() == 5);
  CHECK(find(report, "first", "fill").calls == 2);
  CHECK(find(report, "first", "fill").work.bytes == 1000 * 4 + 1000 * 8);
  CHECK(find(report, "first", "copy").work.bytes == 1000 * (4 + 8));
  CHECK(find(report, "first", "copy").work.flops == Work::kUnknown);
  CHECK(find(report, "second", "fill").calls == 2);
}

TEST_CASE("kernels take no more time than their phase, and the sums agree") {
  const Profiler profiler;
  for (int i = 0; i < 20; ++i) work_of_two_phases();
  const ProfileReport report = summarise(profiler);
  double kernels = 0, phases = 0;
  for (const PhaseTotal& phase : report.phases) {
    double inside = 0;
    for (const KernelTotal& kernel : report.kernels)
      if (kernel.phase == phase.name) inside += kernel.seconds;
    CHECK(inside == doctest::Approx(phase.kernel_seconds));
    CHECK(inside <= phase.seconds);
    kernels += inside;
    phases += phase.seconds;
  }
  CHECK(kernels == doctest::Approx(report.kernel_seconds()));
  CHECK(phases == doctest::Approx(report.seconds()));
}

TEST_CASE("a kernel inside a kernel and a phase inside a phase belong to the outer one") {
  const Profiler profiler;
  {
    const ProfileSpan outer_phase(SpanKind::phase, "outer");
    const ProfileSpan inner_phase(SpanKind::phase, "inner");
    const KernelSpan kernel("whole", [] { return Work{.flops = 1, .bytes = 2}; });
    Tensor::zeros({5});
  }
  const ProfileReport report = summarise(profiler);
  REQUIRE(report.kernels.size() == 1);
  CHECK(report.kernels[0].name == "whole");
  CHECK(report.kernels[0].phase == "outer");
  CHECK(report.phases.size() == 1);
}

TEST_CASE("work that is unknown once is unknown in the sum") {
  const Profiler profiler;
  const ProfileSpan phase(SpanKind::phase, "p");
  for (const double flops : {1.0, Work::kUnknown, 2.0})
    const KernelSpan kernel("k", [flops] { return Work{.flops = flops, .bytes = 4}; });
  CHECK(summarise(profiler).kernels.at(0).work.flops == Work::kUnknown);
  CHECK(summarise(profiler).kernels.at(0).work.bytes == 12);
}

TEST_CASE("nothing is recorded, and no work counted, without a profiler") {
  CHECK(Profiler::current() == nullptr);
  bool asked = false;
  {
    const KernelSpan kernel("k", [&] {
      asked = true;
      return Work{};
    });
  }
  CHECK_FALSE(asked);
  Profiler profiler;
  CHECK(Profiler::current() == &profiler);
  std::thread([] { work_of_two_phases(); }).join();  // another thread is not watched
  CHECK(profiler.events().empty());
  {
    const Profiler younger;
    work_of_two_phases();
    CHECK_FALSE(younger.events().empty());
  }
  CHECK(profiler.events().empty());
  work_of_two_phases();
  CHECK_FALSE(profiler.events().empty());
  profiler.clear();
  CHECK(profiler.events().empty());
}

TEST_CASE("a span ends when an exception leaves it") {
  Profiler profiler;
  try {
    const ProfileSpan phase(SpanKind::phase, "p");
    const KernelSpan kernel("k", [] { return Work{}; });
    throw Error("out");
  } catch (const Error&) {
  }
  CHECK(profiler.events().size() == 2);
  profiler.clear();
  work_of_two_phases();
  CHECK(summarise(profiler).phases.size() == 2);
}

TEST_CASE("the trace is JSON whose spans lie inside one another") {
  const Profiler profiler;
  work_of_two_phases();
  const auto trace = nlohmann::json::parse(chrome_trace(profiler));
  struct Span {
    double begin, end;
  };
  std::vector<Span> spans;
  std::size_t inside = 0;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M") continue;
    REQUIRE(event.at("ph") == "X");
    CHECK(event.at("name").get<std::string>() != "");
    const double begin = event.at("ts"), length = event.at("dur");
    CHECK(begin >= 0);
    CHECK(length >= 0);
    spans.push_back({begin, begin + length});
  }
  CHECK(spans.size() == profiler.events().size());
  constexpr double kRounding = 1e-6;  // of sums of microseconds
  for (std::size_t i = 0; i < spans.size(); ++i)
    for (std::size_t j = i + 1; j < spans.size(); ++j) {
      const Span &a = spans[i], &b = spans[j];  // a ended first
      const bool apart = a.end <= b.begin + kRounding, within = a.begin >= b.begin - kRounding;
      CHECK((apart || within));
      inside += within && !apart ? 1 : 0;
    }
  CHECK(inside == 8);  // three kernels in the first phase; in the second a node, and two kernels in both
}
