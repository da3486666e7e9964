#include "nn/mixers/linear.h"

#include "nn/mixers/real_rows.h"
#include "nn/mixers/registry.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/cumsum.h"
#include "ops/elementwise.h"
#include "ops/linear_attention.h"
#include "ops/reduce.h"
#include "ops/sum_dtype.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

constexpr double kEpsilon = 1e-6;

/// above / (below + ε), in memory as [B,T,H,D], which merging the heads wants.
Tensor divided(const Tensor& above, const Tensor& below) {
  return transpose(transpose(above, 1, 2) / (transpose(below, 1, 2) + kEpsilon), 1, 2);
}

std::string_view name_of(FeatureKind kind) { return choices(kind)[static_cast<std::size_t>(kind)]; }

}  // namespace

// --- options ---

AttentionPlan LinearConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

void LinearConfig::adapt_defaults(const Json& given) {
  const auto original = given.find("faithful");
  if (original != given.end() && *original == true) feature_map = FeatureKind::identity;
  FeatureKind kind = feature_map;
  const auto map = given.find("feature_map");
  const auto names = choices(kind);
  if (map != given.end())
    for (std::size_t i = 0; i < names.size(); ++i)
      if (*map == names[i]) kind = static_cast<FeatureKind>(i);
  normalise = has_positive_products(kind);
}

void LinearConfig::validate(std::string_view path) const {
  require_input(!faithful || feature_map == FeatureKind::identity, "config",
                "{} is \"{}\" but the faithful form has no features; leave it out", join_path(path, "feature_map"),
                name_of(feature_map));
  require_input(!faithful || !output_norm, "config", "{} is true but the faithful form has no norm; leave it out",
                join_path(path, "output_norm"));
  require_input(!faithful || conv_size == 0, "config",
                "{} is {} but the faithful form has no convolutions; leave it out", join_path(path, "conv_size"),
                conv_size);
  require_input(!normalise || has_positive_products(feature_map), "config",
                "{} is true, but the products of \"{}\" may be negative and their sum 0; set it to false or choose "
                "another feature map",
                join_path(path, "normalise"), name_of(feature_map));
}

void LinearConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  if (faithful) return;
  const std::int64_t width = plan(context).head_dim, features = feature_width(this->features(), width);
  require_input(feature_map != FeatureKind::dpfp || dpfp_order < 2 * width, "config",
                "{} is {} but must be less than twice the {} features of a head", join_path(path, "dpfp_order"),
                dpfp_order, width);
  constexpr std::int64_t kMost = 1 << 16;
  require_input(features <= kMost, "config", "{} \"{}\" makes {} features of {}, but at most {} are possible",
                join_path(path, "feature_map"), name_of(feature_map), features, width, kMost);
  require_input(!context.rope || features % 2 == 0, "config",
                "{} \"{}\" makes {} features of {}, but rotary positions need an even number; choose another map or "
                "other positions",
                join_path(path, "feature_map"), name_of(feature_map), features, width);
}

NamedShapes LinearConfig::parameters(const MixerContext& context) const {
  NamedShapes shapes = plan(context).parameters("attn", context.bias);
  for (const auto& named : ConvolvedHeads::parameters(plan(context), conv_size)) shapes.push_back(named);
  for (const std::string_view side : {"q_map.", "k_map."})
    for (const auto& [name, shape] : feature_parameters(features(), plan(context).head_dim))
      shapes.emplace_back(std::string(side) + name, shape);
  if (output_norm) shapes.emplace_back("o_norm.weight", Shape{plan(context).head_dim});
  return shapes;
}

/// Each of R rows is written to a matrix and reads from it: 4·K·(D+1) in every head; maps with matrices multiply them.
Cost LinearConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens), k = feature_width(features(), a.head_dim);
  const std::int64_t columns = a.head_dim + (normalise ? 1 : 0);
  double flops =
      a.query_flops(rows) + a.key_value_flops(rows) + a.output_flops(rows) + ConvolvedHeads::flops(a, conv_size, rows);
  if (!faithful) flops += product({4, rows, a.num_heads, k, columns});
  for (const auto& [name, shape] : feature_parameters(features(), a.head_dim))
    if (shape.rank() == 2) flops += product({4, rows, a.num_heads, shape.numel()});
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = flops,
          .state_bytes = 4 * a.num_heads * (faithful ? 1 : k * columns) + ConvolvedHeads::tail_bytes(a, conv_size)};
}

// --- state ---

LinearState::LinearState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, Tensor sums, bool normalised,
                         ConvolutionTails tails)
    : MixerState(owner, batch, capacity), sums_(std::move(sums)), normalised_(normalised), tails_(std::move(tails)) {}

std::int64_t LinearState::bytes() const { return sums_.numel() * item_size(sums_.dtype()) + tails_.bytes(); }

Tensor LinearState::memory() const { return normalised_ ? slice(sums_, 3, 0, sums_.size(3) - 1) : sums_; }

Tensor LinearState::normaliser() const { return normalised_ ? select(sums_, 3, sums_.size(3) - 1) : Tensor(); }

// --- mixer ---

/// Features of queries and keys [B,H,T,K] and values [B,H,T,D], in the dtype of the sums.
struct LinearMixer::Rows {
  Tensor q, k, v;
  DType narrow;  // the dtype of the layer
};

/// What was read [B,H,T,D], and the sums afterwards.
struct LinearMixer::Read {
  Tensor heads, sums;
};

