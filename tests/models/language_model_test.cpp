#include "models/language_model.h"

#include "autograd/engine.h"
#include "models/model_folder.h"
#include "ops/concat.h"
#include "ops/view.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

#include <nlohmann/json.hpp>

using namespace sq;
using namespace sq::test;

namespace {

ModelConfig config_of(const std::string& text) { return read_model_document(Json::parse(text)); }

/// One small model of each kind, f64 so that comparisons can be tight.
const std::vector<std::pair<std::string, std::string>>& kinds() {
  static const std::vector<std::pair<std::string, std::string>> table{
      {"halo_s static", R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,
        "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":2,"num_globals":2,"local_window":4,"dilated_offsets":[1,2],"num_random":1}})"},
      {"halo_s summary", R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,
        "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":2,"num_globals":2,"local_window":4,"dilated_offsets":[1],"num_random":1,"globals":"summary"}})"},
      {"halo_s without globals", R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,
        "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":1,"num_globals":0,"local_window":3,"dilated_offsets":[],"num_random":0}})"},
      {"dense",
       R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,"mixer":{"type":"dense","num_heads":4,"num_kv_heads":2}})"},
      {"gpt2",
       R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,"mixer":{"type":"dense","num_heads":4,"num_kv_heads":4},
        "positions":{"type":"learned"},"feed_forward":{"type":"gelu_tanh","bias":true},"bias":true,"tie_embeddings":true})"},
      {"sinusoidal positions, weighted residual",
       R"({"vocab_size":17,"hidden_size":15,"num_layers":2,"max_seq_len":64,"positions":"sinusoidal","residual":{"type":"weighted","keep":0.8},
        "mixer":{"type":"dense","num_heads":3,"num_kv_heads":1},"feed_forward":{"type":"gelu","inner_dropout":0.5},"embedding_dropout":0.5})"}};
  return table;
}

std::unique_ptr<LanguageModel> make(const std::string& text, DType dtype = DType::f64) {
  Generator generator(3);
  auto model = std::make_unique<LanguageModel>(config_of(text), TensorOptions{.dtype = dtype}, generator);
  // Larger weights than at the start of training, so that positions really influence each other.
  for (auto& [name, tensor] : model->named_parameters())
    if (tensor.rank() == 2) fill_normal_(tensor, 0, 0.3, generator);
  model->eval();
  return model;
}

Tensor random_ids(std::int64_t batch, std::int64_t tokens, std::uint64_t seed = 5) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < batch * tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(random_below(seed, 0, static_cast<std::uint64_t>(i), 17)));
  return Tensor::from(ids, {batch, tokens});
}

}  // namespace

TEST_CASE("logits depend on no later token, and not on the length") {
  for (const auto& kind : kinds()) {
    const auto& name = kind.first;
    const auto& text = kind.second;
    CAPTURE(name);
    const auto model = make(text);
    const NoGrad unrecorded;
    const Tensor ids = random_ids(1, 21);
    const Tensor whole = model->forward(ids);
    for (const std::int64_t prefix : {1, 4, 5, 13})
      check_close(model->forward(slice(ids, 1, 0, prefix)), slice(whole, 1, 0, prefix));
  }
}

TEST_CASE("reading step by step gives the logits of the whole pass, rows of different lengths included") {
  for (const auto& kind : kinds()) {
    const auto& name = kind.first;
    const auto& text = kind.second;
    CAPTURE(name);
    const auto model = make(text);
    const NoGrad unrecorded;
    const Tensor ids = random_ids(2, 23);
    const Tensor whole = model->forward(ids);
    const auto state = model->make_state(2, 30);
    // Row 0 reads 5, 1, 7, 0, 2 tokens, row 1 reads 3, 6, 1, 4, 8.
    const std::vector<std::vector<std::int64_t>> counts{{5, 3}, {1, 6}, {7, 1}, {0, 4}, {2, 8}};
    std::vector<std::int64_t> at{0, 0};
    for (const auto& count : counts) {
      const std::int64_t width = std::max(count[0], count[1]);
      std::vector<std::int64_t> fresh(static_cast<std::size_t>(2 * width), 0);
      const auto all = ids.to_vector<std::int64_t>();
      for (std::size_t b = 0; b < 2; ++b)
        for (std::int64_t t = 0; t < count[b]; ++t)
          fresh[b * static_cast<std::size_t>(width) + static_cast<std::size_t>(t)] =
              all[b * 23 + static_cast<std::size_t>(at[b] + t)];
      const Tensor logits = model->step(Tensor::from(fresh, {2, width}), *state, count);
      for (std::size_t b = 0; b < 2; ++b) {
        at[b] += count[b];
        if (count[b] > 0)
          check_close(select(logits, 0, static_cast<int>(b)),
                      select(select(whole, 0, static_cast<int>(b)), 0, at[b] - 1));
      }
    }
    CHECK(state->tokens()[0] == 15);
    CHECK(state->tokens()[1] == 22);
    CHECK(state->bytes() > 0);
    CHECK_THROWS_AS(model->step(random_ids(2, 9), *state), Error);  // beyond the capacity
    CHECK(state->tokens()[1] == 22);
  }
}

