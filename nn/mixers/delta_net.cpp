#include "nn/mixers/delta_net.h"

#include "nn/mixers/delta_net_faithful.h"
#include "nn/mixers/real_rows.h"
#include "nn/mixers/registry.h"
#include "ops/cast.h"
#include "ops/delta_rule.h"
#include "ops/elementwise.h"
#include "ops/l2_normalize.h"
#include "ops/sum_dtype.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

namespace sq {
namespace {

/// Heads [B,H,T,D] of length 1 in `dtype`, in memory as they were.
Tensor unit_heads(const Tensor& heads, DType dtype) {
  return transpose(l2_normalize(cast(transpose(heads, 1, 2), dtype)), 1, 2);
}

}  // namespace

// --- options ---

AttentionPlan DeltaNetConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

void DeltaNetConfig::adapt_defaults(const Json& given) {
  const auto original = given.find("faithful");
  if (original != given.end() && *original == true) beta = DeltaBeta::constant;
}

void DeltaNetConfig::validate(std::string_view path) const {
  require_input(!faithful || beta == DeltaBeta::constant, "config",
                "{} is \"learned\" but must be constant in the faithful form", join_path(path, "beta"));
  require_input(!faithful || !output_norm, "config", "{} is true but the faithful form has no norm; leave it out",
                join_path(path, "output_norm"));
  require_input(!faithful || conv_size == 0, "config",
                "{} is {} but the faithful form has no convolutions; leave it out", join_path(path, "conv_size"),
                conv_size);
  require_input(!negative_eigenvalues || beta == DeltaBeta::learned, "config",
                "{} is true, but a constant share takes its value from beta_value; set beta to learned",
                join_path(path, "negative_eigenvalues"));
}

void DeltaNetConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
}

NamedShapes DeltaNetConfig::parameters(const MixerContext& context) const {
  NamedShapes shapes = plan(context).parameters("attn", context.bias);
  for (const auto& named : ConvolvedHeads::parameters(plan(context), conv_size)) shapes.push_back(named);
  if (beta == DeltaBeta::learned) {
    shapes.emplace_back("b_proj.weight", Shape{num_heads, context.hidden_size});
    if (context.bias) shapes.emplace_back("b_proj.bias", Shape{num_heads});
  }
  if (output_norm) shapes.emplace_back("o_norm.weight", Shape{plan(context).head_dim});
  return shapes;
}

/// Each of R rows asks the memory twice and writes to it once: 6·D² in every head.
Cost DeltaNetConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens);
  double flops = a.query_flops(rows) + a.key_value_flops(rows) + a.output_flops(rows) +
                 product({6, rows, num_heads, a.head_dim, a.head_dim}) + ConvolvedHeads::flops(a, conv_size, rows);
  if (beta == DeltaBeta::learned) flops += product({2, rows, context.hidden_size, num_heads});
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = flops,
          .state_bytes = 4 * num_heads * a.head_dim * a.head_dim + ConvolvedHeads::tail_bytes(a, conv_size)};
}

// --- state ---

DeltaNetState::DeltaNetState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, Tensor memory,
                             ConvolutionTails tails)
    : MixerState(owner, batch, capacity), memory_(std::move(memory)), tails_(std::move(tails)) {}

std::int64_t DeltaNetState::bytes() const { return memory_.numel() * item_size(memory_.dtype()) + tails_.bytes(); }

// --- mixer ---

DeltaNetMixer::DeltaNetMixer(const DeltaNetConfig& config, const MixerContext& context, Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, config.num_heads, config.num_heads, config.plan(context).head_dim),
            init),
      heads_(config.plan(context), config.conv_size, init),
      dropout_(context.dropout) {
  add_module("attn", attn_);
  add_module("", heads_);
  if (config.beta == DeltaBeta::learned) {
    b_proj_ = std::make_unique<Linear>(context.hidden_size, config.num_heads, context.bias, init);
    add_module("b_proj", *b_proj_);
  }
  if (config.output_norm) {
    o_norm_ = std::make_unique<HeadNorm>(config.plan(context).head_dim, init);
    add_module("o_norm", *o_norm_);
  }
  add_module("dropout", dropout_);
}

/// [B,H,T].
Tensor DeltaNetMixer::beta(const Tensor& x, DType dtype) const {
  if (!b_proj_) return Tensor::full({x.size(0), config_.num_heads, x.size(1)}, config_.beta_value, {dtype, x.device()});
  const Tensor share = sigmoid(cast(transpose(b_proj_->forward(x), 1, 2), dtype));
  return config_.negative_eigenvalues ? share * 2 : share;
}

Tensor DeltaNetMixer::run(const Tensor& x, const HeadTriple& heads, const Tensor& mask, Tensor& memory) const {
  const DType dtype = sum_dtype(heads.v.dtype());
  const Tensor q = unit_heads(heads.q, dtype), k = real_rows(unit_heads(heads.k, dtype), mask),
               v = real_rows(cast(heads.v, dtype), mask);
  DeltaRuleResult result;
  if (config_.faithful) {
    result = delta_net_faithful(q, k, v, config_.beta_value, memory);
  } else {
    const Tensor share = real_positions(beta(x, dtype), mask);
    result = delta_rule(q, k, v, share, {.scale = 1, .first_state = memory});
  }
  memory = result.state;
  return dropout_.forward(attn_.output(cast(o_norm_ ? o_norm_->forward(result.y) : result.y, heads.v.dtype())));
}

Tensor DeltaNetMixer::mix(const Tensor& x, const Padding& padding) {
  Tensor memory;
  return run(x, heads_.forward(attn_, x, padding.mask), padding.mask, memory);
}

std::unique_ptr<MixerState> DeltaNetMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  const std::int64_t width = attn_.sizes().head_dim;
  const TensorOptions options = attn_.tensor_options();
  return std::make_unique<DeltaNetState>(
      *this, batch, capacity,
      Tensor::zeros({batch, config_.num_heads, width, width}, {sum_dtype(options.dtype), options.device}),
      heads_.empty_tails(batch, options));
}

Tensor DeltaNetMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  DeltaNetState& own = static_cast<DeltaNetState&>(state);
  Tensor memory = own.memory();
  const Tensor y = run(x, heads_.step(attn_, x, own.tails(), counts), real_mask(counts, x.size(1)), memory);
  own.replace(memory);
  return y;
}

extern const MixerEntry delta_net_entry;
const MixerEntry delta_net_entry = mixer_entry<DeltaNetConfig, DeltaNetMixer>(
    "delta_net", "a memory of constant size that overwrites what it held under a key",
    "Schlag et al. 2021, Linear Transformers Are Secretly Fast Weight Programmers; Yang et al. 2024");

}  // namespace sq
