#include "tests/golden/halo_s/golden_tokenizers.h"

#include "nn/json.h"
#include "tests/golden/halo_s/exact.h"
#include "train/tokenizers/char_tokenizer.h"
#include "train/tokenizers/word_tokenizer.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <memory>

namespace golden {
namespace {

using namespace sq;

using Ids = std::vector<std::int64_t>;

/// The keys that every tokenizer of the file has.
void check_cases(const Json& json, const Tokenizer& tokenizer, const std::string& name, Result& result) {
  expect_equal(result, tokenizer.vocab_size() == json.at("vocab_size"),
               fmt::format("{}: vocab_size is {}, not {}", name, tokenizer.vocab_size(), json.at("vocab_size").dump()));
  for (const Json& one : json.at("encode")) {
    const auto text = one.at("text").get<std::string>();
    const auto ids = one.at("ids").get<Ids>(), got = tokenizer.encode(text);
    expect_equal(result, got == ids, fmt::format("{}: encode {} gives {}, not {}", name, Json(text).dump(), got, ids));
    const std::string decoded = tokenizer.decode(ids);
    expect_equal(
        result, decoded == one.at("decoded").get<std::string>(),
        fmt::format("{}: decode {} gives {}, not {}", name, ids, Json(decoded).dump(), one.at("decoded").dump()));
  }
  for (const Json& one : json.at("decode")) {
    const auto ids = one.at("ids").get<Ids>();
    const std::string text = tokenizer.decode(ids);
    expect_equal(result, text == one.at("text").get<std::string>(),
                 fmt::format("{}: decode {} gives {}, not {}", name, ids, Json(text).dump(), one.at("text").dump()));
  }
}

std::unique_ptr<CharTokenizer> make_char(const Json& json) {
  const Json& alphabet = json.at("chars");
  return std::make_unique<CharTokenizer>(alphabet.is_null()
                                             ? CharTokenizer::latin1(UnknownCharacters::first_id)
                                             : CharTokenizer(alphabet.get<std::string>(), UnknownCharacters::first_id));
}

WordTokenizer::Vocabulary vocabulary_of(const Json& json) {
  WordTokenizer::Vocabulary vocabulary;
  for (const auto& [word, id] : json.items()) vocabulary.emplace_back(word, id.get<std::int64_t>());
  return vocabulary;
}

WordTokenizer make_word(const Json& json) {
  if (json.contains("custom_vocab"))
    return WordTokenizer::from_unchecked_vocabulary(vocabulary_of(json.at("custom_vocab")));
  if (!json.contains("texts")) return WordTokenizer();
  return WordTokenizer::from_corpus(json.at("texts").get<std::vector<std::string>>(),
                                    json.value("min_freq", std::int64_t{1}));
}

void check_word(const Json& json, const std::string& name, Result& result) {
  const WordTokenizer tokenizer = make_word(json);
  check_cases(json, tokenizer, name, result);
  if (json.contains("vocab"))
    expect_equal(result, tokenizer.vocabulary() == vocabulary_of(json.at("vocab")), name + ": another vocabulary");
  if (!json.contains("saved_file")) return;
  const auto saved = json.at("saved_file").get<std::string>();
  expect_equal(result, tokenizer.original_file() == saved, name + ": another vocabulary file");
  check_cases(json, WordTokenizer::from_original_file(saved, name), name + " read back", result);
}

}  // namespace

Result check_tokenizers(const std::filesystem::path& file) {
  Result result;
  try {
    const Json json = read_json_file(file.string());
    for (const auto& [i, one] : json.at("char").items()) check_cases(one, *make_char(one), "char " + i, result);
    for (const auto& [i, one] : json.at("word").items()) check_word(one, "word " + i, result);
  } catch (const std::exception& error) {  // a file of another form, or a tokenizer that refuses
    expect_equal(result, false, fmt::format("{}: {}", file.string(), error.what()));
  }
  return result;
}

}  // namespace golden