TEST_CASE("padding and packing change nothing") {
  for (const auto& kind : kinds()) {
    const auto& name = kind.first;
    const auto& text = kind.second;
    CAPTURE(name);
    const auto model = make(text);
    const NoGrad unrecorded;
    const Tensor ids = random_ids(2, 11);
    const Tensor first = model->forward(slice(slice(ids, 0, 0, 1), 1, 0, 6)),
                 second = model->forward(slice(ids, 0, 1, 2));
    const Tensor both = model->forward(ids, {.lengths = {6, 11}, .documents = {}});
    check_close(slice(slice(both, 0, 0, 1), 1, 0, 6), first);
    check_close(slice(both, 0, 1, 2), second);
    const Tensor packed_ids = concat({slice(slice(ids, 0, 0, 1), 1, 0, 6), slice(ids, 0, 1, 2)}, 1);
    const Tensor packed_logits = model->forward(packed_ids, {.lengths = {}, .documents = {{0, 6}}});
    check_close(slice(packed_logits, 1, 0, 6), first);
    check_close(slice(packed_logits, 1, 6, 17), second);
    const Tensor targets = random_ids(2, 11, 6);
    const double alone =
        6 * model->loss(slice(slice(ids, 0, 0, 1), 1, 0, 6), slice(slice(targets, 0, 0, 1), 1, 0, 6)).item() +
        11 * model->loss(slice(ids, 0, 1, 2), slice(targets, 0, 1, 2)).item();
    CHECK(model->loss(ids, targets, {}, {.lengths = {6, 11}, .documents = {}}).item() ==
          doctest::Approx(alone / 17).epsilon(1e-10));
  }
}

TEST_CASE("the fused loss is the cross-entropy of the logits, and every parameter learns from it") {
  for (const auto& kind : kinds()) {
    const auto& name = kind.first;
    const auto& text = kind.second;
    CAPTURE(name);
    const auto model = make(text);
    const Tensor ids = random_ids(2, 13), targets = random_ids(2, 13, 6);
    const Tensor loss = model->loss(ids, targets);
    CHECK(loss.item() == doctest::Approx(cross_entropy(model->forward(ids), targets, {}).item()).epsilon(1e-10));
    backward(loss);
    const NamedTensors parameters = model->named_parameters();
    for (const auto& entry : parameters) {
      const auto& parameter = entry.first;
      const auto& tensor = entry.second;
      CAPTURE(parameter);
      // Nothing reads the global rows that the last layer makes.
      if (parameter.starts_with("layers.1.global_attn")) continue;
      REQUIRE(grad(tensor).defined());
      CHECK(all_finite(grad(tensor)));
      CHECK(relative_error(Tensor::zeros_like(tensor), grad(tensor)) > 0);
    }
  }
}

TEST_CASE("recomputing layers changes neither loss nor gradients, with dropout") {
  auto config = config_of(kinds()[0].second);
  config.dropout = 0.2;
  std::vector<Tensor> gradients;
  for (const bool recompute : {false, true}) {
    Generator generator(3);
    LanguageModel model(config, {}, generator);
    model.set_recompute_layers(recompute);
    default_generator() = Generator(9);
    backward(model.loss(random_ids(2, 13), random_ids(2, 13, 6)));
    gradients.push_back(grad(model.named_parameters()[3].second));
  }
  CHECK(bit_equal(gradients[0], gradients[1]));
}

TEST_CASE("with one chunk, summary globals are static globals") {
  const auto fixed = make(R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,
      "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":2,"num_globals":2,"local_window":8,"dilated_offsets":[1],"num_random":0}})");
  const auto summary = make(R"({"vocab_size":17,"hidden_size":16,"num_layers":2,"max_seq_len":64,
      "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":2,"num_globals":2,"local_window":8,"dilated_offsets":[1],"num_random":0,"globals":"summary"}})");
  const Tensor ids = random_ids(2, 8);
  check_close(summary->forward(ids), fixed->forward(ids));
  const Tensor longer = random_ids(2, 30);
  CHECK(relative_error(summary->forward(longer), fixed->forward(longer)) > 1e-3);
}

