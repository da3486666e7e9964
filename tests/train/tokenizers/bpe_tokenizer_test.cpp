#include "train/tokenizers/bpe_tokenizer.h"

#include "tensor/file.h"
#include "tensor/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_bpe.h"
#include "tests/train/error_text.h"
#include "train/tokenizers/utf8.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace sq;
using namespace sq::test;
using Ids = std::vector<std::int64_t>;
using Pieces = std::vector<std::string>;

namespace {

Pieces pieces_of(const std::string& text) {
  Pieces pieces;
  TextPattern(kGpt2Pattern).cut(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

/// The bytes that ids stand for, UTF-8 or not.
std::string bytes_of(const BpeTokenizer& tokenizer, const Ids& ids) {
  std::string bytes;
  for (const std::int64_t id : ids) bytes += tokenizer.bytes(id);
  return bytes;
}

std::string construction_error(const std::function<void(BpeVocabulary&)>& change) {
  BpeVocabulary vocabulary = tiny_bpe();
  change(vocabulary);
  return error_text<UsageError>([&] { BpeTokenizer(vocabulary, "v"); });
}

/// tokenizer.json of Hugging Face with the vocabulary of tiny_bpe().
Json hugging_face_document() {
  Json vocabulary = Json::object(), merges = Json::array();
  const BpeVocabulary tiny = tiny_bpe();
  for (std::size_t id = 0; id < 263; ++id) vocabulary[tiny.tokens[id]] = id;
  for (const auto& [left, right] : tiny.merges) merges.push_back(left + " " + right);
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 263}, {"content", "<|end|>"}, {"lstrip", false}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", {{"type", "ByteLevel"}, {"trim_offsets", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"dropout", nullptr}, {"vocab", vocabulary}, {"merges", merges}}}};
}

}  // namespace

TEST_CASE("GPT-2's pattern cuts contractions, words, numbers, signs and white space") {
  CHECK(pieces_of("Hello, it's 2024!!") == Pieces{"Hello", ",", " it", "'s", " 2024", "!!"});
  CHECK(pieces_of("we'll they're I'm IT'S") == Pieces{"we", "'ll", " they", "'re", " I", "'m", " IT", "'", "S"});
  CHECK(pieces_of("a  b\n\n c ") == Pieces{"a", " ", " b", "\n\n", " c", " "});
  CHECK(pieces_of("größe 你好 ½²٣x") == Pieces{"größe", " 你好", " ½²٣", "x"});
  CHECK(pieces_of("e\u0301 😀\u00a0x") == Pieces{"e", "\u0301", " 😀", "\u00a0", "x"});
  CHECK(pieces_of("\u180e") == Pieces{"\u180e"});
  CHECK(pieces_of("") == Pieces{});
  CHECK(pieces_of("ab\xFF\xFE cd") == Pieces{"ab", "\xFF\xFE", " cd"});
}

TEST_CASE("a pattern that is none is refused with the place") {
  CHECK(error_text<UsageError>([] { TextPattern("a(b"); }) ==
        "pattern: 'a(b' is no regular expression: missing closing parenthesis at byte 3");
}

TEST_CASE("the alphabet of bytes") {
  CHECK(bpe_written(" \n!~\x7F\xA1\xAD\xFF") == "ĠĊ!~ġ¡Ńÿ");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  CHECK(bpe_bytes(bpe_written(all)) == all);
  CHECK_FALSE(bpe_bytes(" ").has_value());
  CHECK_FALSE(bpe_bytes("\xFF").has_value());
  CHECK_FALSE(bpe_bytes("你").has_value());
}

TEST_CASE("bpe merges the pair that was learned first, the leftmost of equals") {
  const BpeTokenizer tokenizer(tiny_bpe());
  CHECK(tokenizer.vocab_size() == 264);
  CHECK(tokenizer.encode("the") == Ids{257});
  CHECK(tokenizer.encode(" the thing") == Ids{258, ' ', 256, 260});
  CHECK(tokenizer.encode("x    y") == Ids{'x', 262, ' ', ' ', 'y'});  // "   " and " y"
  CHECK(tokenizer.encode("ththe") == Ids{256, 257});
  CHECK(tokenizer.encode(" sin") == Ids{261, 259});
  CHECK(tokenizer.encode("") == Ids{});
}

TEST_CASE("special tokens are found in the text and made of nothing else") {
  BpeVocabulary vocabulary = tiny_bpe();
  vocabulary.special.push_back(264);
  vocabulary.tokens.emplace_back("<|end|><|end|>");
  const BpeTokenizer tokenizer(vocabulary);
  CHECK(tokenizer.encode("the<|end|>the") == Ids{257, 263, 257});
  CHECK(tokenizer.encode("<|end|><|end|><|end|>") == Ids{264, 263});
  CHECK(tokenizer.encode("<|end|") == Ids{'<', '|', 'e', 'n', 'd', '|'});
  CHECK(tokenizer.decode(Ids{257, 263}) == "the<|end|>");
}

TEST_CASE("bpe gives every text back, and any bytes") {
  const BpeTokenizer tokenizer(tiny_bpe());
  for (const std::string text :
       {"the thing is\n  tabs\t\tand\r\n", "größe 你好 😀👍🏽 e\u0301", "<|end|> the <|end", "\u00a0\u2003x"})
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::string bytes;
    for (std::uint64_t i = 0; i < 60; ++i) {
      const auto value = random_below(seed, 0, i, 300);  // letters of the merges more often than others
      bytes.push_back(value < 256 ? static_cast<char>(value) : " thesing"[value % 8]);
    }
    CHECK(bytes_of(tokenizer, tokenizer.encode(bytes)) == bytes);
  }
}

