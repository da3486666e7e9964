// tools/bench_chunk_cores.cpp: bsbr and gau on given q, k, v. Positions of a chunk read each other by a softmax,
// earlier chunks c through their memories K_cᵀ V_c, each with a factor.
#include "nn/mixers/bsbr_config.h"
#include "nn/mixers/gau.h"
#include "ops/block_linear_attention.h"
#include "ops/block_retrieval.h"
#include "ops/dense_attention.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/view.h"
#include "tools/bench_cores.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace sq::cli {
namespace {

/// Factors of the memories of chunks 0 … own-1 for the queries of chunk `own`.
using Factors = std::function<std::vector<double>(const HeadRows64& q, const HeadRows64& k, std::int64_t own)>;

auto local_and_memories(std::int64_t chunk, Factors factors) {
  return [chunk, factors = std::move(factors)](const HeadRows64& q, const HeadRows64& k, const HeadRows64& v,
                                               std::int64_t t) {
    const std::int64_t own = t / chunk;
    std::vector<double> sum =
        softmax_read(q.row(t), k, v, positions(own * chunk, t + 1), 1 / std::sqrt(static_cast<double>(q.width)));
    const std::vector<double> factor = factors(q, k, own);
    for (std::int64_t j = 0; j < own * chunk; ++j) {
      const double weight = factor[static_cast<std::size_t>(j / chunk)] * dot(q.row(t), k.row(j));
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight * v.row(j)[c];
    }
    return sum;
  };
}

std::int64_t chunk_for(std::int64_t chunk_size, const CoreSizes& sizes, std::string_view mixer) {
  require_causal(sizes, mixer);
  const std::int64_t chunk = std::min(chunk_size, sizes.positions);
  require_input(sizes.positions % chunk == 0, "--n",
                "{} is no multiple of the chunk size {}, which the core of '{}' needs; use --whole", sizes.positions,
                chunk, mixer);
  return chunk;
}

/// [B,H,T,D] -> [B,H,n,C,D].
Tensor in_chunks(const Tensor& heads, std::int64_t chunk) {
  return reshape(heads, {heads.size(0), heads.size(1), heads.size(2) / chunk, chunk, heads.size(3)});
}

Tensor local(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t chunk) {
  const auto sequences = [&](const Tensor& heads) {
    return reshape(heads, {heads.size(0), heads.size(1) * heads.size(2) / chunk, chunk, heads.size(3)});
  };
  return reshape(dense_attention(sequences(q), sequences(k), sequences(v)), q.shape());
}

double local_flops(std::int64_t chunk, const CoreSizes& sizes) {
  return 2 * static_cast<double>(sizes.positions) * static_cast<double>((chunk + 1) * sizes.width);
}

}  // namespace

/// The retriever of a chunk is its first query, the key of its memory its last key.
Core bsbr_core(const Json& options, const CoreSizes& sizes) {
  const std::int64_t chunk = chunk_for(config_from_json<BsbrConfig>(options, "mixer").chunk_size, sizes, "bsbr");
  const double root = std::sqrt(static_cast<double>(sizes.width)), share = 1 / (static_cast<double>(chunk) * root);
  const auto run = [chunk, share](const Tensor& q, const Tensor& k, const Tensor& v) {
    const Tensor keys = in_chunks(k, chunk);
    const Tensor states = matmul(transpose(keys, 3, 4), in_chunks(v, chunk)) * share;
    return local(q, k, v, chunk) +
           block_retrieval(q, select(in_chunks(q, chunk), 3, 0), select(keys, 3, chunk - 1), states, chunk);
  };
  const auto factors = [chunk, root, share](const HeadRows64& q, const HeadRows64& k, std::int64_t own) {
    std::vector<double> factor(static_cast<std::size_t>(own));
    double total = 0;
    for (std::size_t c = 0; c < factor.size(); ++c) {
      const auto last = static_cast<std::int64_t>(c + 1) * chunk - 1;
      total += factor[c] = std::exp(dot(q.row(own * chunk), k.row(last)) / root);
    }
    for (double& value : factor) value *= share / total;
    return factor;
  };
  const auto n = static_cast<double>(sizes.positions / chunk), d = static_cast<double>(sizes.width);
  return {
      .run = run,
      .expect = local_and_memories(chunk, factors),
      .flops = local_flops(chunk, sizes) + 4 * static_cast<double>(sizes.positions) * d * d + n * (n - 1) * (d + d * d),
      .checkable = sizes.positions};
}

/// The memory is a mean over the positions before the chunk.
Core gau_core(const Json& options, const CoreSizes& sizes) {
  const auto config = config_from_json<GauConfig>(options, "mixer");
  const std::int64_t chunk = chunk_for(config.chunk_size, sizes, "gau");
  const auto share = [chunk, root = std::sqrt(static_cast<double>(sizes.width)),
                      scaled = config.scaled](std::int64_t own) {
    return scaled && own > 0 ? 1 / (static_cast<double>(own * chunk) * root) : 1.0;
  };
  std::vector<double> shares;
  for (std::int64_t t = 0; t < sizes.positions; ++t) shares.push_back(share(t / chunk));
  const auto run = [chunk, shares](const Tensor& q, const Tensor& k, const Tensor& v) {
    const Tensor factor = packed_copy(Tensor::from(shares, {q.size(2), 1}), q.dtype());
    return local(q, k, v, chunk) + block_linear_attention(q, k, v, chunk) * factor;
  };
  const auto factors = [share](const HeadRows64&, const HeadRows64&, std::int64_t own) {
    return std::vector<double>(static_cast<std::size_t>(own), share(own));
  };
  const auto d = static_cast<double>(sizes.width);
  return {.run = run,
          .expect = local_and_memories(chunk, factors),
          .flops = local_flops(chunk, sizes) + 4 * static_cast<double>(sizes.positions) * d * d,
          .checkable = sizes.positions};
}

}  // namespace sq::cli
