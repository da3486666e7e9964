#include "train/tokenizers/tokenizer.h"

#include "tensor/error.h"
#include "tensor/file.h"
#include "train/json_check.h"
#include "train/tokenizers/bpe_tokenizer.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"
#include "train/tokenizers/utf8.h"
#include "train/tokenizers/word_tokenizer.h"

#include <nlohmann/json.hpp>

namespace sq {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

/// Moves whole characters from the front of `bytes` to `out`; ill-formed ones become U+FFFD, an unfinished one stays.
void take_characters(std::string& bytes, std::string& out) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Step step = read_utf8(bytes, at);
    if (step.status == Utf8Status::incomplete) break;
    if (step.status == Utf8Status::valid)
      out.append(bytes, at, step.length);
    else
      append_utf8(out, kReplacement);
    at += step.length;
  }
  bytes.erase(0, at);
}

}  // namespace

std::string Tokenizer::decode(std::span<const std::int64_t> ids) const {
  StreamDecoder decoder(*this);
  std::string text;
  for (const std::int64_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

std::string Tokenizer::fingerprint() const {
  const std::string content = to_json().dump();
  Checksum checksum;
  checksum.add(content.data(), content.size());
  return fmt::format("{}-{}-{:016x}", kind(), vocab_size(), checksum.value());
}

std::string StreamDecoder::push(std::int64_t id) {
  const std::size_t before = pending_.size();
  tokenizer_.append_piece(id, first_, pending_);
  if (pending_.size() > before) first_ = false;
  std::string text;
  take_characters(pending_, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  if (!pending_.empty()) append_utf8(text, kReplacement);
  pending_.clear();
  first_ = true;
  return text;
}

void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& path) {
  replace_file(path, tokenizer.to_json().dump(2) + "\n");
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  return parse_tokenizer(read_file(path), path.string());
}

std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view json_text, std::string_view where) {
  const Json json = parse_json(json_text, where);
  const std::string kind = json_string(json, "kind", where);
  if (kind == "byte") {
    check_json_keys(json, where, {"kind"});
    return std::make_unique<ByteTokenizer>();
  }
  if (kind == "char") return std::make_unique<CharTokenizer>(CharTokenizer::from_json(json, where));
  if (kind == "word") return std::make_unique<WordTokenizer>(WordTokenizer::from_json(json, where));
  if (kind == "bpe") return std::make_unique<BpeTokenizer>(BpeTokenizer::from_json(json, where));
  throw UsageError(fmt::format("{}: \"kind\" is \"{}\"; known tokenizers are byte, char, word, bpe", where, kind));
}

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind, std::span<const std::string> documents) {
  if (kind == "byte") return std::make_unique<ByteTokenizer>();
  if (kind == "char") return std::make_unique<CharTokenizer>(CharTokenizer::from_corpus(documents));
  if (kind == "word") return std::make_unique<WordTokenizer>(WordTokenizer::from_corpus(documents));
  require_input(kind != "bpe", "tokenizer",
                "bpe is read from a converted model (subquad convert), not made from texts");
  throw UsageError(fmt::format("tokenizer: '{}' is unknown; known tokenizers are byte, char, word", kind));
}

void require_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t model_vocab_size, std::string_view where) {
  require_input(
      tokenizer.vocab_size() == model_vocab_size, where,
      "the {} tokenizer has {} ids but the model has {}; use the tokenizer the model was trained with, or set "
      "vocab_size to {}",
      tokenizer.kind(), tokenizer.vocab_size(), model_vocab_size, tokenizer.vocab_size());
}

}  // namespace sq