TEST_CASE("a saved model comes back to the bit, in evaluation mode, and misfits are listed") {
  const TemporaryFolder folder;
  for (const auto& kind : kinds()) {
    const auto& text = kind.second;
    const auto model = make(text, DType::f32);
    save_model(folder.path() / "model", *model);
    const auto again = load_model(folder.path() / "model");
    CHECK_FALSE(again->training());
    const Tensor ids = random_ids(1, 9);
    CHECK(bit_equal(model->forward(ids), again->forward(ids)));
  }
  const auto model = make(kinds()[3].second, DType::f32);
  NamedTensors state = model->state_dict();
  state.pop_back();
  state.emplace_back("extra", Tensor::zeros({2}));
  state[0].second = Tensor::zeros({3, 3});
  save_safetensors(folder.path() / "model" / "model.safetensors", state);
  Json document = model_document(model->config());
  try {
    model->load_state_dict(state, "file");
    FAIL("accepted");
  } catch (const UsageError& error) {
    const std::string text = error.what();
    CHECK(text.find("missing: lm_head.weight") != std::string::npos);
    CHECK(text.find("unexpected: extra") != std::string::npos);
    CHECK(text.find("token_emb.weight is f32[3,3], the model has f32[17,16]") != std::string::npos);
  }
  CHECK_THROWS_AS(load_model(folder.path() / "nothing"), UsageError);
}

TEST_CASE("a model loaded in 16 bits holds its matrices so, computes in f32, and decodes what it computes") {
  for (const auto& kind : kinds()) {
    const auto& name = kind.first;
    const auto& text = kind.second;
    CAPTURE(name);
    const auto model = make(text, DType::f32);
    const TemporaryFolder folder;
    save_model(folder.path(), *model);
    const auto half = load_model(folder.path(), {.dtype = DType::bf16});
    std::int64_t full = 0;
    for (const auto& entry : half->named_parameters()) {
      const auto& parameter = entry.first;
      const auto& tensor = entry.second;
      const bool matrix = tensor.rank() == 2 && parameter != "global_memory";
      CAPTURE(parameter);
      CHECK(tensor.dtype() == (matrix ? DType::bf16 : DType::f32));
      full += matrix ? 0 : 1;
    }
    CHECK(full > 0);
    const NoGrad unrecorded;
    const Tensor ids = random_ids(2, 9), logits = half->forward(ids);
    CHECK(logits.dtype() == DType::f32);
    CHECK(half->options().dtype == DType::f32);
    CHECK(relative_error(logits, model->forward(ids)) < 0.1);
    CHECK(half->loss(ids, ids).item() == doctest::Approx(model->loss(ids, ids).item()).epsilon(0.1));

    // The same numbers from a model in f32 whose weights were rounded: nothing else is.
    const auto rounded = make(text, DType::f32);
    for (const auto& entry : rounded->named_parameters()) {
      const auto& parameter = entry.first;
      const auto& tensor = entry.second;
      Tensor target = tensor;
      if (tensor.rank() == 2 && parameter != "global_memory") copy_(target, packed_copy(tensor, DType::bf16));
    }
    check_close(logits, rounded->forward(ids));
    const auto state = half->make_state(2, 9);
    half->step(slice(ids, 1, 0, 5), *state);
    for (std::int64_t t = 5; t < 8; ++t) half->step(slice(ids, 1, t, t + 1), *state);
    check_close(half->step(slice(ids, 1, 8, 9), *state), select(logits, 1, 8));
  }
}

TEST_CASE("wrong input is refused with the numbers that clash" * doctest::test_suite("cpu")) {
  const auto model = make(kinds()[0].second, DType::f32);
  CHECK_THROWS_WITH_AS(model->forward(random_ids(1, 63)),
                       "model: 63 tokens exceed the model's limit of 62 (max_seq_len 64 with 2 global rows)", Error);
  CHECK_THROWS_AS(model->forward(Tensor::from<std::int64_t>({17}, {1, 1})), Error);
  CHECK_THROWS_AS(model->forward(Tensor::from<std::int64_t>({-1}, {1, 1})), Error);
  CHECK_THROWS_AS(model->forward(Tensor::zeros({1, 3})), Error);
  CHECK_THROWS_AS(model->make_state(1, 63), Error);
  CHECK_THROWS_AS(model->make_state(0, 8), Error);
  CHECK_THROWS_AS(LanguageModel(config_of(R"({"hidden_size":16,"num_layers":1})")), UsageError);
  const auto faithful = make(R"({"vocab_size":17,"hidden_size":16,"num_layers":1,"max_seq_len":64,
      "mixer":{"type":"halo_s","num_heads":4,"num_kv_heads":2,"num_globals":1,"local_window":4,"graph":"faithful"}})");
  CHECK_FALSE(faithful->can_step());
  CHECK_THROWS_AS(faithful->make_state(1, 8), Error);
}

TEST_CASE("dropout of embeddings and of inner features acts in training only") {
  for (const std::string extra : {R"("embedding_dropout":0.5)", R"("feed_forward":{"inner_dropout":0.5})"}) {
    CAPTURE(extra);
    const std::string base = R"({"vocab_size":17,"hidden_size":8,"num_layers":1,"max_seq_len":64,
      "mixer":{"type":"dense","num_heads":1,"num_kv_heads":1})";
    const auto model = make(base + "," + extra + "}"), plain = make(base + "}");
    const Tensor ids = random_ids(1, 9);
    CHECK(bit_equal(model->forward(ids), plain->forward(ids)));
    model->train();
    CHECK_FALSE(bit_equal(model->forward(ids), plain->forward(ids)));
  }
}
