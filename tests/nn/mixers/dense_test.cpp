#include "nn/mixers/dense.h"

#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"
#include "tests/nn/mixers/reference_attention.h"

using namespace sq;
using namespace sq::test;

namespace {

MixerCase dense(const Json& options) {
  const MixerEntry& entry = find_mixer("dense");
  return {&entry, entry.normalise(options, "mixer")};
}

Tensor reference(const Mixer& mixer, const Tensor& x, std::int64_t heads, std::int64_t kv_heads, bool causal,
                 bool rope) {
  const ReferenceAttention attention(mixer, "attn.", heads, kv_heads);
  const auto rows = rows_of(x, 0);
  std::vector<std::int64_t> positions;
  for (std::int64_t t = 0; t < x.size(1); ++t) positions.push_back(t);
  std::vector<ReferenceAttention::Row> y;
  for (std::int64_t t = 0; t < x.size(1); ++t) {
    std::vector<ReadRow> reads;
    for (std::int64_t j = 0; j < (causal ? t + 1 : x.size(1)); ++j) reads.push_back({j});
    y.push_back(attention(rows, positions, rows[static_cast<std::size_t>(t)], t, reads, rope));
  }
  return to_rows(y);
}

}  // namespace

TEST_CASE("dense attention is its formula, with grouped heads, with and without rotary positions, causal or not") {
  const Tensor x = random_rows(1, 11, DType::f64);
  for (const bool causal : {true, false})
    for (const bool rope : {true, false})
      for (const auto& [heads, kv_heads] : {std::pair{4, 2}, std::pair{4, 1}, std::pair{2, 2}}) {
        const MixerCase c = dense({{"num_heads", heads}, {"num_kv_heads", kv_heads}, {"causal", causal}});
        MixerContext context = c.context();
        context.rope = rope;
        const std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
        check_close(mixer->forward(x), reference(*mixer, x, heads, kv_heads, causal, rope));
      }
}

TEST_CASE("heads may have another width than hidden_size / num_heads") {
  const std::unique_ptr<Mixer> mixer =
      make_mixer(dense({{"num_heads", 3}, {"num_kv_heads", 1}, {"head_dim", 2}}), DType::f64);
  const Tensor x = random_rows(1, 7, DType::f64);
  check_close(mixer->forward(x), reference(*mixer, x, 3, 1, true, true));
  CHECK(mixer->parameter_count() == 16 * (6 + 2 + 2 + 6));
}

TEST_CASE("without causality every position sees the real positions of its row and no state exists") {
  const std::unique_ptr<Mixer> mixer =
      make_mixer(dense({{"num_heads", 2}, {"num_kv_heads", 2}, {"causal", false}}), DType::f64);
  const Tensor x = random_rows(2, 12, DType::f64);
  const Tensor y = mixer->forward(x, {.lengths = {12, 5}, .documents = {}});
  const Tensor short_row = slice(slice(x, 0, 1, 2), 1, 0, 5);
  check_close(slice(slice(y, 0, 1, 2), 1, 0, 5), mixer->forward(short_row));
  CHECK(!mixer->can_step());
  CHECK_THROWS_WITH_AS(mixer->make_state(1, 8),
                       "dense: attention that is not causal cannot continue a sequence; set causal to true", Error);
}

TEST_CASE("dense attention costs what its matrices and pairs cost") {
  const MixerCase c = dense({{"num_heads", 4}, {"num_kv_heads", 2}});
  const std::unique_ptr<Mixer> mixer = make_mixer(c);
  // q and o: 16·16 weights each, k and v: 8·16; 10·11/2 pairs in 4 heads of 4 features, score and sum
  CHECK(mixer->cost(10).forward_flops == 2 * 10 * (2 * 256 + 2 * 128) + 4 * 55 * 4 * 4);
  CHECK(mixer->cost(10).parameters == 768);
  CHECK(mixer->cost(10).state_bytes == 2 * 10 * 8 * 4);
}
