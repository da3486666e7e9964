#include "nn/mixers/sliding_window.h"

#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"
#include "tests/nn/mixers/reference_attention.h"

using namespace sq;
using namespace sq::test;

namespace {

MixerCase sliding(const Json& options) {
  const MixerEntry& entry = find_mixer("sliding_window");
  return {&entry, entry.normalise(options, "mixer")};
}

Tensor reference(const Mixer& mixer, const Tensor& x, std::int64_t heads, std::int64_t kv_heads, std::int64_t window,
                 bool rope) {
  const ReferenceAttention attention(mixer, "attn.", heads, kv_heads);
  const auto rows = rows_of(x, 0);
  std::vector<std::int64_t> positions;
  for (std::int64_t t = 0; t < x.size(1); ++t) positions.push_back(t);
  std::vector<ReferenceAttention::Row> y;
  for (std::int64_t t = 0; t < x.size(1); ++t) {
    std::vector<ReadRow> reads;
    for (std::int64_t j = std::max<std::int64_t>(0, t - window); j <= t; ++j) reads.push_back({j});
    y.push_back(attention(rows, positions, rows[static_cast<std::size_t>(t)], t, reads, rope));
  }
  return to_rows(y);
}

}  // namespace

TEST_CASE("a sliding window is attention to the position itself and `window` before it") {
  const Tensor x = random_rows(1, 11, DType::f64);
  for (const std::int64_t window : {0, 1, 4, 10, 11, 100})
    for (const bool rope : {true, false}) {
      const MixerCase c = sliding({{"num_heads", 4}, {"num_kv_heads", 2}, {"window", window}});
      MixerContext context = c.context();
      context.rope = rope;
      const std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
      check_close(mixer->forward(x), reference(*mixer, x, 4, 2, window, rope));
    }
}

TEST_CASE("a window longer than the sequence is dense attention") {
  const std::unique_ptr<Mixer> mixer = make_mixer(sliding({{"num_heads", 2}, {"window", 1 << 30}}), DType::f64);
  const MixerEntry& entry = find_mixer("dense");
  const std::unique_ptr<Mixer> dense =
      make_mixer({&entry, entry.normalise({{"num_heads", 2}, {"num_kv_heads", 2}}, "mixer")}, DType::f64);
  const Tensor x = random_rows(2, 30, DType::f64);
  check_close(mixer->forward(x), dense->forward(x));
  CHECK(mixer->cost(30).forward_flops == dense->cost(30).forward_flops);
  CHECK(mixer->cost(30).state_bytes == dense->cost(30).state_bytes);
}

TEST_CASE("the state of a sliding window does not grow beyond window + 1 positions") {
  const std::unique_ptr<Mixer> mixer = make_mixer(sliding({{"num_heads", 4}, {"num_kv_heads", 2}, {"window", 6}}));
  for (const std::int64_t tokens : {7, 100, 1000000}) CHECK(mixer->cost(tokens).state_bytes == 2 * 7 * 8 * 4);
  CHECK(mixer->cost(3).state_bytes == 2 * 3 * 8 * 4);
  // 4 rows of one, two, three … keys, then six rows of four: 4 heads of 4 features, score and sum
  const std::unique_ptr<Mixer> narrow = make_mixer(sliding({{"num_heads", 4}, {"window", 3}}));
  CHECK(narrow->cost(10).forward_flops == 2 * 10 * 4 * 256 + 4 * (1 + 2 + 3 + 7 * 4) * 16);
}

TEST_CASE("options of a sliding window are checked") {
  const MixerEntry& entry = find_mixer("sliding_window");
  CHECK(entry.normalise({{"num_heads", 2}}, "mixer")["num_kv_heads"] == 2);
  CHECK_THROWS_WITH_AS(entry.normalise({{"window", -1}}, "mixer"),
                       "config: mixer.window is -1 but must be an integer from 0 to 1073741824", UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"num_heads", 4}, {"num_kv_heads", 3}}, "mixer"),
                       "config: mixer.num_heads is 4 but must be a multiple of num_kv_heads, which is 3", UsageError);
  const MixerCase c = sliding({{"num_heads", 3}});
  CHECK_THROWS_WITH_AS(c.entry->check(c.options, c.context(), "mixer"),
                       "config: hidden_size is 16 but must be a multiple of mixer.num_heads, which is 3", UsageError);
}
