#include "train/tokenizers/char_tokenizer.h"

#include "tensor/error.h"
#include "train/json_text.h"
#include "train/tokenizers/utf8.h"

#include <nlohmann/json.hpp>

#include <set>

namespace sq {
namespace {

constexpr std::string_view kWhere = "char tokenizer";

}  // namespace

CharTokenizer::CharTokenizer(std::string_view alphabet, UnknownCharacters unknown)
    : CharTokenizer(to_code_points(alphabet, kWhere), unknown) {}

CharTokenizer::CharTokenizer(std::u32string alphabet, UnknownCharacters unknown)
    : alphabet_(std::move(alphabet)), unknown_(unknown) {
  const bool strict = unknown_ == UnknownCharacters::error;
  require_input(!strict || !alphabet_.empty(), kWhere, "the alphabet is empty; it needs at least one character");
  for (std::size_t i = 0; i < alphabet_.size(); ++i) {
    const bool is_new = ids_.insert_or_assign(alphabet_[i], static_cast<std::int64_t>(i)).second;
    require_input(!strict || is_new, kWhere, "{} stands twice in the alphabet; keep one",
                  describe_code_point(alphabet_[i]));
  }
}

CharTokenizer CharTokenizer::latin1(UnknownCharacters unknown) {
  std::u32string alphabet;
  for (char32_t c = 0; c < 256; ++c) alphabet.push_back(c);
  return {std::move(alphabet), unknown};
}

CharTokenizer CharTokenizer::from_corpus(std::span<const std::string> documents) {
  std::set<char32_t> distinct;
  for (const std::string& document : documents)
    for (const char32_t c : to_code_points(document, kWhere)) distinct.insert(c);
  require_input(!distinct.empty(), kWhere, "the corpus holds no character");
  return {std::u32string(distinct.begin(), distinct.end()), UnknownCharacters::error};
}

CharTokenizer CharTokenizer::from_json(const nlohmann::json& json, std::string_view where) {
  check_json_keys(json, where, {"kind", "alphabet", "unknown"});
  const std::string unknown = json_string(json, "unknown", where), alphabet = json_string(json, "alphabet", where);
  require_input(unknown == "error" || unknown == "first_id", where,
                "\"unknown\" is \"{}\"; it must be \"error\" or \"first_id\"", unknown);
  require_input(!alphabet.empty(), where, "\"alphabet\" is empty; it needs at least one character");
  try {
    return CharTokenizer(alphabet, unknown == "error" ? UnknownCharacters::error : UnknownCharacters::first_id);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: \"alphabet\": {}", where, error.what()));
  }
}

std::vector<std::int64_t> CharTokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids;
  ids.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    require_input(step.status == Utf8Status::valid, kWhere, "the text is not valid UTF-8 at byte {}", at);
    const auto found = ids_.find(step.code_point);
    require_input(
        found != ids_.end() || unknown_ == UnknownCharacters::first_id, kWhere,
        "character {} of the text, {}, is not among the {} characters of the vocabulary; leave it out or use a "
        "byte tokenizer",
        ids.size() + 1, describe_code_point(step.code_point), vocab_size());
    ids.push_back(found == ids_.end() ? 0 : found->second);
    at += step.length;
  }
  return ids;
}

nlohmann::json CharTokenizer::to_json() const {
  return {{"kind", "char"},
          {"alphabet", to_utf8(alphabet_)},
          {"unknown", unknown_ == UnknownCharacters::error ? "error" : "first_id"}};
}

void CharTokenizer::append_piece(std::int64_t id, bool, std::string& out) const {
  if (id >= 0 && id < vocab_size()) append_utf8(out, alphabet_[static_cast<std::size_t>(id)]);
}

}  // namespace sq
