// subquad bench attention: the attention core on given q, k, v, or (--whole) a mixer with its projections.
#include "autograd/engine.h"
#include "nn/mixers/mixer.h"
#include "nn/mixers/registry.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tools/bench.h"
#include "tools/bench_cores.h"

#include <algorithm>
#include <cmath>

namespace sq::cli {
namespace {

struct Options {
  BenchOptions bench;
  std::string mixer = "halo_s";
  std::vector<std::int64_t> lengths{256, 1024, 4096};
  std::int64_t heads = 8, kv_heads = 0, dim = 64, batch = 1;
  bool causal = true, whole = false;
  std::vector<std::string> settings;
};

Json mixer_options(const Options& o) {
  Json options = Json::object();
  for (const std::string& setting : o.settings) apply_override(options, setting);
  return options;
}

/// A few outputs against the definition, in f64.
void check_core(const Core& core, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
  const std::int64_t group = q.size(1) / k.size(1);
  for (std::uint64_t sample = 0; sample < 8; ++sample) {
    const auto h = static_cast<std::int64_t>(random_below(1, 0, sample, static_cast<std::uint64_t>(q.size(1))));
    const auto t = static_cast<std::int64_t>(random_below(1, 1, sample, static_cast<std::uint64_t>(core.checkable)));
    const HeadRows64 got(out, h);
    const std::vector<double> want =
        core.expect(HeadRows64(q, h), HeadRows64(k, h / group), HeadRows64(v, h / group), t);
    double largest = 1;
    for (const double value : want) largest = std::max(largest, std::abs(value));
    for (std::size_t c = 0; c < want.size(); ++c)
      require(std::abs(got.row(t)[c] - want[c]) <= 2e-2 * largest, "bench attention",
              "head {} row {} feature {} is {} instead of {}", h, t, c, got.row(t)[c], want[c]);
  }
}

void clear(std::initializer_list<Tensor> leaves) {
  for (const Tensor& leaf : leaves) set_grad(leaf, Tensor());
}

/// The bytes of `tensors`, read or written once.
double bytes_of(std::initializer_list<Tensor> tensors) {
  double total = 0;
  for (const Tensor& t : tensors) total += static_cast<double>(t.numel() * item_size(t.dtype()));
  return total;
}

void time_both_ways(const Options& o, const std::function<Tensor()>& forward, std::initializer_list<Tensor> leaves,
                    double flops, double bytes, const Json& sizes) {
  const Timing alone = measure(o.bench, [&] {
    const NoGrad unrecorded;
    forward();
  });
  print_result(o.bench, bench_result(o.bench, "attention_forward", alone, {.flops = flops, .bytes = bytes}, sizes));
  const Tensor seed = Tensor::ones(forward().shape(), o.bench.common.options());
  clear(leaves);
  reset_peak_memory(default_device());
  const std::size_t before = memory_statistics(default_device()).in_use;
  const Timing both = measure(o.bench, [&] {
    clear(leaves);
    backward(forward(), seed);
  });
  Json with_memory = sizes;
  with_memory["peak_bytes"] = memory_statistics(default_device()).peak - before;
  // Backward takes 2.5 times the products of forward: scores again, and two more each for q·k and weights·v.
  print_result(o.bench, bench_result(o.bench, "attention_forward_backward", both,
                                     {.flops = 3.5 * flops, .bytes = 3 * bytes}, with_memory));
}

void bench_core(const Options& o, std::int64_t n) {
  const std::int64_t kv_heads = o.kv_heads == 0 ? o.heads : o.kv_heads;
  const TensorOptions options = o.bench.common.options();
  const auto make = [&](std::int64_t heads) {
    const Tensor leaf = randn({o.batch, heads, n, o.dim}, options);
    set_requires_grad(leaf);
    return leaf;
  };
  const Tensor q = make(o.heads), k = make(kv_heads), v = make(kv_heads);
  const Core core = make_core(o.mixer, mixer_options(o), {.positions = n, .width = o.dim, .causal = o.causal});
  const Tensor out = core.run(q, k, v);
  check_core(core, q, k, v, detach(out));
  const double flops = core.flops * static_cast<double>(o.batch * o.heads);
  const Json sizes{{"mixer", o.mixer}, {"n", n},           {"heads", o.heads},   {"kv_heads", kv_heads},
                   {"dim", o.dim},     {"batch", o.batch}, {"causal", o.causal}, {"dtype", name(q.dtype())}};
  time_both_ways(
      o, [&] { return core.run(q, k, v); }, {q, k, v}, flops, bytes_of({q, k, v, out}), sizes);
}

void bench_whole(const Options& o, std::int64_t n) {
  const TensorOptions options = o.bench.common.options();
  Json settings = mixer_options(o);
  const MixerEntry& entry = find_mixer(o.mixer);
  const std::vector<FieldHelp> fields = entry.help();
  const auto fill_in = [&](std::string_view key, std::int64_t value) {
    const bool known = std::any_of(fields.begin(), fields.end(), [&](const FieldHelp& f) { return f.key == key; });
    if (known && !settings.contains(key)) settings[std::string(key)] = value;
  };
  fill_in("num_heads", o.heads);
  fill_in("num_kv_heads", o.kv_heads == 0 ? o.heads : o.kv_heads);
  const Json complete = entry.normalise(settings, "mixer");
  MixerContext context;
  context.hidden_size = o.heads * o.dim;
  context.num_layers = 2;
  context.max_seq_len = std::max<std::int64_t>(n, 2);
  context.globals = entry.global_rows(complete);
  Generator generator(1);
  Initializer init(InitScheme::scaled, context.hidden_size, context.num_layers, generator, options);
  const auto mixer = entry.make(complete, context, init);
  const Tensor x = randn({o.batch, n, context.hidden_size}, options);
  set_requires_grad(x);
  require(all_finite(mixer->forward(x)), "bench attention", "the mixer made a NaN or infinity");
  const auto flops = static_cast<double>(o.batch * mixer->cost(n).forward_flops);
  const Json sizes{{"mixer", o.mixer}, {"n", n},        {"heads", o.heads},        {"dim", o.dim},
                   {"batch", o.batch}, {"whole", true}, {"dtype", name(x.dtype())}};
  time_both_ways(
      o, [&] { return mixer->forward(x); }, {x}, flops, 2 * bytes_of({x}), sizes);
}

}  // namespace

void add_bench_attention(CLI::App& bench) {
  auto o = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("attention", "a mixer's attention, forward and with backward");
  command->add_option("--mixer", o->mixer, "which; subquad info lists them")->capture_default_str();
  command->add_option("--n", o->lengths, "sequence lengths")->capture_default_str();
  command->add_option("--heads", o->heads, "query heads")->capture_default_str();
  command->add_option("--kv-heads", o->kv_heads, "key/value heads; 0 = as many")->capture_default_str();
  command->add_option("--dim", o->dim, "features of a head")->capture_default_str();
  command->add_option("--batch-size", o->batch, "sequences")->capture_default_str();
  command->add_option("--causal", o->causal, "false: every position sees every one")->capture_default_str();
  command->add_flag("--whole", o->whole, "the mixer with its projections");
  command->add_option("--set", o->settings, "key=value of the mixer's options, e.g. local_window=32")
      ->take_all()
      ->expected(1);
  add_bench_flags(*command, o->bench);
  command->callback([o, command] {
    o->bench.apply(*command);
    for (const std::int64_t value : {o->heads, o->dim, o->batch})
      require_input(value >= 1, "bench attention", "sizes must be at least 1, not {}", value);
    for (const std::int64_t n : o->lengths) {
      require_input(n >= 1, "--n", "{} is not a length", n);
      o->whole ? bench_whole(*o, n) : bench_core(*o, n);
    }
  });
}

}  // namespace sq::cli
