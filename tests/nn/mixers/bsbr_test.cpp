#include "nn/mixers/bsbr.h"

#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"

#include <algorithm>
#include <cmath>

using namespace sq;
using namespace sq::test;

namespace {

MixerCase bsbr(const Json& options) {
  const MixerEntry& entry = find_mixer("bsbr");
  return {&entry, entry.normalise(options, "mixer")};
}

const BsbrMixer& as_bsbr(const Mixer& mixer) { return dynamic_cast<const BsbrMixer&>(mixer); }

Tensor parameter(const Mixer& mixer, std::string_view name) {
  for (const auto& [own, tensor] : mixer.named_parameters())
    if (own == name) return tensor;
  throw Error(fmt::format("no parameter {}", name));
}

/// Gives `mixer` the parameters of `from` that it has too.
void share_parameters(Mixer& mixer, const Mixer& from) {
  for (auto& [name, tensor] : mixer.named_parameters()) copy_(tensor, parameter(from, name));
}

/// One head of one feature on rows of one number, without positions.
MixerContext tiny_context() {
  return {.hidden_size = 1, .num_layers = 1, .layer = 0, .max_seq_len = 64, .rope = false};
}

}  // namespace

TEST_CASE("bsbr: five positions in chunks of two by hand") {
  // All weights 1, but W_r = 0: every memory weighs the same. F = Σ x² of a chunk: 5 and 25.
  const std::unique_ptr<Mixer> mixer =
      make_mixer(bsbr({{"num_heads", 1}, {"chunk_size", 2}, {"state_norm", "none"}}), tiny_context(), DType::f64);
  for (auto& [name, tensor] : mixer->named_parameters()) fill_(tensor, name == "attn.meta_r_proj.weight" ? 0 : 1);
  const Tensor x = Tensor::from<double>({1, 2, 3, 4, 5}, {1, 5, 1});
  const auto two = [](double a, double b) {  // softmax(b·a, b·b) over the values a, b
    return (std::exp(b * a - b * b) * a + b) / (std::exp(b * a - b * b) + 1);
  };
  const Tensor want =
      Tensor::from<double>({1, two(1, 2), 3 + 5 * 3, two(3, 4) + 5 * 4, 5 + (5 + 25) / 2.0 * 5}, {1, 5, 1});
  check_close(mixer->forward(x), want);
  // mean: a chunk of two positions of one feature has half the memory.
  const std::unique_ptr<Mixer> mean =
      make_mixer(bsbr({{"num_heads", 1}, {"chunk_size", 2}}), tiny_context(), DType::f64);
  share_parameters(*mean, *mixer);
  CHECK(mean->forward(x).to_vector<double>()[2] == doctest::Approx(3 + 2.5 * 3));
}

TEST_CASE("bsbr with a chunk that holds the sequence is dense attention") {
  const MixerEntry& entry = find_mixer("dense");
  const MixerCase dense{&entry, entry.normalise({{"num_heads", 2}, {"num_kv_heads", 2}}, "mixer")};
  for (const std::int64_t size : {21, 4096}) {
    const std::unique_ptr<Mixer> mixer = make_mixer(bsbr({{"num_heads", 2}, {"chunk_size", size}}), DType::f64);
    const std::unique_ptr<Mixer> reference = make_mixer(dense, DType::f64);
    share_parameters(*reference, *mixer);
    const Tensor x = random_rows(2, 21, DType::f64);
    check_close(mixer->forward(x), reference->forward(x));
  }
}

