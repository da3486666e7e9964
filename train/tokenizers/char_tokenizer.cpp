#include "train/tokenizers/char_tokenizer.h"

#include "tensor/error.h"
#include "train/json_check.h"
#include "train/tokenizers/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

constexpr std::string_view kWhere = "char tokenizer";
constexpr char32_t kCodePoints = 0x110000;

template <class Use>
void for_each_code_point(std::string_view text, Use&& use) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    require_input(step.status == Utf8Status::valid, kWhere, "the text is not valid UTF-8 at byte {}", at);
    use(step.code_point);
    at += step.length;
  }
}

}  // namespace

CharTokenizer::CharTokenizer(std::string_view alphabet, UnknownCharacters unknown)
    : CharTokenizer(to_code_points(alphabet, kWhere), unknown) {}

CharTokenizer::CharTokenizer(std::u32string alphabet, UnknownCharacters unknown)
    : alphabet_(std::move(alphabet)), unknown_(unknown) {
  const bool strict = unknown_ == UnknownCharacters::error;
  require_input(!strict || !alphabet_.empty(), kWhere, "the alphabet is empty; it needs at least one character");
  if (!alphabet_.empty()) ids_.assign(*std::max_element(alphabet_.begin(), alphabet_.end()) + std::size_t{1}, -1);
  for (std::size_t i = 0; i < alphabet_.size(); ++i) {
    std::int32_t& id = ids_[alphabet_[i]];
    require_input(!strict || id < 0, kWhere, "{} stands twice in the alphabet; keep one",
                  describe_code_point(alphabet_[i]));
    id = static_cast<std::int32_t>(i);
  }
}

CharTokenizer CharTokenizer::latin1(UnknownCharacters unknown) {
  std::u32string alphabet;
  for (char32_t c = 0; c < 256; ++c) alphabet.push_back(c);
  return {std::move(alphabet), unknown};
}

CharTokenizer CharTokenizer::from_corpus(std::span<const std::string> documents) {
  std::vector<bool> seen(kCodePoints, false);
  for (const std::string& document : documents) for_each_code_point(document, [&](char32_t c) { seen[c] = true; });
  std::u32string alphabet;
  for (char32_t c = 0; c < kCodePoints; ++c)
    if (seen[c]) alphabet.push_back(c);
  require_input(!alphabet.empty(), kWhere, "the corpus holds no character");
  return {std::move(alphabet), UnknownCharacters::error};
}

CharTokenizer CharTokenizer::from_json(const Json& json, std::string_view where) {
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
  for_each_code_point(text, [&](char32_t c) {
    const std::int32_t id = c < ids_.size() ? ids_[c] : -1;
    if (id < 0 && unknown_ == UnknownCharacters::error)
      throw UsageError(fmt::format(
          "{}: character {} of the text, {}, is not among the {} characters of the vocabulary; leave it out "
          "or use a byte tokenizer",
          kWhere, ids.size() + 1, describe_code_point(c), vocab_size()));
    ids.push_back(std::max(id, 0));
  });
  return ids;
}

Json CharTokenizer::to_json() const {
  return {{"kind", "char"},
          {"alphabet", to_utf8(alphabet_)},
          {"unknown", unknown_ == UnknownCharacters::error ? "error" : "first_id"}};
}

void CharTokenizer::append_piece(std::int64_t id, bool, std::string& out) const {
  if (id >= 0 && id < vocab_size()) append_utf8(out, alphabet_[static_cast<std::size_t>(id)]);
}

}  // namespace sq
