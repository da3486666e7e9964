// subquad profile: where the time of a training step, or of decoding, goes.
#include "tensor/cpu/threads.h"
#include "tensor/file.h"
#include "tensor/profile_report.h"
#include "tools/bench_model.h"
#include "tools/profile_floors.h"

namespace sq::cli {
namespace {

constexpr std::int64_t kWarmup = 2;  // steps before the profiled ones: memory is found, plans are made

struct Options : BenchModelOptions {
  std::int64_t context = 0;
  std::int64_t steps = 10;
  bool decode = false;
  bool floors = false;
  std::string trace;
};

/// Milliseconds of one step.
struct Scale {
  double steps;
  double ms(double seconds) const { return seconds * 1e3 / steps; }
};

std::string rate(double work, double seconds) {
  return work < 0 || seconds <= 0 ? "-" : fmt::format("{:.1f}", work / seconds * 1e-9);
}

Json rate_json(double work, double seconds) {
  return work < 0 || seconds <= 0 ? Json(nullptr) : Json(work / seconds * 1e-9);
}

void print_table(const ProfileReport& report, const Scale& scale) {
  const double total = report.seconds(), kernels = report.kernel_seconds();
  fmt::print("{:<10} {:<28} {:>8} {:>10} {:>7} {:>9} {:>8}\n", "phase", "kernel", "calls", "ms", "share", "GFLOP/s",
             "GB/s");
  for (const KernelTotal& k : report.kernels)
    fmt::print("{:<10} {:<28} {:>8.0f} {:>10.3f} {:>6.1f}% {:>9} {:>8}\n", k.phase, k.name,
               static_cast<double>(k.calls) / scale.steps, scale.ms(k.seconds), 100 * k.seconds / total,
               rate(k.work.flops, k.seconds), rate(k.work.bytes, k.seconds));
  for (const PhaseTotal& p : report.phases)
    fmt::print("{:<10} {:<28} {:>8} {:>10.3f} {:>6.1f}%\n", p.name, "outside kernels", "",
               scale.ms(p.seconds - p.kernel_seconds), 100 * (p.seconds - p.kernel_seconds) / total);
  fmt::print(
      "a step: {:.3f} ms, {:.1f}% inside kernels; outside {:.3f} ms, {:.2f} µs for each of {:.0f} kernel calls\n",
      scale.ms(total), 100 * kernels / total, scale.ms(total - kernels),
      (total - kernels) * 1e6 / static_cast<double>(std::max<std::int64_t>(1, report.kernel_calls())),
      static_cast<double>(report.kernel_calls()) / scale.steps);
}

Json report_json(const ProfileReport& report, const Scale& scale) {
  const double total = report.seconds(), kernels = report.kernel_seconds();
  const auto calls = static_cast<double>(std::max<std::int64_t>(1, report.kernel_calls()));
  Json result{{"ms", scale.ms(total)},
              {"kernel_ms", scale.ms(kernels)},
              {"kernel_share", kernels / total},
              {"kernel_calls", static_cast<double>(report.kernel_calls()) / scale.steps},
              {"outside_us_per_call", (total - kernels) * 1e6 / calls}};
  result["phases"] = Json::array();
  for (const PhaseTotal& p : report.phases)
    result["phases"].push_back(
        {{"phase", p.name}, {"ms", scale.ms(p.seconds)}, {"kernel_ms", scale.ms(p.kernel_seconds)}});
  result["kernels"] = Json::array();
  for (const KernelTotal& k : report.kernels)
    result["kernels"].push_back({{"phase", k.phase},
                                 {"kernel", k.name},
                                 {"calls", static_cast<double>(k.calls) / scale.steps},
                                 {"ms", scale.ms(k.seconds)},
                                 {"share", k.seconds / total},
                                 {"gflops", rate_json(k.work.flops, k.seconds)},
                                 {"gbytes_per_s", rate_json(k.work.bytes, k.seconds)}});
  return result;
}

/// What was profiled.
Json header(const Options& o, std::int64_t batch, std::int64_t context) {
  return {{"work", o.decode ? "profile_decode" : "profile_train_step"},
          {"preset", o.preset},
          {"batch", batch},
          {"context", context},
          {"steps", o.steps},
          {"threads", cpu::thread_count()}};
}

void show(const Options& o, const Profiler& profiler, std::int64_t batch, std::int64_t context) {
  const ProfileReport report = summarise(profiler);
  const Scale scale{static_cast<double>(o.steps)};
  if (!o.trace.empty()) replace_file(o.trace, chrome_trace(profiler));
  if (!o.bench.common.json) return print_table(report, scale);
  Json result = header(o, batch, context);
  result.update(report_json(report, scale));
  print_line(result);
}

/// Steps one by one, each between two measurements of the ceilings.
template <class Step>
void profile_floors(const Options& o, std::int64_t batch, std::int64_t context, const Step& step) {
  FloorTable table;
  table.measure_ceilings();
  for (std::int64_t n = 0; n < o.steps; ++n) {
    {
      const Profiler profiler;
      step();
      table.add_step(profiler);
    }
    table.measure_ceilings();
  }
  if (!o.bench.common.json) return table.print();
  Json result = header(o, batch, context);
  result["ceilings"] = table.ceilings();
  result["kernels"] = table.kernels();
  print_line(result);
}

/// Runs `step` a few times unwatched, then under a profiler.
template <class Step>
void profile(const Options& o, std::int64_t batch, std::int64_t context, const Step& step) {
  for (std::int64_t n = 0; n < kWarmup; ++n) step();
  if (o.floors) return profile_floors(o, batch, context, step);
  const Profiler profiler;
  for (std::int64_t n = 0; n < o.steps; ++n) step();
  show(o, profiler, batch, context);
}

void run(const Options& o) {
  require_input(!o.floors || default_device().is_cpu(), "--floors", "is measured on the CPU only, not on {}",
                name(default_device()));
  require_input(!o.floors || o.trace.empty(), "--trace", "is of no use with --floors; leave one of them out");
  require_input(o.steps >= 1, "--steps", "{} is not a number of steps; use 1 or more", o.steps);
  const auto folder = std::filesystem::path(o.trace).parent_path();
  require_input(folder.empty() || std::filesystem::is_directory(folder), "--trace", "there is no folder '{}'",
                folder.string());
  if (o.decode) {
    require_input(o.context >= 0, "--context", "{} is not possible; use 1 or more", o.context);
    const std::int64_t prompt = std::max<std::int64_t>(1, o.context);
    DecodingBench decoding("profile", o, prompt, kWarmup + o.steps);
    decoding.start_again();
    profile(o, decoding.batch, prompt, [&] { decoding.step(); });
  } else {
    TrainingBench training(o, o.context);
    profile(o, training.batch, training.context, [&] { training.step(); });
  }
}

}  // namespace

void add_profile(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("profile", "where the time of a training step, or of decoding, goes");
  add_model_flags(*command, *o);
  command->add_option("--context", o->context,
                      "tokens of a sequence, 0 = the preset's; with --decode, tokens read before (1 or more)");
  command->add_option("--steps", o->steps, "steps (with --decode, tokens) that are watched, after two that are not")
      ->capture_default_str();
  command->add_flag("--decode", o->decode, "writing tokens one by one instead of training");
  command->add_flag(
      "--floors", o->floors,
      "each kernel against the least time the machine allows; the ceilings are measured around each step");
  command->add_option("--trace", o->trace, "also write every span into this file, for https://ui.perfetto.dev");
  add_common(*command, o->bench.common);
  command->callback([o, command] {
    o->bench.common.apply(*command);
    run(*o);
  });
}

}  // namespace sq::cli
