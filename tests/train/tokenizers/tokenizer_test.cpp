#include "train/tokenizers/tokenizer.h"

#include "tensor/file.h"
#include "tensor/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"
#include "train/tokenizers/utf8.h"
#include "train/tokenizers/word_tokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;

namespace {

const std::vector<std::string> kTexts{"one two  two\nthree \u20ac\n", "na\u00efve \U0001F600 two"};

std::vector<std::unique_ptr<Tokenizer>> one_of_each_kind() {
  std::vector<std::unique_ptr<Tokenizer>> result;
  for (const char* kind : {"byte", "char", "word"}) result.push_back(make_tokenizer(kind, kTexts));
  return result;
}

}  // namespace

TEST_CASE("byte: every UTF-8 text comes back, ids are its bytes") {
  const ByteTokenizer tokenizer;
  const std::string text = "a\u00e9\u20ac\U0001F600\n";
  CHECK(tokenizer.encode("a\u00e9") == Ids{0x61, 0xC3, 0xA9});
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  CHECK(tokenizer.decode(Ids{0x61, 300, -1, 0xFF, 0xC3}) == "a\uFFFD\uFFFD");
}

TEST_CASE("char: the vocabulary of a corpus is its distinct characters in code-point order") {
  const CharTokenizer tokenizer = CharTokenizer::from_corpus(std::vector<std::string>{"ba\u20acb", "\u00e9a\n"});
  CHECK(tokenizer.vocab_size() == 5);
  CHECK(tokenizer.encode("\nab\u00e9\u20ac") == Ids{0, 1, 2, 3, 4});
  CHECK(error_text<UsageError>([&] { (void)tokenizer.encode("aba\u4e2d"); }) ==
        "char tokenizer: character 4 of the text, '\u4e2d' (U+4E2D), is not among the 5 characters of the vocabulary; "
        "leave it out or use a byte tokenizer");
  CHECK_THROWS_AS((void)tokenizer.encode("a\x80"), UsageError);
  CHECK_THROWS_AS(CharTokenizer(""), UsageError);
  CHECK_THROWS_WITH_AS(CharTokenizer("aba"), "char tokenizer: 'a' (U+0061) stands twice in the alphabet; keep one",
                       UsageError);
  CHECK_THROWS_AS(CharTokenizer::from_corpus(std::vector<std::string>{""}), UsageError);
}

TEST_CASE("word: a vocabulary that no text could use is refused") {
  using Vocabulary = WordTokenizer::Vocabulary;
  const Vocabulary good{{"<PAD>", 0}, {"<UNK>", 1}, {"<BOS>", 2}, {"<EOS>", 3}, {"x", 4}};
  CHECK(WordTokenizer::from_vocabulary(good).encode("x y") == Ids{4, 1});
  const auto with = [&](const std::string& word, std::int64_t id) {
    Vocabulary bad = good;
    bad.emplace_back(word, id);
    return error_text<UsageError>([&] { (void)WordTokenizer::from_vocabulary(bad); });
  };
  CHECK(contains(with("y", 4), "the 6 words need the ids 0 to 5, each once"));
  CHECK(contains(with("y", 6), "has id 6"));
  CHECK(contains(with("a b", 5), "contains white space"));
  CHECK(contains(with("", 5), "an empty word has id 5"));
  CHECK(contains(error_text<UsageError>([] {
                   (void)WordTokenizer::from_vocabulary({{"a", 0}, {"b", 1}});
                 }),
                 "id 0 must be \"<PAD>\""));
  CHECK_THROWS_AS(WordTokenizer::from_corpus(kTexts, 0), UsageError);
}

TEST_CASE("what comes in pieces is whole characters and together the whole text") {
  for (const auto& tokenizer : one_of_each_kind()) {
    CAPTURE(tokenizer->kind());
    for (std::uint64_t seed = 0; seed < 50; ++seed) {  // any ids, also outside the vocabulary
      StreamDecoder decoder(*tokenizer);
      Ids ids;
      std::string together;
      for (std::uint64_t i = 0; i < 40; ++i) {
        ids.push_back(static_cast<std::int64_t>(random_below(seed, 0, i, 270)) - 3);
        const std::string piece = decoder.push(ids.back());
        CHECK_FALSE(find_invalid_utf8(piece));
        together += piece;
      }
      together += decoder.finish();
      CHECK(together == tokenizer->decode(ids));
      CHECK_FALSE(find_invalid_utf8(together));
    }
  }
  const ByteTokenizer bytes;
  StreamDecoder decoder(bytes);
  CHECK(decoder.push(0xE2) == "");
  CHECK(decoder.push(0x82) == "");
  CHECK(decoder.push(0xAC) == "\u20ac");
  CHECK(decoder.push(0xE2) == "");
  CHECK(decoder.push('x') == "\uFFFDx");
  CHECK(decoder.push(0xF0) == "");
  CHECK(decoder.finish() == "\uFFFD");
}