TEST_CASE("a long piece is no problem") {
  BpeVocabulary vocabulary = tiny_bpe();
  vocabulary.merges.emplace_back("a", "a");
  vocabulary.tokens.emplace_back("aa");
  const BpeTokenizer tokenizer(vocabulary);
  const std::string text(200'001, 'a');
  const Ids ids = tokenizer.encode(text);
  CHECK(ids.size() == 100'001);
  CHECK(ids.front() == 264);
  CHECK(ids.back() == 'a');
}

TEST_CASE("a streamed character is shown when its last byte is there") {
  const BpeTokenizer tokenizer(tiny_bpe());
  StreamDecoder decoder(tokenizer);
  CHECK(decoder.push(257) == "the");
  CHECK(decoder.push(0xE2) == "");
  CHECK(decoder.push(0x82) == "");
  CHECK(decoder.push(0xAC) == "€");
  CHECK(decoder.push(0xF0) == "");
  CHECK(decoder.push(263) == "\uFFFD<|end|>");
}

TEST_CASE("bpe is saved and read") {
  BpeVocabulary vocabulary = tiny_bpe();
  vocabulary.tokens.resize(300);  // ids that nothing uses
  const BpeTokenizer tokenizer(vocabulary);
  const auto again = parse_tokenizer(tokenizer.to_json().dump(), "again");
  CHECK(again->kind() == "bpe");
  CHECK(again->vocab_size() == 300);
  CHECK(again->fingerprint() == tokenizer.fingerprint());
  CHECK(again->encode(" the<|end|>s") == tokenizer.encode(" the<|end|>s"));
  CHECK(again->decode(Ids{299, 257, 1000}) == "the");
}

TEST_CASE("a vocabulary that cannot encode every text, or contradicts itself, is refused") {
  CHECK(construction_error([](BpeVocabulary& v) { v.tokens[200].clear(); }) == "v: no token stands for the byte 200");
  CHECK(construction_error([](BpeVocabulary& v) { v.tokens.emplace_back("th"); }) ==
        "v: tokens 256 and 264 are the same");
  CHECK(contains(construction_error([](BpeVocabulary& v) { v.tokens.emplace_back("a b"); }),
                 "v: token 264 holds a character that stands for no byte"));
  CHECK(construction_error([](BpeVocabulary& v) { v.merges.emplace_back("x", "yz"); }) ==
        "v: merge 7 needs 'yz', which is no token");
  CHECK(construction_error([](BpeVocabulary& v) { v.merges.emplace_back("x", "y"); }) ==
        "v: merge 7 needs 'xy', which is no token");
  CHECK(construction_error([](BpeVocabulary& v) { v.merges.emplace_back("t", "h"); }) ==
        "v: merge 7 of 't' and 'h' stands there twice");
  CHECK(construction_error([](BpeVocabulary& v) { v.special.push_back(264); }) ==
        "v: the special id 264 is none of the 264 tokens");
  CHECK(construction_error([](BpeVocabulary& v) { v.special.push_back(263); }) ==
        "v: the special token 263 is empty or named twice");
  const auto from = [](const char* json) { return error_text<UsageError>([&] { (void)parse_tokenizer(json, "t"); }); };
  CHECK(contains(from(R"({"kind":"bpe","tokens":[],"merges":[]})"), "the key \"special\" is missing"));
  CHECK(contains(from(R"({"kind":"bpe","tokens":3,"merges":[],"special":[]})"), "\"tokens\" must be a list"));
  CHECK(contains(from(R"({"kind":"bpe","tokens":[3],"merges":[],"special":[]})"), "\"tokens\" must hold texts"));
  CHECK(contains(from(R"({"kind":"bpe","tokens":[],"merges":["ab"],"special":[]})"), "'ab' are not two tokens"));
  CHECK(contains(from(R"({"kind":"bpe","tokens":[],"merges":[],"special":["x"]})"), "\"special\" must hold ids"));
  CHECK(contains(from(R"({"kind":"bpe","tokens":[],"merges":[],"special":[]})"), "no token stands for the byte 0"));
}

TEST_CASE("the two forms of Hugging Face's files give the same tokenizer") {
  const TemporaryFolder folder;
  CHECK(read_hugging_face_tokenizer(folder.path()) == nullptr);
  replace_file(folder.path() / "tokenizer.json", hugging_face_document().dump());
  const auto one = read_hugging_face_tokenizer(folder.path());
  CHECK(one->fingerprint() == BpeTokenizer(tiny_bpe()).fingerprint());

  std::filesystem::remove(folder.path() / "tokenizer.json");
  Json vocabulary = hugging_face_document()["model"]["vocab"];
  vocabulary["<|end|>"] = 263;
  std::string merges = "#version: 0.2\r\n";
  for (const auto& [left, right] : tiny_bpe().merges) merges += left + " " + right + "\r\n";
  replace_file(folder.path() / "vocab.json", vocabulary.dump());
  CHECK(contains(error_text<UsageError>([&] { read_hugging_face_tokenizer(folder.path()); }), "merges.txt"));
  replace_file(folder.path() / "merges.txt", merges);
  CHECK(read_hugging_face_tokenizer(folder.path())->fingerprint() == one->fingerprint());
  CHECK(read_hugging_face_tokenizer(folder.path(), 320)->vocab_size() == 320);
}

TEST_CASE("merges may be pairs of texts") {
  const TemporaryFolder folder;
  Json document = hugging_face_document();
  for (Json& merge : document["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  replace_file(folder.path() / "tokenizer.json", document.dump());
  CHECK(read_hugging_face_tokenizer(folder.path())->encode(" the") == Ids{258});
}

TEST_CASE("a tokenizer that does something else is refused by what it does") {
  const TemporaryFolder folder;
  const auto error = [&](const char* pointer, const char* value) {
    Json document = hugging_face_document();
    document[Json::json_pointer(pointer)] = Json::parse(value);
    replace_file(folder.path() / "tokenizer.json", document.dump());
    return error_text<UsageError>([&] { read_hugging_face_tokenizer(folder.path()); });
  };
  CHECK(
      contains(error("/model/type", "\"Unigram\""), "tokenizer.json: model.type is \"Unigram\", but only BPE is read"));
  CHECK(contains(error("/normalizer", "{\"type\":\"NFC\"}"), "normalizer is not null"));
  CHECK(contains(error("/pre_tokenizer", "{\"type\":\"Whitespace\"}"), "pre_tokenizer.type is \"Whitespace\""));
  CHECK(contains(error("/pre_tokenizer/add_prefix_space", "true"), "add_prefix_space is true"));
  CHECK(contains(error("/pre_tokenizer/use_regex", "false"), "use_regex is false"));
  CHECK(contains(error("/post_processor/type", "\"TemplateProcessing\""), "post_processor.type"));
  CHECK(contains(error("/model/end_of_word_suffix", "\"</w>\""), "model.end_of_word_suffix is \"</w>\""));
  CHECK(contains(error("/model/dropout", "0.1"), "model.dropout is 0.1"));
  CHECK(contains(error("/model/byte_fallback", "true"), "model.byte_fallback is true"));
  CHECK(contains(error("/model/vocab", "[]"), "the vocabulary is no object of tokens"));
  CHECK(contains(error("/model/vocab/th", "-1"), "token 'th' has the id -1"));
  CHECK(contains(error("/model/vocab/th", "5"), "have the same id, 5"));
  CHECK(contains(error("/model/merges", "3"), "model.merges is no list"));
  CHECK(contains(error("/model/merges/0", "[1]"), "merge 0 is neither a text nor two"));
  CHECK(contains(error("/model/merges/0", "\"th\""), "merge 0 is not two tokens"));
  CHECK(contains(error("/added_tokens/0/lstrip", "true"), "the added token '<|end|>' has lstrip"));
  CHECK(contains(error("/added_tokens/0/id", "null"), "token '<|end|>' has the id null"));
  replace_file(folder.path() / "tokenizer.json", "{");
  CHECK(contains(error_text<UsageError>([&] { read_hugging_face_tokenizer(folder.path()); }), "no JSON"));
}
