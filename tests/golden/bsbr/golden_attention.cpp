#include "tests/golden/bsbr/golden_attention.h"

#include "autograd/engine.h"
#include "nn/mixers/delta_net.h"
#include "nn/mixers/linear.h"
#include "nn/mixers/registry.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/golden/bsbr/bsbr_file.h"

#include <set>

namespace golden {

using namespace sq;

namespace {

/// One tag of a file: a mixer with its options.
struct Variant {
  std::string tag;
  std::string mixer;
  Json options;
  bool masked = false;  // whether there is a TAG_masked
};

/// q_proj.weight → attn.q_proj.weight; the library's out_proj is o_proj here.
std::string own_name(const std::string& theirs) {
  if (theirs.starts_with("b_proj.")) return theirs;
  return "attn." + (theirs.starts_with("out_proj.") ? "o_proj." + theirs.substr(9) : theirs);
}

std::string their_name(const std::string& own) {
  if (own.starts_with("b_proj.")) return own;
  const std::string rest = own.substr(std::string_view("attn.").size());
  return rest.starts_with("o_proj.") ? "out_proj." + rest.substr(7) : rest;
}

std::unique_ptr<Mixer> build(const BsbrFile& file, const Variant& variant, DType dtype) {
  const MixerEntry& entry = find_mixer(variant.mixer);
  const Tensor x = file.at("x");
  MixerContext context;
  context.hidden_size = x.size(2);
  context.max_seq_len = x.size(1);
  context.rope = false;
  context.bias = true;
  Generator unused(0);
  Initializer init(InitScheme::scaled, context.hidden_size, 1, unused, {.dtype = dtype});
  const Json options = entry.normalise(variant.options, "mixer");
  entry.check(options, context, "mixer");
  std::unique_ptr<Mixer> mixer = entry.make(options, context, init);
  NamedTensors weights;
  for (const auto& [name, tensor] : file.below("w."))
    if (!name.starts_with("b_proj.") || options.value("beta", "") == "learned")
      weights.emplace_back(own_name(name), tensor);
  mixer->load_state_dict(weights, "golden");
  return mixer;
}

/// Σ y·dy. Its terms cancel, so an f32 result is judged by the size of what is added, the f64 one by itself.
void check_loss(Comparison& comparison, const std::string& tag, const Tensor& y, const BsbrFile& file, DType dtype) {
  const Tensor upstream = file.at("grad_out", DType::f64), want = file.at(tag + ".loss");
  const Tensor loss = reshape(sum(cast(detach(y), DType::f64) * upstream), {1});
  if (dtype == DType::f64) return compare(comparison, Quantity::loss, tag + ".loss", loss, want, dtype);
  const Tensor terms = file.at(tag + ".out", DType::f64) * upstream;
  comparison.within(tag + ".loss in f32", loss, want, 1e-5 * sum(maximum(terms, -terms)).item(), 0);
}

/// Result, loss and gradients under `mask` (or undefined).
void check_run(Comparison& comparison, const BsbrFile& file, const Variant& variant, const std::string& tag,
               const Tensor& mask, DType dtype) {
  const std::unique_ptr<Mixer> mixer = build(file, variant, dtype);
  const Tensor x = file.leaf("x", dtype), dy = file.at("grad_out", dtype);
  Tensor y = mixer->forward(x, {.lengths = {}, .documents = {}, .mask = mask});
  if (mask.defined())  // masked rows are 0 here; the library projects a context of 0, which leaves the bias
    for (const auto& [name, parameter] : mixer->named_parameters())
      if (name == "attn.o_proj.bias") y = where(unsqueeze(cast(mask, DType::u8), 2), y, parameter);
  compare(comparison, Quantity::value, tag + ".out", y, file.at(tag + ".out"), dtype);
  check_loss(comparison, tag, y, file, dtype);
  backward(y, dy);
  compare(comparison, Quantity::gradient, tag + ".grad_x", grad(x), file.at(tag + ".grad_x"), dtype);
  for (const auto& [name, parameter] : mixer->named_parameters()) {
    const std::string theirs = tag + ".grad." + their_name(name);
    if (file.contains(theirs))
      compare(comparison, Quantity::gradient, theirs, grad(parameter), file.at(theirs), dtype);
    else
      comparison.fail(theirs + ": the file has no such gradient");
  }
}

/// What the memory holds after all positions.
void check_state(Comparison& comparison, const BsbrFile& file, const Variant& variant, DType dtype) {
  const std::string name = variant.tag + ".state";
  if (!file.contains(name)) return;
  const Tensor x = file.at("x", dtype), want = file.at(name);
  if (variant.mixer == "hopfield") {  // the library hands out KᵀV and never reads it; nothing here keeps it
    const auto heads = [&](const std::string& letter) {
      const Tensor rows =
          linear(x, file.at("w." + letter + "_proj.weight", dtype), file.at("w." + letter + "_proj.bias", dtype));
      return transpose(reshape(rows, {x.size(0), x.size(1), want.size(1), want.size(2)}), 1, 2);
    };
    return compare(comparison, Quantity::value, name, matmul(transpose(heads("k"), 2, 3), heads("v")), want, dtype);
  }
  const std::unique_ptr<Mixer> mixer = build(file, variant, dtype);
  const std::unique_ptr<MixerState> state = mixer->make_state(x.size(0), x.size(1));
  const std::int64_t half = x.size(1) / 2;
  mixer->step(slice(x, 1, 0, half), *state);
  mixer->step(slice(x, 1, half, x.size(1)), *state);
  if (const auto* sums = dynamic_cast<const LinearState*>(state.get())) {
    compare(comparison, Quantity::value, name, packed(expand(sums->memory(), want.shape())), want, dtype);
    if (sums->normaliser().defined())
      compare(comparison, Quantity::value, variant.tag + ".z", sums->normaliser(), file.at(variant.tag + ".z"), dtype);
  } else if (const auto* memory = dynamic_cast<const DeltaNetState*>(state.get())) {
    compare(comparison, Quantity::value, name, memory->memory(), want, dtype);
  } else {
    comparison.fail(name + ": the mixer keeps no such state");
  }
}

/// The library under a mask that hides the ends of rows; what it gives there is of no use.
void check_right(Comparison& comparison, const BsbrFile& file, const Variant& variant, DType dtype) {
  const std::string name = variant.tag + "_right.out";
  if (!file.contains(name)) return;
  const Tensor mask = file.at("mask_right"), want = file.at(name);
  const Tensor y =
      build(file, variant, dtype)->forward(file.at("x", dtype), {.lengths = {}, .documents = {}, .mask = mask});
  const Tensor real = unsqueeze(cast(mask, DType::u8), 2);
  compare(comparison, Quantity::value, name, y, where(real, want, Tensor::zeros({}, want.options())), dtype);
}

std::vector<Variant> variants_of(const BsbrFile& file) {
  const auto whole = [&](const char* key) { return static_cast<std::int64_t>(file.number(key)); };
  const std::string name = file.text("name");
  const std::int64_t heads = whole("H");
  if (name == "standard") {
    const Json options{{"num_heads", heads}, {"num_kv_heads", heads}};
    return {{"original", "dense", options}, {"corrected", "dense", options, true}};
  }
  if (name == "sliding_window") {
    const Json options{{"num_heads", heads}, {"window", whole("window")}};
    return {{"original", name, options}, {"corrected", name, options, true}};
  }
  if (name == "hopfield") {
    Json options{{"num_heads", heads}, {"temperature", file.number("temperature")}};
    Json settled = options;
    settled["iterations"] = whole("hop_iters");
    return {{"original", name, options}, {"corrected", name, options, true}, {"corrected_iters", name, settled, true}};
  }
  if (name == "linear")
    return {{"original", name, {{"num_heads", heads}, {"faithful", true}}},
            {"corrected", name, {{"num_heads", heads}, {"feature_map", "identity"}}, true},
            {"corrected_elu", name, {{"num_heads", heads}, {"feature_map", "elu_plus_1"}}, true}};
  if (name == "deltanet") {
    const Json constant{{"num_heads", heads}, {"beta", "constant"}, {"beta_value", file.number("beta")}};
    Json original = constant;
    original["faithful"] = true;
    return {{"original", "delta_net", original},
            {"corrected", "delta_net", constant, true},
            {"corrected_bproj", "delta_net", {{"num_heads", heads}, {"beta", "learned"}}, true}};
  }
  throw UsageError(fmt::format("golden: the mixer '{}' is unknown", name));
}

/// Every tensor of the file belongs to something that is checked.
void check_names(Comparison& comparison, const BsbrFile& file, const std::vector<Variant>& variants) {
  std::set<std::string> known{"x", "grad_out", "mask", "mask_right", "w"};
  for (const Variant& variant : variants)
    for (const char* end : {"", "_masked", "_right"}) known.insert(variant.tag + end);
  for (const auto& entry : file.tensors())
    if (!known.contains(entry.first.substr(0, entry.first.find('.'))))
      comparison.fail(entry.first + ": nothing checks this tensor");
}

}  // namespace

Result check_attention(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  const std::vector<Variant> variants = variants_of(file);
  check_names(comparison, file, variants);
  for (const DType dtype : kTypes)
    for (const Variant& variant : variants) {
      check_run(comparison, file, variant, variant.tag, {}, dtype);
      if (variant.masked) check_run(comparison, file, variant, variant.tag + "_masked", file.at("mask"), dtype);
      check_state(comparison, file, variant, dtype);
      check_right(comparison, file, variant, dtype);
    }
  return comparison.result();
}

}  // namespace golden
