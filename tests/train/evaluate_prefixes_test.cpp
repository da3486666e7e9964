#include "train/evaluate_prefixes.h"

#include "tensor/memory.h"
#include "train/tokenizers/byte_tokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace sq;

TEST_CASE("the loss at the end of prefixes is what reading each of them alone gives") {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "abcdefgh"[i * i % 8];
  const TokenSpan tokens = tokens_of(ByteTokenizer(), text);
  Generator generator(1);
  LanguageModel model(read_model_document(Json::parse(R"({"vocab_size":256,"hidden_size":16,"num_layers":1,
      "max_seq_len":32,"mixer":{"type":"dense","num_heads":2,"num_kv_heads":2}})")),
                      {}, generator);
  const Evaluation first = evaluate_prefixes(model, tokens, 16, 20, 3);
  CHECK(first.targets == 20);
  CHECK(first.loss == evaluate_prefixes(model, tokens, 16, 20, 3).loss);
  CHECK(first.loss != evaluate_prefixes(model, tokens, 16, 20, 4).loss);
  for (auto [name, parameter] : model.named_parameters()) fill_(parameter, 0);
  CHECK(evaluate_prefixes(model, tokens, 16, 20, 3).loss == doctest::Approx(std::log(256.0)));  // all bytes alike
  CHECK(model.training());
  CHECK_THROWS_AS(evaluate_prefixes(model, tokens, 40, 20, 3), UsageError);
  CHECK_THROWS_AS(evaluate_prefixes(model, tokens, 16, 0, 3), UsageError);
}
