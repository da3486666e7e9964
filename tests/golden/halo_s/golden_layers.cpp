#include "tests/golden/halo_s/golden_layers.h"

#include "autograd/engine.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/pattern.h"
#include "ops/cast.h"
#include "ops/rope.h"
#include "ops/view.h"
#include "tests/golden/halo_s/halo_s_file.h"
#include "train/generate.h"
#include "train/sampler.h"

#include <cmath>

namespace golden {

using namespace sq;

namespace {

constexpr std::array<DType, 2> kTypes{DType::f64, DType::f32};

/// An input as a leaf of `dtype` that wants a gradient.
Tensor leaf(const Tensor& values, DType dtype) {
  const Tensor tensor = packed_copy(values, dtype);
  set_requires_grad(tensor);
  return tensor;
}

std::unique_ptr<Attention> load_attention(const HaloSFile& file, DType dtype) {
  const OriginalHaloS original = file.original();
  Generator generator(1);
  Initializer init(InitScheme::faithful, 64, 1, generator, {.dtype = dtype});
  auto attention = std::make_unique<Attention>(
      AttentionOptions{.sizes = {original.hidden_size, original.num_heads, original.num_kv_heads, original.head_dim()}},
      init);
  attention->load_state_dict(file.weights(), "golden");
  attention->eval();
  return attention;
}

std::string label(DType dtype, const std::string& name) { return fmt::format("{} in {}", name, sq::name(dtype)); }

/// Loss and gradients of a whole model.
void check_whole_model(Comparison& comparison, const HaloSFile& file, const ModelConfig& config) {
  for (const DType dtype : kTypes) {
    const double tolerance = file.tolerance(dtype);
    const auto model = make_model(file, config, dtype);
    const Tensor ids = file.at("input.ids"), targets = file.at("input.targets");
    comparison.close(label(dtype, "output.logits"), model->forward(ids), file.at("output.logits"), tolerance);
    const Tensor loss = model->loss(ids, targets);
    comparison.close(label(dtype, "output.loss"), cast(loss, DType::f64), file.at("output.loss"), tolerance);
    comparison.close(label(dtype, "output.loss_ignore"),
                     cast(model->loss(ids, file.at("input.targets_ignore")), DType::f64), file.at("output.loss_ignore"),
                     tolerance);
    backward(loss);
    compare_gradients(comparison, file, *model, "grad", tolerance);
  }
}

}  // namespace

Result check_rope(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  const Json& cases = file.settings().at("cases");
  for (std::size_t n = 0; n < cases.size(); ++n) {
    const std::string prefix = fmt::format("case{}.", n);
    const auto base = cases[n].at("base").get<double>();
    const auto width = cases[n].at("head_dim").get<std::int64_t>();
    const Tensor positions = file.at(prefix + "positions"), x = leaf(file.at(prefix + "input.x"), DType::f64);
    const Tensor y = rope(x, positions, base);
    comparison.close(prefix + "output.y", y, file.at(prefix + "output.y"), file.tolerance("y"));
    backward(y, packed_copy(file.at(prefix + "upstream.y"), DType::f64));
    comparison.close(prefix + "grad.input.x", grad(x), file.at(prefix + "grad.input.x"), file.tolerance("y"));
    // The rotation shows its own table: a pair (1, 0) turns into (cos, sin). The file repeats both halves.
    const std::int64_t count = positions.size(0), half = width / 2;
    std::vector<double> unit(static_cast<std::size_t>(count * width), 0.0);
    for (std::int64_t p = 0; p < count; ++p)
      for (std::int64_t m = 0; m < half; ++m) unit[static_cast<std::size_t>(p * width + m)] = 1;
    const Tensor table = reshape(rope(Tensor::from(unit, {1, 1, count, width}), positions, base), {count, width});
    const auto half_of = [&](const std::string& name) { return slice(file.at(prefix + name), 1, 0, half); };
    const double table_tolerance = file.tolerance("f64_tables");
    comparison.close(prefix + "cos", slice(table, 1, 0, half), half_of("cos"), table_tolerance);
    comparison.close(prefix + "sin", slice(table, 1, half, width), half_of("sin"), table_tolerance);
    comparison.close(prefix + "cos_original_f32", slice(table, 1, 0, half), half_of("cos_original_f32"),
                     file.tolerance("f32_tables"));
    comparison.close(prefix + "sin_original_f32", slice(table, 1, half, width), half_of("sin_original_f32"),
                     file.tolerance("f32_tables"));
  }
  return comparison.result();
}

Result check_sparse_attention(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  const bool once = file.settings().at("duplicates") == "once";
  const Tensor x = file.at("input.x");
  const std::int64_t length = x.size(1);
  NeighborTable table =
      faithful_graph(length, file.settings().at("layer_id").get<std::int64_t>(), file.halo_s_config());
  comparison.equal("neighbors", to_tensor(table), file.at("neighbors"));
  if (once) {
    hide_future(table);
    hide_repeats(table);
  }
  const Tensor positions = Tensor::arange(length);
  NeighborRows rows{.list = std::make_shared<const NeighborList>(make_neighbor_list(to_tensor(table), {}, length)),
                    .query_positions = positions,
                    .key_positions = positions};
  for (const DType dtype : kTypes) {
    const auto attention = load_attention(file, dtype);
    const Tensor input = leaf(x, dtype);
    rows.causal = true;
    const Tensor y = attention->over_neighbors(input, input, rows);
    comparison.close(label(dtype, "output.y"), y, file.at("output.y"), file.tolerance(dtype));
    backward(y, packed_copy(file.at("upstream.y"), dtype));
    comparison.close(label(dtype, "grad.input.x"), grad(input), file.at("grad.input.x"), file.tolerance(dtype));
    compare_gradients(comparison, file, *attention, "grad", file.tolerance(dtype));
    if (!file.contains("output.y_noncausal")) continue;
    rows.causal = false;
    comparison.close(label(dtype, "output.y_noncausal"), attention->over_neighbors(input, input, rows),
                     file.at("output.y_noncausal"), file.tolerance(dtype));
  }
  return comparison.result();
}

Result check_global_attention(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  for (const DType dtype : kTypes)
    for (const bool causal : {true, false}) {
      const std::string ending = causal ? "" : "_noncausal";
      const auto attention = load_attention(file, dtype);
      const Tensor globals = leaf(file.at("input.globals"), dtype), sequence = leaf(file.at("input.sequence"), dtype);
      const Tensor y = attention->over_sequence(globals, sequence, causal);
      comparison.close(label(dtype, "output.y" + ending), y, file.at("output.y" + ending), file.tolerance(dtype));
      backward(y, packed_copy(file.at("upstream.y"), dtype));
      compare_gradients(comparison, file, *attention, "grad" + ending, file.tolerance(dtype));
      comparison.close(label(dtype, "grad.input.globals" + ending), grad(globals),
                       file.at("grad" + ending + ".input.globals"), file.tolerance(dtype));
      comparison.close(label(dtype, "grad.input.sequence" + ending), grad(sequence),
                       file.at("grad" + ending + ".input.sequence"), file.tolerance(dtype));
    }
  return comparison.result();
}

Result check_block(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  ModelConfig config = file.model_config();
  const auto index = file.settings().at("layer_id").get<std::int64_t>();
  config.num_layers = index + 2;  // not the last one, whose global rows nobody reads
  for (const DType dtype : kTypes) {
    Generator generator(1);
    Initializer init(InitScheme::faithful, config.hidden_size, config.num_layers, generator, {.dtype = dtype});
    Layer layer(config, index, init);
    layer.load_state_dict(file.weights(), "golden");
    layer.eval();
    const Tensor x = leaf(file.at("input.x"), dtype);
    comparison.close(label(dtype, "output.ffn"), layer.feed_forward().forward(x), file.at("output.ffn"),
                     file.tolerance(dtype));
    const Tensor y = layer.forward(x, {});
    comparison.close(label(dtype, "output.y"), y, file.at("output.y"), file.tolerance(dtype));
    backward(y, packed_copy(file.at("upstream.y"), dtype));
    comparison.close(label(dtype, "grad.input.x"), grad(x), file.at("grad.input.x"), file.tolerance(dtype));
    compare_gradients(comparison, file, layer, "grad", file.tolerance(dtype));
  }
  return comparison.result();
}

Result check_model(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  check_whole_model(comparison, file, file.model_config());
  return comparison.result();
}

Result check_baseline_model(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  check_whole_model(comparison, file, to_baseline_config(file.original()));
  return comparison.result();
}

namespace {

/// Greedy continuation, and the logits behind each choice.
void check_continuation(Comparison& comparison, const HaloSFile& file, const ModelConfig& config, DType dtype,
                        const std::string& prefix) {
  const auto model = make_model(file, config, dtype);
  const std::vector<std::int64_t> prompt = file.at("input.prompt").to_vector<std::int64_t>();
  GenerateOptions options;
  options.max_new_tokens = file.settings().at("max_new_tokens").get<std::int64_t>();
  options.sampling.temperature = file.settings().at("temperature").get<double>();
  const Generated generated = generate(*model, {prompt}, options);
  std::vector<std::int64_t> ids = prompt;
  ids.insert(ids.end(), generated.tokens[0].begin(), generated.tokens[0].end());
  comparison.equal(label(dtype, prefix + "output.ids"), Tensor::from(ids, {1, static_cast<std::int64_t>(ids.size())}),
                   file.at(prefix + "output.ids"));
  std::vector<double> logits;
  std::vector<std::int64_t> lengths;
  const NoGrad unrecorded;
  for (std::int64_t n = 0; n < options.max_new_tokens; ++n) {
    const auto end = static_cast<std::int64_t>(prompt.size()) + n, length = std::min(end, model->max_tokens());
    const std::vector<std::int64_t> context(ids.begin() + (end - length), ids.begin() + end);
    const auto row =
        select(select(model->forward(Tensor::from(context, {1, length})), 0, 0), 0, length - 1).to_vector<double>();
    logits.insert(logits.end(), row.begin(), row.end());
    lengths.push_back(length);
  }
  comparison.close(label(dtype, prefix + "output.last_logits"),
                   Tensor::from(logits, {options.max_new_tokens, config.vocab_size}),
                   file.at(prefix + "output.last_logits"), file.tolerance(dtype));
  if (file.contains(prefix + "context_lengths"))
    comparison.equal(label(dtype, prefix + "context_lengths"), Tensor::from(lengths, {options.max_new_tokens}),
                     file.at(prefix + "context_lengths"));
}

}  // namespace

Result check_generate(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  for (const DType dtype : kTypes) {
    ModelConfig config = file.model_config();
    check_continuation(comparison, file, config, dtype, "");
    config.max_seq_len = file.settings().at("crop").at("max_seq_len").get<std::int64_t>();
    check_continuation(comparison, file, config, dtype, "crop.");
  }
  return comparison.result();
}

Result check_sampling(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  const Json& cases = file.settings().at("cases");
  const Tensor logits = file.at("input.logits");
  for (std::size_t n = 0; n < cases.size(); ++n) {
    const std::string prefix = fmt::format("case{}.", n);
    SamplingOptions options;
    options.temperature = cases[n].at("temperature").get<double>();
    options.top_k = cases[n].value("top_k", std::int64_t{0});
    options.top_p = cases[n].value("top_p", 1.0);
    std::vector<double> all;
    for (const std::int64_t row : file.at(prefix + "rows").to_vector<std::int64_t>()) {
      const auto p = next_token_distribution(select(logits, 0, row).to_vector<float>(), options);
      all.insert(all.end(), p.begin(), p.end());
    }
    const Tensor& want = file.at(prefix + "probs");
    comparison.close(prefix + "probs", Tensor::from(all, want.shape()), want, file.tolerance("f64"));
  }
  return comparison.result();
}

}  // namespace golden
