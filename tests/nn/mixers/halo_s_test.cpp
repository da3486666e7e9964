#include "nn/mixers/halo_s.h"

#include "autograd/engine.h"
#include "nn/mixers/pattern.h"
#include "nn/mixers/summary_layout.h"
#include "ops/concat.h"
#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"
#include "tests/nn/mixers/reference_attention.h"

using namespace sq;
using namespace sq::test;

namespace {

/// 4 heads over 2, G = 2, w = 5, one offset, 2 random, unless told otherwise.
MixerCase halo_s(const Json& changes = Json::object()) {
  const MixerEntry& entry = find_mixer("halo_s");
  Json options = {{"num_heads", 4},    {"num_kv_heads", 2},      {"num_globals", 2},
                  {"local_window", 5}, {"dilated_offsets", {3}}, {"num_random", 2}};
  options.update(changes);
  return {&entry, entry.normalise(options, "mixer")};
}

HaloSConfig config_of(const MixerCase& c) { return config_from_json<HaloSConfig>(c.options, "mixer"); }

/// What token row `row` reads, with c shares for an index that counts c times; reads of globals come first.
std::vector<ReadRow> token_reads(const HaloSConfig& config, std::int64_t row, std::int64_t length,
                                 const MixerContext& context) {
  const SummaryLayout layout(config);
  const bool summary = config.globals_are_summaries();
  NeighborTable table = config.graph == HaloGraph::faithful
                            ? faithful_graph(length, context.layer, config)
                            : causal_graph(summary ? layout.token_of_row(row) + layout.globals : row, 1, context.layer,
                                           config, context.max_seq_len);
  if (config.duplicates == HaloDuplicates::once) hide_repeats(table);
  std::vector<ReadRow> reads;
  std::int64_t column = 0;
  for (const std::int32_t j : table.row(table.rows == 1 ? table.first_row : row)) {
    const bool global = column++ < config.num_globals;
    if (j < 0 || (!summary && j > row)) continue;
    std::int64_t read = j;
    if (summary)
      read = global ? layout.row_of_summary(layout.chunk_of_row(row), j) : layout.row_of_token(j - layout.globals);
    reads.push_back({read, !global || config.rotate_globals});
  }
  return reads;
}

/// What global row `row` reads: global rows up to itself, and in summary mode the tokens of the chunk before.
std::vector<ReadRow> global_reads(const HaloSConfig& config, std::int64_t row) {
  const SummaryLayout layout(config);
  std::vector<ReadRow> reads;
  for (std::int64_t r = 0; r <= row; ++r) {
    const bool global = config.globals_are_summaries() ? layout.is_summary(r) : true;
    if (global)
      reads.push_back({r, config.rotate_globals});
    else if (layout.chunk_of_row(r) == layout.chunk_of_row(row) - 1)
      reads.push_back({r, true});
  }
  return reads;
}

Tensor reference(const Mixer& mixer, const MixerCase& c, const Tensor& x) {
  const HaloSConfig config = config_of(c);
  const SummaryLayout layout(config);
  const bool summary = config.globals_are_summaries();
  const ReferenceAttention tokens(mixer, "attn.", config.num_heads, config.num_kv_heads);
  const ReferenceAttention globals(mixer, config.num_globals > 0 ? "global_attn." : "attn.", config.num_heads,
                                   config.num_kv_heads);
  const auto rows = rows_of(x, 0);
  std::vector<std::int64_t> positions;
  for (std::int64_t r = 0; r < x.size(1); ++r) positions.push_back(summary ? layout.position_of_row(r) : r);
  std::vector<ReferenceAttention::Row> y;
  for (std::int64_t r = 0; r < x.size(1); ++r) {
    const auto n = static_cast<std::size_t>(r);
    const bool global = summary ? layout.is_summary(r) : r < config.num_globals;
    y.push_back(global
                    ? globals(rows, positions, rows[n], positions[n], global_reads(config, r))
                    : tokens(rows, positions, rows[n], positions[n], token_reads(config, r, x.size(1), c.context())));
  }
  return to_rows(y);
}

std::vector<MixerCase> all_modes() {
  return {halo_s(),
          halo_s({{"rotate_globals", true}}),
          halo_s({{"num_globals", 0}}),
          halo_s({{"local_window", 40}, {"num_globals", 3}}),
          halo_s({{"local_window", 1}, {"dilated_offsets", Json::array()}, {"num_random", 0}}),
          halo_s({{"globals", "summary"}}),
          halo_s({{"globals", "summary"}, {"rotate_globals", true}, {"num_globals", 1}}),
          halo_s({{"graph", "faithful"}}),
          halo_s({{"graph", "faithful"}, {"duplicates", "once"}})};
}

}  // namespace

TEST_CASE("halo_s is its formula in every mode, at every length from one row on") {
  for (const MixerCase& c : all_modes()) {
    CAPTURE(c.name());
    const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
    for (const std::int64_t length : {1, 2, 3, 7, 8, 9, 14, 15, 23}) {
      CAPTURE(length);
      const Tensor x = random_rows(1, length, DType::f64);
      check_close(mixer->forward(x), reference(*mixer, c, x));
    }
  }
}

