#include "nn/mixers/bsbr_config.h"

#include <algorithm>

namespace sq {

AttentionPlan BsbrConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

std::int64_t BsbrConfig::memory_size(const MixerContext& context) const {
  const std::int64_t width = plan(context).head_dim;
  return compresses() ? compressed_size(context) : width * width;
}

void BsbrConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  check_rotary(plan(context).head_dim, context.rope, path);
  require_input(compression_factor <= context.hidden_size, "config",
                "{} is {} but must be at most hidden_size, which is {}: nothing would be left of a memory",
                join_path(path, "compression_factor"), compression_factor, context.hidden_size);
}

NamedShapes BsbrConfig::parameters(const MixerContext& context) const {
  const AttentionPlan a = plan(context);
  NamedShapes shapes;
  if (gate != BsbrGate::none) shapes.emplace_back("attn.retrieval_gate", Shape{num_heads});
  for (auto& shape : a.parameters("attn", context.bias)) shapes.push_back(std::move(shape));
  const auto add = [&](std::string_view name, std::int64_t out, std::int64_t in) {
    shapes.emplace_back(fmt::format("attn.{}.weight", name), Shape{out, in});
    if (context.bias) shapes.emplace_back(fmt::format("attn.{}.bias", name), Shape{out});
  };
  add("meta_r_proj", num_heads * a.head_dim, context.hidden_size);
  add("meta_h_proj", num_heads * a.head_dim, context.hidden_size);
  if (compresses()) {
    const std::int64_t whole = a.head_dim * a.head_dim;
    add("compress_proj", compressed_size(context), whole);
    add("decompress_proj", whole, compressed_size(context));
  }
  return shapes;
}

/// With n chunks of C of R rows: pairs within chunks, states and their reading R·D² each, n(n-1)/2 pairs of chunks.
Cost BsbrConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens), size = std::min(chunk_size, rows);
  const std::int64_t whole = size > 0 ? rows / size : 0, rest = rows - whole * size, n = whole + (rest > 0 ? 1 : 0);
  const std::int64_t pairs = whole * (size * (size + 1) / 2) + rest * (rest + 1) / 2;
  const std::int64_t d = a.head_dim, h = num_heads, kept = closed_chunks(rows);
  Cost cost{.parameters = count_elements(parameters(context)),
            .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
            .state_bytes = a.cache_bytes(size)};
  if (kept == 0) return cost;
  const bool each = retriever == BsbrRetriever::token;
  // Rows of x that become retrievers, and how many closed chunks they read together.
  const std::int64_t retrievers = each ? rows : n;
  const double reads =
      each ? static_cast<double>(size) * static_cast<double>(whole) * static_cast<double>(whole - 1) / 2 +
                 static_cast<double>(rest) * static_cast<double>(whole)
           : static_cast<double>(n) * static_cast<double>(n - 1) / 2;
  cost.forward_flops += product({2, retrievers + n, context.hidden_size, h, d}) + product({4, rows, h, d, d}) +
                        reads * product({2, h, d, d + 1});
  if (compresses()) cost.forward_flops += product({4, n, h, d * d, compressed_size(context)});
  // f32: for each closed chunk its key and its memory; the memory of the open chunk and, unless every row mixes for
  // itself, the mixture that its rows read.
  cost.state_bytes += 4 * h * (kept * (d + memory_size(context)) + (each ? 1 : 2) * d * d);
  return cost;
}

}  // namespace sq
