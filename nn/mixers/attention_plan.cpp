#include "nn/mixers/attention_plan.h"

#include "nn/fields.h"

#include <nlohmann/json.hpp>

namespace sq {

NamedShapes AttentionPlan::parameters(std::string_view prefix, bool bias) const {
  NamedShapes shapes;
  const auto add = [&](std::string_view name, std::int64_t out, std::int64_t in) {
    shapes.emplace_back(fmt::format("{}.{}_proj.weight", prefix, name), Shape{out, in});
    if (bias) shapes.emplace_back(fmt::format("{}.{}_proj.bias", prefix, name), Shape{out});
  };
  add("q", num_heads * head_dim, hidden_size);
  add("k", num_kv_heads * head_dim, hidden_size);
  add("v", num_kv_heads * head_dim, hidden_size);
  add("o", hidden_size, num_heads * head_dim);
  return shapes;
}

void check_head_groups(std::int64_t num_heads, std::int64_t num_kv_heads, std::string_view path) {
  require_input(num_heads % num_kv_heads == 0, "config", "{} is {} but must be a multiple of num_kv_heads, which is {}",
                join_path(path, "num_heads"), num_heads, num_kv_heads);
}

void check_head_size(std::int64_t hidden_size, std::int64_t num_heads, std::string_view path) {
  require_input(hidden_size % num_heads == 0, "config", "hidden_size is {} but must be a multiple of {}, which is {}",
                hidden_size, join_path(path, "num_heads"), num_heads);
}

void check_rotary(std::int64_t head_dim, bool rope, std::string_view path) {
  require_input(
      !rope || head_dim % 2 == 0, "config",
      "{}: {} features a head, but rotary positions need an even number; change hidden_size, num_heads or positions",
      path.empty() ? "num_heads" : path, head_dim);
}

void default_kv_heads(const Json& given, std::int64_t& num_kv_heads) {
  const auto heads = given.find("num_heads");
  if (heads != given.end() && heads->is_number_integer()) num_kv_heads = heads->get<std::int64_t>();
}

void check_head_dim(std::int64_t head_dim, std::int64_t hidden_size, std::int64_t num_heads, std::string_view path) {
  constexpr std::int64_t kWidest = 1 << 18;
  if (head_dim == 0) check_head_size(hidden_size, num_heads, path);
  require_input(num_heads * head_size(head_dim, hidden_size, num_heads) <= kWidest, "config",
                "{} is {} but num_heads times head_dim must be at most {}", join_path(path, "head_dim"), head_dim,
                kWidest);
}

}  // namespace sq
