#include "tests/golden/bsbr/golden_retrieval.h"

#include "autograd/engine.h"
#include "nn/mixers/bsbr.h"
#include "nn/mixers/gau.h"
#include "nn/mixers/registry.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/golden/bsbr/bsbr_file.h"

namespace golden {

using namespace sq;

namespace {

std::string our_name(const std::string& theirs) {
  return "attn." + (theirs.starts_with("out_proj") ? "o" + theirs.substr(3) : theirs);
}

/// A mixer with the weights of a file.
template <class Built>
std::unique_ptr<Built> build(const BsbrFile& file, std::string_view name, const Json& options, DType dtype) {
  const MixerEntry& entry = find_mixer(name);
  const Json all = entry.normalise(options, "mixer");
  const MixerContext context{.hidden_size = file.at("x").size(2),
                             .num_layers = 1,
                             .layer = 0,
                             .max_seq_len = file.at("x").size(1),
                             .rope = false,
                             .bias = true};
  entry.check(all, context, "mixer");
  Generator unused(0);
  Initializer init(InitScheme::scaled, context.hidden_size, 1, unused, {.dtype = dtype});
  std::unique_ptr<Mixer> mixer = entry.make(all, context, init);
  NamedTensors weights;
  for (const auto& [theirs, tensor] : file.below("w.")) weights.emplace_back(our_name(theirs), tensor);
  mixer->load_state_dict(weights, "golden");
  return std::unique_ptr<Built>(dynamic_cast<Built*>(mixer.release()));
}

/// u8 [B,T].
Tensor mask_of(const BsbrFile& file, const std::string& name) { return cast(file.at(name), DType::u8); }

Tensor parameter(const Mixer& mixer, std::string_view name) {
  for (const auto& [own, tensor] : mixer.named_parameters())
    if (own == name) return tensor;
  throw Error(fmt::format("golden: the mixer has no parameter '{}'", name));
}

/// The files have W_o·0 + b at masked positions, where ours has 0.
Tensor with_bias_at_padding(const Tensor& y, const Tensor& mask, const Mixer& mixer) {
  return where(unsqueeze(mask, 2), y, parameter(mixer, "attn.o_proj.bias"));
}

/// The loss Σ y·dy. Its terms may cancel to a ten thousandth of their size, and then a rounding of each in f32 is more
/// than 1e-5 of the sum: f32 may be off by 1e-7 of Σ |y·dy| besides.
void check_loss(Comparison& comparison, const BsbrFile& file, const std::string& name, const Tensor& terms,
                DType dtype) {
  const Tensor loss = reshape(sum(terms), {1});
  if (dtype == DType::f64) return compare(comparison, Quantity::loss, name, loss, file.at(name), dtype);
  const Tensor sizes = maximum(terms, neg(terms));
  comparison.within(name + " in f32", loss, file.at(name), 1e-7 * sum(sizes).item(), 1e-5);
}

/// Result, loss and all gradients below `tag`.
void check_run(Comparison& comparison, const BsbrFile& file, const std::string& tag, Mixer& mixer, DType dtype,
               const Tensor& mask) {
  mixer.clear_gradients();
  const Tensor x = file.leaf("x", dtype), dy = file.at("grad_out", dtype);
  Tensor y = mixer.forward(x, {.lengths = {}, .documents = {}, .mask = mask});
  if (mask.defined()) y = with_bias_at_padding(y, mask, mixer);
  compare(comparison, Quantity::value, tag + ".out", y, file.at(tag + ".out"), dtype);
  check_loss(comparison, file, tag + ".loss", mul(cast(y, DType::f64), cast(dy, DType::f64)), dtype);
  backward(y, dy);
  compare(comparison, Quantity::gradient, tag + ".grad_x", grad(x), file.at(tag + ".grad_x"), dtype);
  for (const auto& [theirs, tensor] : file.below("w."))
    compare(comparison, Quantity::gradient, tag + ".grad." + theirs, grad(parameter(mixer, our_name(theirs))),
            file.at(tag + ".grad." + theirs), dtype);
}

/// Those of `values` that the file has below `tag`.
void check_values(Comparison& comparison, const BsbrFile& file, const std::string& tag,
                  const std::vector<std::pair<std::string, Tensor>>& values, DType dtype) {
  for (const auto& [name, tensor] : values)
    if (file.contains(tag + "." + name))
      compare(comparison, Quantity::value, tag + "." + name, tensor, file.at(tag + "." + name), dtype);
}

struct Form {
  std::string tag, retriever, state_norm;
};

}  // namespace

Result check_bsbr_attention(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  Json options{{"num_heads", static_cast<std::int64_t>(file.number("H"))},
               {"chunk_size", static_cast<std::int64_t>(file.number("chunk"))}};
  if (file.contains("w.compress_proj.weight"))
    options["compression_factor"] = static_cast<std::int64_t>(file.number("cf"));
  for (const DType dtype : kTypes) {
    for (const Form& form : {Form{"corrected", "first", "none"},
                             {"corrected_prev", "prev", "none"},
                             {"corrected_token", "token", "none"},
                             {"corrected_scaled", "first", "mean"}}) {
      options["retriever"] = form.retriever;
      options["state_norm"] = form.state_norm;
      const auto mixer = build<BsbrMixer>(file, "bsbr", options, dtype);
      const Tensor x = file.at("x", dtype), mask = mask_of(file, "mask");
      const BsbrParts parts = mixer->parts(x);
      check_run(comparison, file, form.tag, *mixer, dtype, {});
      check_values(comparison, file, form.tag,
                   {{"F", parts.states},
                    {"f", parts.states},
                    {"h", parts.h},
                    {"r", parts.r},
                    {"p", parts.p},
                    {"local", parts.local},
                    {"retrieval", parts.retrieval}},
                   dtype);
      check_run(comparison, file, form.tag + "_masked", *mixer, dtype, mask);
      check_values(comparison, file, form.tag + "_masked", {{"p", mixer->parts(x, mask).p}}, dtype);
    }
    Json faithful = options;
    faithful["faithful"] = true;
    const auto original = build<BsbrMixer>(file, "bsbr", faithful, dtype);
    check_run(comparison, file, "original", *original, dtype, {});
    // The original looks at no mask.
    check_values(comparison, file, "original_right", {{"out", original->forward(file.at("x", dtype))}}, dtype);
  }
  return comparison.result();
}

Result check_gau_attention(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  const Json options{{"expansion_factor", static_cast<std::int64_t>(file.number("expansion"))},
                     {"chunk_size", static_cast<std::int64_t>(file.number("chunk"))},
                     {"scaled", false}};
  for (const DType dtype : kTypes) {
    const auto mixer = build<GauMixer>(file, "gau", options, dtype);
    const Tensor x = file.at("x", dtype);
    check_run(comparison, file, "corrected", *mixer, dtype, {});
    check_values(comparison, file, "corrected", {{"state", mixer->parts(x).state}}, dtype);
    check_run(comparison, file, "corrected_masked", *mixer, dtype, mask_of(file, "mask"));
    // Without gaps the original differs at padding only.
    check_run(comparison, file, "original", *mixer, dtype, {});
    const Tensor right = mask_of(file, "mask_right"), want = file.at("original_right.out", dtype);
    const Tensor nothing = Tensor::zeros({}, want.options());
    const Tensor y = mixer->forward(x, {.lengths = {}, .documents = {}, .mask = right});
    compare(comparison, Quantity::value, "original_right.out", where(unsqueeze(right, 2), y, nothing),
            where(unsqueeze(right, 2), want, nothing), dtype);
  }
  return comparison.result();
}

}  // namespace golden
