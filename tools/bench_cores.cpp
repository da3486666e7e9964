#include "tools/bench_cores.h"

#include "nn/mixers/halo_s_config.h"
#include "nn/mixers/linear.h"
#include "nn/mixers/pattern.h"
#include "nn/mixers/registry.h"
#include "nn/mixers/sliding_window.h"
#include "ops/concat.h"
#include "ops/dense_attention.h"
#include "ops/elementwise.h"
#include "ops/linear_attention.h"
#include "ops/neighbor_attention.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <numeric>

namespace sq::cli {
namespace {

/// Which positions query t reads.
using Readers = std::function<std::vector<std::int64_t>(std::int64_t t)>;

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// o_t = Σ_j softmax_j(q_t·k_j / √D) v_j over the positions that t reads.
auto softmax_over(Readers readers) {
  return [readers = std::move(readers)](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v, std::int64_t t) {
    std::vector<double> sum(static_cast<std::size_t>(v.width), 0.0);
    double total = 0;
    for (const std::int64_t j : readers(t)) {
      const double weight = std::exp(dot(q.row(t), k.row(j)) / std::sqrt(static_cast<double>(q.width)));
      total += weight;
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight * v.row(j)[c];
    }
    for (double& value : sum) value /= total;
    return sum;
  };
}

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

double pair_flops(double pairs, const CoreSizes& sizes) { return 4 * pairs * static_cast<double>(sizes.width); }

Core dense(const Json&, const CoreSizes& sizes) {
  const std::int64_t n = sizes.positions;
  const auto count = static_cast<double>(n);
  return {.run = [causal = sizes.causal](const Tensor& q, const Tensor& k,
                                         const Tensor& v) { return dense_attention(q, k, v, {.causal = causal}); },
          .expect = softmax_over([n, causal = sizes.causal](std::int64_t t) { return range(0, causal ? t + 1 : n); }),
          .flops = pair_flops(sizes.causal ? count * (count + 1) / 2 : count * count, sizes),
          .checkable = n};
}

/// Rows 0 … n-1 of the HALO-S list, global rows included (row i < G reads 0 … i).
Core halo_s(const Json& options, const CoreSizes& sizes) {
  const std::int64_t n = sizes.positions;
  const auto config = config_from_json<HaloSConfig>(options, "mixer");
  auto table = std::make_shared<NeighborTable>(config.graph == HaloGraph::causal ? causal_graph(0, n, 1, config, n)
                                                                                 : faithful_graph(n, 1, config));
  if (sizes.causal) hide_future(*table);
  const std::shared_ptr<const NeighborList> list =
      std::make_shared<const NeighborList>(make_neighbor_list(to_tensor(*table), {}, n));
  NeighborAttentionOptions attention;
  attention.causal = sizes.causal;
  double pairs = 0;
  for (const std::int32_t j : table->index) pairs += j >= 0 ? 1 : 0;
  return {.run = [list, attention](const Tensor& q, const Tensor& k,
                                   const Tensor& v) { return neighbor_attention(q, k, v, list, attention); },
          .expect = softmax_over([table](std::int64_t t) {
            std::vector<std::int64_t> rows;
            for (const std::int32_t j : table->row(t))
              if (j >= 0) rows.push_back(j);
            return rows;
          }),
          .flops = pair_flops(pairs, sizes),
          .checkable = n};
}

void require_causal(const CoreSizes& sizes, std::string_view mixer) {
  require_input(sizes.causal, "--causal", "false, but '{}' is causal by construction", mixer);
}

Core sliding_window(const Json& options, const CoreSizes& sizes) {
  require_causal(sizes, "sliding_window");
  const std::int64_t window = config_from_json<SlidingWindowConfig>(options, "mixer").window;
  const std::int64_t n = sizes.positions, most = std::min(n, window + 1);
  return {
      .run = [window](const Tensor& q, const Tensor& k,
                      const Tensor& v) { return dense_attention(q, k, v, {.window = window + 1}); },
      .expect = softmax_over([window](std::int64_t t) { return range(std::max<std::int64_t>(0, t - window), t + 1); }),
      .flops = pair_flops(static_cast<double>(most * (most + 1) / 2 + (n - most) * most), sizes),
      .checkable = n};
}

/// y [B,H,T,D] whose weights are products of features; `normalise`: divided by their sum, from one more column of ones.
Tensor feature_attention(const Tensor& q, const Tensor& k, const Tensor& v, bool normalise) {
  if (!normalise) return linear_attention(q, k, v, {.scale = 1}).y;
  const Tensor ones = Tensor::ones({v.size(0), v.size(1), v.size(2), 1}, v.options());
  const Tensor y = linear_attention(q, k, concat({v, ones}, 3), {.scale = 1}).y;
  const std::int64_t width = v.size(3);
  return slice(y, 3, 0, width) / add(slice(y, 3, width, width + 1), 1e-6);
}

/// φ of the rows, for maps without parameters.
HeadRows64 features(const FeatureMap& map, const HeadRows64& rows) {
  const auto count = static_cast<std::int64_t>(rows.values.size()) / rows.width;
  return HeadRows64(map.forward(Tensor::from(rows.values, {1, 1, count, rows.width})), 0);
}

/// o_t = Σ_{j<=t} (φ(q_t)·φ(k_j)) v_j, divided by the sum of the weights where the mixer normalises.
Core linear(const Json& options, const CoreSizes& sizes) {
  require_causal(sizes, "linear");
  const auto config = config_from_json<LinearConfig>(options, "mixer");
  require_input(feature_parameters(config.features(), sizes.width).empty() && !config.faithful, "--set",
                "a feature map with parameters and the faithful form have no core; use --whole");
  Generator generator(1);
  Initializer init(InitScheme::scaled, sizes.width, 1, generator);
  const auto map = std::make_shared<const FeatureMap>(config.features(), sizes.width, init);
  const auto k = static_cast<double>(feature_width(config.features(), sizes.width)),
             d = static_cast<double>(sizes.width + (config.normalise ? 1 : 0));
  constexpr auto kChunk = static_cast<double>(kernel::LinearAttentionProblem::kChunk);
  return {.run = [map, normalise = config.normalise](
                     const Tensor& q, const Tensor& k,
                     const Tensor& v) { return feature_attention(map->forward(q), map->forward(k), v, normalise); },
          .expect =
              [map, normalise = config.normalise](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v,
                                                  std::int64_t t) {
                const HeadRows64 queries = features(*map, q), keys = features(*map, k);
                std::vector<double> sum(static_cast<std::size_t>(v.width), 0.0);
                double total = 0;
                for (std::int64_t j = 0; j <= t; ++j) {
                  const double weight = dot(queries.row(t), keys.row(j));
                  total += weight;
                  for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight * v.row(j)[c];
                }
                if (normalise)
                  for (double& value : sum) value /= total;
                return sum;
              },
          .flops = static_cast<double>(sizes.positions) * (kChunk * (k + d) + 4 * k * d),
          .checkable = sizes.positions};
}

}  // namespace

HeadRows64::HeadRows64(const Tensor& heads, std::int64_t h)
    : values(select(select(heads, 0, 0), 0, h).to_vector<double>()), width(heads.size(3)) {}

Core make_core(const std::string& mixer, const Json& options, const CoreSizes& sizes) {
  static const std::map<std::string_view, Core (*)(const Json&, const CoreSizes&)> cores{
      {"dense", dense}, {"halo_s", halo_s}, {"linear", linear}, {"sliding_window", sliding_window}};
  const MixerEntry& entry = find_mixer(mixer);
  const auto found = cores.find(mixer);
  if (found == cores.end())
    throw UsageError(fmt::format("--mixer: '{}' has no core on q, k, v; use --whole", entry.name));
  return found->second(entry.normalise(options, "mixer"), sizes);
}

}  // namespace sq::cli