LinearMixer::LinearMixer(const LinearConfig& config, const MixerContext& context, Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, config.num_heads, config.num_heads, config.plan(context).head_dim),
            init),
      heads_(config.plan(context), config.conv_size, init),
      dropout_(context.dropout) {
  add_module("attn", attn_);
  add_module("", heads_);
  if (!config.faithful) {
    const std::int64_t width = config.plan(context).head_dim;
    q_map_ = std::make_unique<FeatureMap>(config.features(), width, init);
    k_map_ = std::make_unique<FeatureMap>(config.features(), width, init);
    add_module("q_map", *q_map_);
    add_module("k_map", *k_map_);
  }
  if (config.output_norm) {
    o_norm_ = std::make_unique<HeadNorm>(config.plan(context).head_dim, init);
    add_module("o_norm", *o_norm_);
  }
  add_module("dropout", dropout_);
}

LinearMixer::Rows LinearMixer::rows(const HeadTriple& heads, const Tensor& mask) const {
  const DType dtype = sum_dtype(heads.v.dtype());
  const auto features = [&](const Tensor& plain, const std::unique_ptr<FeatureMap>& map) {
    return map ? map->forward(cast(plain, dtype)) : cast(plain, dtype);
  };
  // Keys are hidden after the map, which need not be 0 at 0.
  return {features(heads.q, q_map_), real_rows(features(heads.k, k_map_), mask), real_rows(cast(heads.v, dtype), mask),
          heads.v.dtype()};
}

LinearMixer::Read LinearMixer::read(const Rows& rows, const Tensor& positions, const Tensor& sums) const {
  const std::int64_t width = rows.v.size(3);
  const auto attend = [](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first) {
    return linear_attention(q, k, v, {.scale = 1, .first_state = first});
  };
  const auto columns = [&](std::int64_t begin, std::int64_t end) {
    return sums.defined() ? slice(sums, 3, begin, end) : Tensor();
  };
  const Tensor q = attn_.rotate(rows.q, positions), k = attn_.rotate(rows.k, positions);
  if (!config_.normalise) {
    const LinearAttentionResult result = attend(q, k, rows.v, sums);
    return {result.y, result.state};
  }
  Shape one = rows.v.shape();
  one[3] = 1;
  const Tensor ones = Tensor::ones(one, rows.v.options());
  if (!context_.rope) {
    const LinearAttentionResult result = attend(q, k, concat({rows.v, ones}, 3), sums);
    return {divided(slice(result.y, 3, 0, width), slice(result.y, 3, width, width + 1)), result.state};
  }
  const LinearAttentionResult above = attend(q, k, rows.v, columns(0, width)),
                              below = attend(rows.q, rows.k, ones, columns(width, width + 1));
  return {divided(above.y, below.y), sums.defined() ? concat({above.state, below.state}, 3) : Tensor()};
}

/// o_t = (Σ_{j<=t} k_j·v_j) (Σ_a q_ta) in every feature.
LinearMixer::Read LinearMixer::read_faithful(const Rows& rows, const Tensor& sums) const {
  Tensor running = cumsum(sum(rows.k * rows.v, {3}, true), 2);  // [B,H,T,1]
  if (sums.defined()) running = running + sums;
  const std::int64_t last = running.size(2);
  return {expand(running * sum(rows.q, {3}, true), rows.v.shape()), slice(running, 2, last - 1, last)};
}

Tensor LinearMixer::output(const Tensor& heads, DType dtype) const {
  return dropout_.forward(attn_.output(cast(o_norm_ ? o_norm_->forward(heads) : heads, dtype)));
}

Tensor LinearMixer::mix(const Tensor& x, const Padding& padding) {
  const Rows rows = this->rows(heads_.forward(attn_, x, padding.mask), padding.mask);
  const Read result = config_.faithful ? read_faithful(rows, {}) : read(rows, Tensor::arange(x.size(1)), {});
  return output(result.heads, rows.narrow);
}

std::unique_ptr<MixerState> LinearMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  const std::int64_t width = attn_.sizes().head_dim;
  const Shape shape = config_.faithful ? Shape{batch, config_.num_heads, 1, 1}
                                       : Shape{batch, config_.num_heads, feature_width(config_.features(), width),
                                               width + (config_.normalise ? 1 : 0)};
  const TensorOptions options = attn_.tensor_options();
  return std::make_unique<LinearState>(*this, batch, capacity,
                                       Tensor::zeros(shape, {sum_dtype(options.dtype), options.device}),
                                       config_.normalise, heads_.empty_tails(batch, options));
}

Tensor LinearMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  LinearState& memory = static_cast<LinearState&>(state);
  const Rows rows = this->rows(heads_.step(attn_, x, memory.tails(), counts), real_mask(counts, x.size(1)));
  const Tensor& sums = memory.sums();
  const Read result =
      config_.faithful ? read_faithful(rows, sums) : read(rows, next_positions(state.lengths(), x.size(1)), sums);
  memory.replace(packed(result.sums));
  return output(result.heads, rows.narrow);
}

extern const MixerEntry linear_entry;
const MixerEntry linear_entry = mixer_entry<LinearConfig, LinearMixer>(
    "linear", "attention whose past is a sum of φ(k)·vᵀ; constant memory",
    "Katharopoulos et al. 2020, Transformers are RNNs; Su et al. 2021, RoFormer");

}  // namespace sq
