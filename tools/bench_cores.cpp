#include "tools/bench_cores.h"

#include "nn/mixers/delta_net.h"
#include "nn/mixers/halo_s_config.h"
#include "nn/mixers/hopfield.h"
#include "nn/mixers/linear.h"
#include "nn/mixers/pattern.h"
#include "nn/mixers/registry.h"
#include "nn/mixers/sliding_window.h"
#include "ops/concat.h"
#include "ops/delta_rule.h"
#include "ops/dense_attention.h"
#include "ops/elementwise.h"
#include "ops/l2_normalize.h"
#include "ops/linear_attention.h"
#include "ops/neighbor_attention.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <numeric>

namespace sq::cli {
namespace {

/// Softmax attention of query t over the positions that `readers` gives for it.
auto softmax_over(std::function<std::vector<std::int64_t>(std::int64_t t)> readers) {
  return [readers = std::move(readers)](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v, std::int64_t t) {
    return softmax_read(q.row(t), k, v, readers(t), 1 / std::sqrt(static_cast<double>(q.width)));
  };
}

double pair_flops(double pairs, const CoreSizes& sizes) { return 4 * pairs * static_cast<double>(sizes.width); }

Core dense(const Json&, const CoreSizes& sizes) {
  const std::int64_t n = sizes.positions;
  const auto count = static_cast<double>(n);
  return {
      .run = [causal = sizes.causal](const Tensor& q, const Tensor& k,
                                     const Tensor& v) { return dense_attention(q, k, v, {.causal = causal}); },
      .expect = softmax_over([n, causal = sizes.causal](std::int64_t t) { return positions(0, causal ? t + 1 : n); }),
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

Core sliding_window(const Json& options, const CoreSizes& sizes) {
  require_causal(sizes, "sliding_window");
  const std::int64_t window = config_from_json<SlidingWindowConfig>(options, "mixer").window;
  const std::int64_t n = sizes.positions, most = std::min(n, window + 1);
  return {.run = [window](const Tensor& q, const Tensor& k,
                          const Tensor& v) { return dense_attention(q, k, v, {.window = window + 1}); },
          .expect = softmax_over(
              [window](std::int64_t t) { return positions(std::max<std::int64_t>(0, t - window), t + 1); }),
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

/// Every query settles among the keys first; scores are divided by the temperature.
Core hopfield(const Json& options, const CoreSizes& sizes) {
  require_causal(sizes, "hopfield");
  const auto config = config_from_json<HopfieldConfig>(options, "mixer");
  const double scale = 1 / (config.temperature * std::sqrt(static_cast<double>(sizes.width)));
  const std::int64_t n = sizes.positions, rounds = config.iterations;
  return {.run =
              [scale, rounds](const Tensor& q, const Tensor& k, const Tensor& v) {
                Tensor xi = q;
                for (std::int64_t r = 0; r < rounds; ++r) xi = dense_attention(xi, k, k, {.scale = scale});
                return dense_attention(xi, k, v, {.scale = scale});
              },
          .expect =
              [scale, rounds](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v, std::int64_t t) {
                std::vector<double> xi(q.row(t).begin(), q.row(t).end());
                for (std::int64_t r = 0; r < rounds; ++r) xi = softmax_read(xi, k, k, positions(0, t + 1), scale);
                return softmax_read(xi, k, v, positions(0, t + 1), scale);
              },
          .flops = pair_flops(static_cast<double>((rounds + 1) * (n * (n + 1) / 2)), sizes),
          .checkable = n};
}

/// The delta rule with keys of length 1 and one β for all positions.
Core delta_net(const Json& options, const CoreSizes& sizes) {
  require_causal(sizes, "delta_net");
  const auto config = config_from_json<DeltaNetConfig>(options, "mixer");
  require_input(!config.faithful, "--set", "the faithful form has no core; use --whole");
  const auto d = static_cast<double>(sizes.width);
  const double beta = config.beta_value;
  constexpr auto kChunk = static_cast<double>(kernel::LinearAttentionProblem::kChunk);
  return {.run =
              [beta](const Tensor& q, const Tensor& k, const Tensor& v) {
                const Tensor shares = Tensor::full({q.size(0), q.size(1), q.size(2)}, beta, q.options());
                return delta_rule(l2_normalize(q), l2_normalize(k), v, shares, {.scale = 1}).y;
              },
          .expect =
              [beta](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v, std::int64_t t) {
                const auto width = static_cast<std::size_t>(v.width);
                const auto unit = [](std::span<const double> row) {
                  std::vector<double> result(row.begin(), row.end());
                  for (double& value : result) value /= std::sqrt(dot(row, row));
                  return result;
                };
                std::vector<double> state(width * width, 0.0), read;
                const auto ask = [&](const std::vector<double>& key) {
                  std::vector<double> answer(width, 0.0);
                  for (std::size_t a = 0; a < width; ++a)
                    for (std::size_t c = 0; c < width; ++c) answer[c] += key[a] * state[a * width + c];
                  return answer;
                };
                for (std::int64_t j = 0; j <= t; ++j) {
                  const std::vector<double> key = unit(k.row(j)), held = ask(key);
                  for (std::size_t a = 0; a < width; ++a)
                    for (std::size_t c = 0; c < width; ++c)
                      state[a * width + c] += beta * key[a] * (v.row(j)[c] - held[c]);
                }
                return ask(unit(q.row(t)));
              },
          .flops = static_cast<double>(sizes.positions) * (4 * kChunk * d + 6 * d * d),
          .checkable = std::min<std::int64_t>(sizes.positions, 2048)};
}

}  // namespace

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

std::vector<std::int64_t> positions(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

std::vector<double> softmax_read(std::span<const double> query, const HeadRows64& k, const HeadRows64& v,
                                 const std::vector<std::int64_t>& readable, double scale) {
  std::vector<double> sum(static_cast<std::size_t>(v.width), 0.0);
  double total = 0;
  for (const std::int64_t j : readable) {
    const double weight = std::exp(scale * dot(query, k.row(j)));
    total += weight;
    for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight * v.row(j)[c];
  }
  for (double& value : sum) value /= total;
  return sum;
}

void require_causal(const CoreSizes& sizes, std::string_view mixer) {
  require_input(sizes.causal, "--causal", "false, but '{}' is causal by construction", mixer);
}

HeadRows64::HeadRows64(const Tensor& heads, std::int64_t h)
    : values(select(select(heads, 0, 0), 0, h).to_vector<double>()), width(heads.size(3)) {}

Core make_core(const std::string& mixer, const Json& options, const CoreSizes& sizes) {
  static const std::map<std::string_view, Core (*)(const Json&, const CoreSizes&)> cores{
      {"bsbr", bsbr_core}, {"delta_net", delta_net}, {"dense", dense},   {"gau", gau_core},
      {"halo_s", halo_s},  {"hopfield", hopfield},   {"linear", linear}, {"sliding_window", sliding_window}};
  const MixerEntry& entry = find_mixer(mixer);
  const auto found = cores.find(mixer);
  if (found == cores.end())
    throw UsageError(fmt::format("--mixer: '{}' has no core on q, k, v; use --whole", entry.name));
  return found->second(entry.normalise(options, "mixer"), sizes);
}

}  // namespace sq::cli
