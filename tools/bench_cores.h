// tools/bench_cores.h: what mixers do to given q, k, v, without projections.
#pragma once

#include "nn/json.h"
#include "tensor/tensor.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace sq::cli {

/// Rows [T,D] of one head in f64.
struct HeadRows64 {
  std::vector<double> values;
  std::int64_t width = 0;

  /// Head h of the first row of a batch [B,H,T,D].
  HeadRows64(const Tensor& heads, std::int64_t h);
  std::span<const double> row(std::int64_t t) const {
    return std::span(values).subspan(static_cast<std::size_t>(t * width), static_cast<std::size_t>(width));
  }
};

/// q [B,H,T,D], k and v [B,Hkv,T,D] -> [B,H,T,D].
struct Core {
  std::function<Tensor(const Tensor& q, const Tensor& k, const Tensor& v)> run;
  /// What `run` gives at position t of one head, straight from the definition.
  std::function<std::vector<double>(const HeadRows64& q, const HeadRows64& k, const HeadRows64& v, std::int64_t t)>
      expect;
  double flops = 0;            // of one head, forward; a multiply-add counts two
  std::int64_t checkable = 0;  // positions below this one are cheap enough to check
};

struct CoreSizes {
  std::int64_t positions = 0;  // T
  std::int64_t width = 0;      // D
  bool causal = true;
};

// Parts that definitions are made of.
double dot(std::span<const double> a, std::span<const double> b);
/// begin … end-1.
std::vector<std::int64_t> positions(std::int64_t begin, std::int64_t end);
/// Σ_j softmax_j(scale·query·k_j) v_j over the `readable` j.
std::vector<double> softmax_read(std::span<const double> query, const HeadRows64& k, const HeadRows64& v,
                                 const std::vector<std::int64_t>& readable, double scale);
/// Throws UsageError for sizes that are not causal.
void require_causal(const CoreSizes& sizes, std::string_view mixer);

// Cores of mixers that work in chunks (bench_chunk_cores.cpp).
Core bsbr_core(const Json& options, const CoreSizes& sizes);
Core gau_core(const Json& options, const CoreSizes& sizes);

/// The core of a mixer with the options given (checked, as the registry reads them). Throws UsageError for a mixer that
/// has none, or one that is causal only.
Core make_core(const std::string& mixer, const Json& options, const CoreSizes& sizes);

}  // namespace sq::cli
