#include "tests/nn/mixers/contract_cases.h"

#include "ops/concat.h"
#include "ops/view.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace sq::test {

std::vector<MixerCase> contract_cases() {
  const std::multimap<std::string_view, Json> configurations = {
      {"bsbr", {{"num_heads", 2}, {"head_dim", 4}, {"chunk_size", 8}, {"gate", "one"}}},
      {"bsbr", {{"num_heads", 1}, {"head_dim", 6}, {"chunk_size", 5}, {"retriever", "prev"}, {"state_norm", "none"}}},
      {"bsbr",
       {{"num_heads", 2}, {"head_dim", 2}, {"chunk_size", 4}, {"retriever", "token"}, {"compression_factor", 3}}},
      {"delta_net", {{"num_heads", 2}, {"negative_eigenvalues", true}, {"conv_size", 4}, {"output_norm", true}}},
      {"delta_net", {{"num_heads", 4}, {"faithful", true}}},
      {"dense", {{"num_heads", 4}, {"num_kv_heads", 2}}},
      {"dense", {{"num_heads", 3}, {"num_kv_heads", 1}, {"head_dim", 6}}},
      {"gau", {{"chunk_size", 8}, {"expansion_factor", 1}}},
      {"gau", {{"chunk_size", 5}, {"expansion_factor", 1}, {"scaled", false}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_kv_heads", 2}, {"local_window", 8}, {"dilated_offsets", {1, 2}}, {"num_random", 2}}},
      {"halo_s",
       {{"num_heads", 2},
        {"num_kv_heads", 2},
        {"num_globals", 0},
        {"local_window", 2},
        {"dilated_offsets", Json::array()},
        {"num_random", 0}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_globals", 3}, {"local_window", 100}, {"rotate_globals", true}, {"num_random", 1}}},
      {"halo_s", {{"num_heads", 4}, {"local_window", 8}, {"dilated_offsets", {1}}, {"globals", "summary"}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_globals", 1}, {"local_window", 5}, {"globals", "summary"}, {"rotate_globals", true}}},
      {"hopfield", {{"num_heads", 4}, {"num_kv_heads", 2}, {"temperature", 0.7}, {"iterations", 2}}},
      {"linear", {{"num_heads", 2}}},
      {"linear", {{"num_heads", 4}, {"feature_map", "hadamard"}, {"conv_size", 3}, {"output_norm", true}}},
      {"linear", {{"num_heads", 2}, {"faithful", true}}},
      {"sliding_window", {{"num_heads", 4}, {"num_kv_heads", 2}, {"window", 8}}},
      {"sliding_window", {{"num_heads", 3}, {"num_kv_heads", 1}, {"head_dim", 6}, {"window", 15}}},
  };
  std::vector<MixerCase> result;
  for (const MixerEntry* entry : mixer_registry()) {
    const auto [first, last] = configurations.equal_range(entry->name);
    for (auto it = first; it != last; ++it) result.push_back({entry, entry->normalise(it->second, "mixer")});
    if (first == last) result.push_back({entry, entry->normalise(Json::object(), "mixer")});
  }
  return result;
}

Tensor positions_of(const Tensor& x, std::int64_t begin, std::int64_t end) { return slice(x, 1, begin, end); }
Tensor row_of(const Tensor& x, std::int64_t b) { return slice(x, 0, b, b + 1); }

bool same_bits(const Tensor& a, const Tensor& b) { return bit_equal(packed(a), packed(b)); }

Tensor in_steps(Mixer& mixer, const Tensor& x, const std::vector<std::int64_t>& sizes) {
  const std::unique_ptr<MixerState> state = mixer.make_state(x.size(0), x.size(1));
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0; begin < x.size(1);) {
    const std::int64_t size = parts.size() < sizes.size() ? sizes[parts.size()] : sizes.back();
    const std::int64_t end = std::min(x.size(1), begin + size);
    parts.push_back(mixer.step(positions_of(x, begin, end), *state));
    begin = end;
  }
  CHECK(state->lengths()[0] == x.size(1));
  return concat(parts, 1);
}

void fill_nan(const Tensor& x, std::int64_t b, std::int64_t begin, std::int64_t end) {
  Tensor padding = slice(row_of(x, b), 1, begin, end);
  fill_(padding, NAN);
}

}  // namespace sq::test