TEST_CASE("a saved tokenizer is the same after loading") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "tokenizer.json";
  auto all = one_of_each_kind();
  all.push_back(std::make_unique<CharTokenizer>(CharTokenizer::latin1()));
  all.push_back(std::make_unique<CharTokenizer>("aba\"\\\n", UnknownCharacters::first_id));
  std::vector<std::string> fingerprints;
  for (const auto& tokenizer : all) {
    save_tokenizer(*tokenizer, path);
    const auto loaded = load_tokenizer(path);
    CHECK(loaded->kind() == tokenizer->kind());
    CHECK(loaded->vocab_size() == tokenizer->vocab_size());
    CHECK(loaded->fingerprint() == tokenizer->fingerprint());
    for (std::int64_t id = -1; id <= tokenizer->vocab_size(); ++id)
      CHECK(loaded->decode(Ids{id}) == tokenizer->decode(Ids{id}));
    fingerprints.push_back(tokenizer->fingerprint());
  }
  std::sort(fingerprints.begin(), fingerprints.end());
  CHECK(std::unique(fingerprints.begin(), fingerprints.end()) == fingerprints.end());
}

TEST_CASE("a tokenizer file that is wrong is one clear line") {
  const auto text = [](const char* json) {
    return error_text<UsageError>([&] { (void)parse_tokenizer(json, "run/tokenizer.json"); });
  };
  for (const char* json : {"", "{", "[]", "3", "{}", "{\"kind\":1}", "{\"kind\":\"gpt\"}"})
    CHECK(text(json).starts_with("run/tokenizer.json: "));
  CHECK(contains(text("{}"), "the key \"kind\" is missing"));
  CHECK(contains(text("{\"kind\":\"gpt\"}"), "known tokenizers are byte, char, word, bpe"));
  CHECK(contains(text(R"({"kind":"byte","size":1})"), "the key \"size\" is unknown; the keys are kind"));
  CHECK(contains(text(R"({"kind":"char","alphabet":"ab"})"), "the key \"unknown\" is missing"));
  CHECK(contains(text(R"({"kind":"char","alphabet":7,"unknown":"error"})"), "\"alphabet\" must be a text"));
  CHECK(contains(text(R"({"kind":"char","alphabet":"","unknown":"first_id"})"), "\"alphabet\" is empty"));
  CHECK(contains(text(R"({"kind":"char","alphabet":"aa","unknown":"error"})"), "'a' (U+0061) stands twice"));
  CHECK(contains(text(R"({"kind":"char","alphabet":"a","unknown":"skip"})"), "must be \"error\" or \"first_id\""));
  CHECK(
      contains(text(R"({"kind":"word","min_freq":0,"words":["<PAD>","<UNK>","<BOS>","<EOS>"]})"), "\"min_freq\" is 0"));
  CHECK(
      contains(text(R"({"kind":"word","min_freq":1.5,"words":["<PAD>","<UNK>","<BOS>","<EOS>"]})"), "a whole number"));
  CHECK(contains(text(R"({"kind":"word","min_freq":1,"words":["<PAD>"]})"), "id 1 must be \"<UNK>\""));
  CHECK(contains(text(R"({"kind":"word","min_freq":1,"words":[1]})"), "word 0 of \"words\" must be a text"));
  CHECK(contains(text(R"({"kind":"word","min_freq":1,"words":{}})"), "\"words\" must be a list"));
  CHECK_THROWS_AS((void)load_tokenizer("/nowhere/tokenizer.json"), UsageError);
  CHECK_THROWS_AS((void)WordTokenizer::from_original_file("[1]", "vocab.json"), UsageError);
  CHECK(contains(error_text<UsageError>([] { (void)make_tokenizer("bpe", kTexts); }),
                 "bpe is read from a converted model"));
}

TEST_CASE("a tokenizer that does not fit the model is refused") {
  const ByteTokenizer tokenizer;
  CHECK_NOTHROW(require_tokenizer_fits(tokenizer, 256, "run"));
  CHECK(
      error_text<UsageError>([&] { require_tokenizer_fits(tokenizer, 65, "run"); }) ==
      "run: the byte tokenizer has 256 ids but the model has 65; use the tokenizer the model was trained with, or set "
      "vocab_size to 256");
}
