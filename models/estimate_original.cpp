#include "models/estimate_original.h"

#include <fmt/format.h>

namespace sq::original {
namespace {

/// Rounded to `decimals` places, the exact binary value decides.
double rounded(double value, int decimals) { return std::stod(fmt::format("{:.{}f}", value, decimals)); }

constexpr double kMebibyte = 1 << 20;

/// fH² for SwiGLU (three matrices of 4H·H) or GELU (two).
std::int64_t feed_forward_parameters(const OriginalHaloS& c) {
  return (c.use_swiglu ? 12 : 8) * c.hidden_size * c.hidden_size;
}

Flops flops(const OriginalHaloS& c, std::int64_t n, std::int64_t matrices) {
  const std::int64_t h = c.hidden_size, d = c.head_dim(), q = c.num_heads * d, kv = c.num_kv_heads * d;
  const std::int64_t g = c.num_globals, s = n + g;
  require_input(product({12, s, 4 * h, h + c.num_neighbors() + c.vocab_size, c.num_layers}) < 9e18, "halo_s",
                "{} tokens are too many for a model of this size: the counts exceed 63 bits", n);
  const std::int64_t sparse = 2 * n * h * (q + 2 * kv) + 4 * n * c.num_neighbors() * q + 2 * n * q * h;
  const std::int64_t global = 2 * g * h * q + 4 * s * h * kv + 4 * g * s * q + 2 * g * q * h;
  return {.attention = c.num_layers * sparse,
          .global = c.num_layers * global,
          .feed_forward = c.num_layers * 2 * s * h * 4 * h * matrices,
          .lm_head = 2 * n * h * c.vocab_size};
}

std::string with_commas(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return digits;
}

}  // namespace

std::int64_t parameters(const OriginalHaloS& c) {
  const std::int64_t h = c.hidden_size;
  const std::int64_t attention = 2 * (2 * h * h + 2 * h * c.num_kv_heads * c.head_dim());
  return 2 * c.vocab_size * h + c.num_globals * h + 2 * h +
         c.num_layers * (attention + feed_forward_parameters(c) + 4 * h);
}

std::int64_t baseline_parameters(const OriginalHaloS& c) {
  const std::int64_t h = c.hidden_size;
  return 2 * c.vocab_size * h + 2 * h + c.num_layers * (4 * h * h + feed_forward_parameters(c) + 4 * h);
}

double Flops::gigaflops() const { return rounded(static_cast<double>(total()) / 1e9, 4); }

Flops model_flops(const OriginalHaloS& config, std::int64_t tokens) {
  return flops(config, tokens, config.use_swiglu ? 3 : 2);
}

Flops standalone_flops(const OriginalHaloS& config, std::int64_t tokens) { return flops(config, tokens, 2); }

Memory memory(const OriginalHaloS& c, std::int64_t batch, std::int64_t tokens) {
  const double weights = 4 * static_cast<double>(parameters(c)) / kMebibyte;
  const double cache = product({batch, tokens, c.num_kv_heads, c.head_dim(), 2, c.num_layers, 2}) / kMebibyte;
  return {
      .parameters_mb = rounded(weights, 2), .kv_cache_mb = rounded(cache, 2), .total_mb = rounded(weights + cache, 2)};
}

std::string summary(const OriginalHaloS& c) {
  const std::string thick(60, '='), thin(60, '-');
  std::string text = thick + "\nHALO-S Model v2.0\n" + thick + "\n";
  const auto line = [&](std::string_view name, const auto& value) {
    text += fmt::format("  {:<16} {}\n", fmt::format("{}:", name), value);
  };
  line("vocab_size", c.vocab_size);
  line("hidden_size", c.hidden_size);
  line("num_layers", c.num_layers);
  line("num_heads", c.num_heads);
  line("num_kv_heads", c.num_kv_heads);
  line("num_globals", c.num_globals);
  line("local_window", c.local_window);
  line("num_neighbors", c.num_neighbors());
  line("max_seq_len", c.max_seq_len);
  line("use_swiglu", c.use_swiglu ? "True" : "False");
  line("grad_ckpt", "False");
  text += fmt::format("{}\n  Total parámetros: {}\n  Memoria estimada: {:.2f} MB\n{}", thin, with_commas(parameters(c)),
                      memory(c, 1, 1024).total_mb, thick);
  return text;
}

}  // namespace sq::original