TEST_CASE("lists are kept by length and never mixed up") {
  const MixerCase c = halo_s({{"graph", "faithful"}});
  const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
  for (int round = 0; round < 2; ++round)
    for (const std::int64_t length : {9, 12, 5, 20, 7, 9, 31, 12}) {
      const Tensor x = random_rows(1, length, DType::f64);
      check_close(mixer->forward(x), reference(*mixer, c, x));
    }
}

TEST_CASE("rows of a padded batch have the faithful lists of their own length") {
  const MixerCase c = halo_s({{"graph", "faithful"}});
  const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
  const Tensor x = random_rows(3, 20, DType::f64);
  const Tensor y = mixer->forward(x, {.lengths = {20, 11, 0}, .documents = {}});
  for (const auto& [b, length] : {std::pair{0, 20}, std::pair{1, 11}}) {
    const Tensor row = slice(slice(x, 0, b, b + 1), 1, 0, length);
    check_close(slice(slice(y, 0, b, b + 1), 1, 0, length), mixer->forward(row));
  }
  // and they do change with the length
  CHECK(relative_error(mixer->forward(slice(x, 1, 0, 11)), slice(mixer->forward(x), 1, 0, 11)) > 1e-3);
}

TEST_CASE("the faithful graph has no state, and says what to do") {
  CHECK(!make_mixer(halo_s({{"graph", "faithful"}}))->can_step());
  CHECK_THROWS_WITH_AS(make_mixer(halo_s({{"graph", "faithful"}}))->make_state(1, 8),
                       "halo_s: in the faithful graph every neighbor list depends on the total length, so nothing can "
                       "be kept; recompute the whole sequence for each new token, or use the causal graph",
                       Error);
}

TEST_CASE("the causal graph's outputs do not change when the sequence goes on") {
  for (const MixerCase& c : {halo_s(), halo_s({{"globals", "summary"}})}) {
    const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
    const Tensor x = random_rows(1, 40, DType::f64), y = mixer->forward(x);
    for (const std::int64_t length : {1, 2, 6, 7, 8, 25})
      check_close(mixer->forward(slice(x, 1, 0, length)), slice(y, 1, 0, length));
  }
}

TEST_CASE("summaries carry information across chunks, fixed globals carry none") {
  for (const bool summary : {false, true}) {
    // Tokens that read only themselves and their globals: a change of token 0 can reach others through globals alone.
    const MixerCase c = halo_s({{"local_window", summary ? 4 : 1},
                                {"dilated_offsets", Json::array()},
                                {"num_random", 0},
                                {"globals", summary ? "summary" : "static"}});
    const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
    const Tensor x = random_rows(1, 24, DType::f64);
    Tensor other = packed_copy(x), changed = slice(other, 1, 2, 3);  // the first token
    fill_(changed, 2);
    // Three layers: summaries read the token, later summaries read these, tokens read them.
    const auto layers = [&](const Tensor& in) { return mixer->forward(mixer->forward(mixer->forward(in))); };
    const Tensor a = layers(x), b = layers(other);
    CHECK(bit_equal(packed(slice(a, 1, 23, 24)), packed(slice(b, 1, 23, 24))) == !summary);
  }
}

TEST_CASE("in the last layer global rows are left out and tokens are as ever") {
  for (const MixerCase& c : {halo_s(), halo_s({{"globals", "summary"}})}) {
    CAPTURE(c.name());
    MixerContext last = c.context();
    last.layer = 2;
    MixerContext inner = last;
    inner.num_layers = 4;
    const std::unique_ptr<Mixer> mixer = make_mixer(c, last), full = make_mixer(c, inner);
    const Tensor x = random_rows(2, 19), y = mixer->forward(x), z = full->forward(x);
    const SummaryLayout layout(config_of(c));
    for (std::int64_t r = 0; r < 19; ++r) {
      const bool global = config_of(c).globals_are_summaries() ? layout.is_summary(r) : r < 2;
      const Tensor row = packed(slice(y, 1, r, r + 1));
      CHECK(bit_equal(row, global ? Tensor::zeros_like(row) : packed(slice(z, 1, r, r + 1))));
    }
    backward(y, random_rows(2, 19, DType::f32, 4));
    for (const auto& [name, tensor] : mixer->named_parameters())
      CHECK(grad(tensor).defined() == name.starts_with("attn."));
    const std::unique_ptr<MixerState> state = mixer->make_state(2, 19);
    check_close(mixer->step(x, *state), y);
    CHECK(mixer->cost(10).state_bytes < full->cost(10).state_bytes);
  }
}

TEST_CASE("halo_s refuses a model that carries other global rows") {
  const MixerCase c = halo_s();
  MixerContext context = c.context();
  context.globals = {.count = 3, .chunk = 0};
  CHECK_THROWS_WITH_AS(make_mixer(c, context),
                       "halo_s: the model carries 3 global rows in chunks of 0, the mixer wants 2 in chunks of 0",
                       Error);
}

TEST_CASE("the decoding state grows by the keys and values of a row, whatever the length") {
  const std::unique_ptr<Mixer> mixer = make_mixer(halo_s());
  const std::int64_t row = 2 * 8 * 4;  // keys and values, 2 heads of 4 features, f32
  CHECK(mixer->cost(11).state_bytes - mixer->cost(10).state_bytes == row);
  CHECK(mixer->cost(10).state_bytes == (10 + 2 + 2) * row);  // the globals also for their own attention
}