TEST_CASE("bsbr's gate begins where it is asked to and scales what is retrieved") {
  const Tensor x = random_rows(1, 20, DType::f64);
  const std::unique_ptr<Mixer> plain = make_mixer(bsbr({{"num_heads", 2}, {"chunk_size", 4}}), DType::f64);
  for (const std::string start : {"one", "zero"}) {
    const MixerCase c = bsbr({{"num_heads", 2}, {"chunk_size", 4}, {"gate", start}});
    Generator generator(1);
    Initializer init(InitScheme::scaled, 16, 3, generator, {.dtype = DType::f64});
    const std::unique_ptr<Mixer> mixer = c.entry->make(c.options, c.context(), init);
    CHECK(parameter(*mixer, "attn.retrieval_gate").to_vector<double>() ==
          std::vector<double>(2, start == "one" ? 1 : 0));
    for (auto& [name, tensor] : mixer->named_parameters())
      if (name != "attn.retrieval_gate") copy_(tensor, parameter(*plain, name));
    const double factor = start == "one" ? 1 : 0;
    check_close(as_bsbr(*mixer).parts(x).retrieval, mul(as_bsbr(*plain).parts(x).retrieval, factor));
    if (start == "one") check_close(mixer->forward(x), plain->forward(x));
  }
}

TEST_CASE("bsbr's parts: weights of earlier chunks sum to 1, and local and retrieval make the result") {
  const Tensor x = random_rows(2, 22, DType::f64);
  for (const std::string retriever : {"first", "prev", "token"}) {
    const std::unique_ptr<Mixer> mixer =
        make_mixer(bsbr({{"num_heads", 2}, {"chunk_size", 5}, {"retriever", retriever}}), DType::f64);
    const BsbrParts parts = as_bsbr(*mixer).parts(x);
    CHECK(parts.states.shape() == Shape{2, 2, 5, 8, 8});
    CHECK(parts.h.shape() == Shape{2, 2, 5, 8});
    const std::int64_t rows = retriever == "token" ? 22 : 5, each = retriever == "token" ? 5 : 1;
    REQUIRE(parts.p.shape() == Shape{2, 2, rows, 5});
    const std::vector<double> p = parts.p.to_vector<double>();
    for (std::size_t i = 0; i < p.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / 5 % rows, column = static_cast<std::int64_t>(i) % 5;
      if (column >= row / each) CHECK(p[i] == 0);
    }
    for (const double total : sum(slice(parts.p, 2, each, rows), {3}).to_vector<double>())
      CHECK(total == doctest::Approx(1));
    check_close(slice(parts.retrieval, 2, 0, 5), Tensor::zeros({2, 2, 5, 8}, x.options()));
    const Tensor heads = reshape(transpose(add(parts.local, parts.retrieval), 1, 2), {2, 22, 16});
    check_close(Linear(parameter(*mixer, "attn.o_proj.weight")).forward(heads), mixer->forward(x));
  }
}

TEST_CASE("bsbr does not find chunks without a real position, and reads the last real row of the others") {
  const std::unique_ptr<Mixer> mixer = make_mixer(bsbr({{"num_heads", 2}, {"chunk_size", 4}}), DType::f64);
  std::vector<std::uint8_t> real(20, 1);
  for (const std::size_t t : {2, 3, 4, 5, 6, 7, 8}) real[t] = 0;
  const Tensor x = random_rows(1, 20, DType::f64), mask = Tensor::from(real, {1, 20});
  const BsbrParts parts = as_bsbr(*mixer).parts(x, mask);
  CHECK(slice(parts.p, 3, 1, 2).to_vector<double>() == std::vector<double>(10, 0));
  for (const double weight : select(select(parts.p, 2, 2), 2, 0).to_vector<double>()) CHECK(weight == 1);
  // Row 1 is the last real one of chunk 0, row 9 the first of chunk 2.
  const BsbrParts whole = as_bsbr(*mixer).parts(slice(x, 1, 1, 2));
  check_close(slice(parts.h, 2, 0, 1), whole.h);
  check_close(slice(parts.r, 2, 2, 3), as_bsbr(*mixer).parts(slice(x, 1, 9, 10)).r);
  CHECK(all_finite(mixer->forward(x, {.lengths = {}, .documents = {}, .mask = mask})));
}

TEST_CASE("bsbr with a compression that loses nothing is bsbr without") {
  // hidden_size / 1 = 16 numbers for memories of 4·4.
  const std::unique_ptr<Mixer> plain = make_mixer(bsbr({{"num_heads", 4}, {"chunk_size", 3}}), DType::f64);
  const std::unique_ptr<Mixer> mixer =
      make_mixer(bsbr({{"num_heads", 4}, {"chunk_size", 3}, {"compression_factor", 1}}), DType::f64);
  for (auto& [name, tensor] : mixer->named_parameters()) {
    if (!name.starts_with("attn.compress") && !name.starts_with("attn.decompress")) {
      copy_(tensor, parameter(*plain, name));
      continue;
    }
    fill_(tensor, 0);
    Tensor diagonal = tensor.alias({16}, {17}, 0);
    fill_(diagonal, 1);
  }
  const Tensor x = random_rows(2, 14, DType::f64);
  check_close(mixer->forward(x), plain->forward(x));
  CHECK(as_bsbr(*mixer).parts(x).states.shape() == Shape{2, 4, 5, 16});
}

TEST_CASE("bsbr as the original attends to later positions and cannot decode") {
  const std::unique_ptr<Mixer> mixer =
      make_mixer(bsbr({{"num_heads", 2}, {"chunk_size", 4}, {"faithful", true}}), DType::f64);
  const Tensor x = random_rows(1, 10, DType::f64), y = mixer->forward(x);
  Tensor other = packed_copy(x), changed = slice(other, 1, 9, 10);
  fill_(changed, 3);
  CHECK(relative_error(slice(mixer->forward(other), 1, 0, 1), slice(y, 1, 0, 1)) > 1e-6);
  CHECK(!mixer->can_step());
  CHECK_THROWS_WITH_AS(mixer->make_state(1, 8),
                       "bsbr: the faithful form reads later positions and cannot continue a sequence; set faithful to "
                       "false",
                       Error);
}

TEST_CASE("bsbr says what is wrong with its options") {
  CHECK_THROWS_WITH_AS(bsbr({{"chunk_size", 0}}),
                       "config: mixer.chunk_size is 0 but must be an integer from 1 to 16777216", UsageError);
  CHECK_THROWS_AS(bsbr({{"retriever", "last"}}), UsageError);
  const MixerCase c = bsbr({{"num_heads", 2}, {"compression_factor", 17}});
  CHECK_THROWS_WITH_AS(c.entry->check(c.options, c.context(), "mixer"),
                       "config: mixer.compression_factor is 17 but must be at most hidden_size, which is 16: nothing "
                       "would be left of a memory",
                       UsageError);
  CHECK_THROWS_AS(bsbr({{"num_heads", 3}}).entry->check(bsbr({{"num_heads", 3}}).options, c.context(), "mixer"),
                  UsageError);
}

TEST_CASE("bsbr costs what its matrices, pairs and chunks cost") {
  const MixerCase c = bsbr({{"num_heads", 4}, {"chunk_size", 4}});
  const std::unique_ptr<Mixer> mixer = make_mixer(c);
  // 10 rows: chunks of 4, 4 and 2 with 10 + 10 + 3 pairs; 3 retrievers and 3 keys; 3 pairs of chunks
  const double projections = 2 * 10 * 4 * 256 + 2 * 6 * 256, pairs = 4 * 23 * 4 * 4;
  CHECK(mixer->cost(10).forward_flops == projections + pairs + 4 * 10 * 4 * 16 + 3 * 2 * 4 * (4 + 16));
  CHECK(mixer->cost(10).parameters == 6 * 256);
  // Keys and values of four rows; two closed chunks; F and M of the open one
  CHECK(mixer->cost(10).state_bytes == 4 * (2 * 4 * 16 + 4 * (2 * (4 + 16) + 2 * 16)));
  CHECK(mixer->cost(4).state_bytes == 4 * 2 * 4 * 16);
}
