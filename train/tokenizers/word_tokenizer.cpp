#include "train/tokenizers/word_tokenizer.h"

#include "tensor/error.h"
#include "train/json_check.h"
#include "train/tokenizers/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>

namespace sq {
namespace {

constexpr std::string_view kWhere = "word tokenizer";
constexpr std::array<std::string_view, WordTokenizer::kSpecialCount> kSpecials{"<PAD>", "<UNK>", "<BOS>", "<EOS>"};

WordTokenizer::Vocabulary specials() {
  WordTokenizer::Vocabulary vocabulary;
  for (std::size_t i = 0; i < kSpecials.size(); ++i)
    vocabulary.emplace_back(kSpecials[i], static_cast<std::int64_t>(i));
  return vocabulary;
}

/// Calls use(word) for each word of the text.
template <class Use>
void for_each_word(std::string_view text, Use&& use) {
  std::size_t word_start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    require_input(step.status == Utf8Status::valid, kWhere, "the text is not valid UTF-8 at byte {}", at);
    if (is_unicode_space(step.code_point)) {
      if (at > word_start) use(text.substr(word_start, at - word_start));
      word_start = at + step.length;
    }
    at += step.length;
  }
  if (text.size() > word_start) use(text.substr(word_start));
}

void check_vocabulary(const WordTokenizer::Vocabulary& vocabulary, std::string_view where) {
  const auto size = static_cast<std::int64_t>(vocabulary.size());
  std::vector<std::string_view> word_of(vocabulary.size());
  for (const auto& entry : vocabulary) {
    const std::string& word = entry.first;
    const std::int64_t id = entry.second;
    require_input(!word.empty(), where, "an empty word has id {}; remove it", id);
    std::int64_t pieces = 0;
    for_each_word(word, [&](std::string_view piece) { pieces += piece.size() == word.size() ? 1 : 2; });
    require_input(pieces == 1, where, "the word \"{}\" contains white space, so no text can give it", word);
    require_input(id >= 0 && id < size && word_of[static_cast<std::size_t>(id)].empty(), where,
                  "the word \"{}\" has id {}; the {} words need the ids 0 to {}, each once", word, id, size, size - 1);
    word_of[static_cast<std::size_t>(id)] = word;
  }
  for (std::size_t i = 0; i < kSpecials.size(); ++i)
    require_input(i < word_of.size() && word_of[i] == kSpecials[i], where, "id {} must be \"{}\"", i, kSpecials[i]);
}

}  // namespace

WordTokenizer::WordTokenizer() : WordTokenizer(specials(), 1) {}

WordTokenizer::WordTokenizer(Vocabulary vocabulary, std::int64_t min_freq)
    : vocabulary_(std::move(vocabulary)), min_freq_(min_freq) {
  for (const auto& [word, id] : vocabulary_) {
    ids_.insert_or_assign(word, id);
    words_.insert_or_assign(id, word);
  }
}

WordTokenizer WordTokenizer::from_corpus(std::span<const std::string> documents, std::int64_t min_freq) {
  require_input(min_freq >= 1, kWhere, "min_freq is {}; it must be at least 1", min_freq);
  // Byte order of UTF-8 is code-point order, which std::map keeps.
  std::map<std::string, std::int64_t, std::less<>> counts;
  for (const std::string& document : documents)
    for_each_word(document, [&](std::string_view word) {
      const auto found = counts.find(word);
      if (found != counts.end())
        ++found->second;
      else
        counts.emplace(word, 1);
    });
  Vocabulary vocabulary = specials();
  for (const auto& [word, count] : counts)
    if (count >= min_freq && std::find(kSpecials.begin(), kSpecials.end(), word) == kSpecials.end())
      vocabulary.emplace_back(word, static_cast<std::int64_t>(vocabulary.size()));
  return {std::move(vocabulary), min_freq};
}

WordTokenizer WordTokenizer::from_vocabulary(Vocabulary vocabulary, std::int64_t min_freq) {
  return checked(std::move(vocabulary), min_freq, kWhere);
}

WordTokenizer WordTokenizer::checked(Vocabulary vocabulary, std::int64_t min_freq, std::string_view where) {
  check_vocabulary(vocabulary, where);
  require_input(min_freq >= 1, where, "min_freq is {}; it must be at least 1", min_freq);
  std::sort(vocabulary.begin(), vocabulary.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return {std::move(vocabulary), min_freq};
}

WordTokenizer WordTokenizer::from_unchecked_vocabulary(Vocabulary vocabulary) { return {std::move(vocabulary), 1}; }

WordTokenizer WordTokenizer::from_json(const Json& json, std::string_view where) {
  check_json_keys(json, where, {"kind", "min_freq", "words"});
  const Json& words = json.at("words");
  require_input(words.is_array(), where, "\"words\" must be a list, it is a value of type {}", words.type_name());
  Vocabulary vocabulary;
  for (const Json& word : words) {
    require_input(word.is_string(), where, "word {} of \"words\" must be a text, it is a value of type {}",
                  vocabulary.size(), word.type_name());
    vocabulary.emplace_back(word.get<std::string>(), static_cast<std::int64_t>(vocabulary.size()));
  }
  return checked(std::move(vocabulary), json_integer(json, "min_freq", where, 1), fmt::format("{}: \"words\"", where));
}

WordTokenizer WordTokenizer::from_original_file(std::string_view text, std::string_view where) {
  // Not parse_json: its objects search their keys one by one, which is too slow for a vocabulary.
  Vocabulary vocabulary;
  std::int64_t min_freq = 0;
  try {
    const auto json = nlohmann::json::parse(text);
    for (const auto& [word, id] : json.at("stoi").items()) vocabulary.emplace_back(word, id.get<std::int64_t>());
    min_freq = json.at("min_freq").get<std::int64_t>();
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(fmt::format("{}: no vocabulary file of HALO-S: {}", where, error.what()));
  }
  return checked(std::move(vocabulary), min_freq, fmt::format("{}: \"stoi\"", where));
}

std::vector<std::int64_t> WordTokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids;
  std::string key;
  for_each_word(text, [&](std::string_view word) {
    key = word;
    const auto found = ids_.find(key);
    ids.push_back(found == ids_.end() ? kUnknownId : found->second);
  });
  return ids;
}

Json WordTokenizer::to_json() const {
  Json words = Json::array();
  for (const auto& [word, id] : vocabulary_) words.push_back(word);
  return {{"kind", "word"}, {"min_freq", min_freq_}, {"words", std::move(words)}};
}

std::string WordTokenizer::original_file() const {
  // Written by hand because the order of the words matters, which a JSON object of the library does not keep.
  const auto object_of = [](const Vocabulary& vocabulary) {
    std::string text;
    for (const auto& [word, id] : vocabulary)
      text += fmt::format("{}\n    {}: {}", text.empty() ? "" : ",", Json(word).dump(), id);
    return vocabulary.empty() ? "{}" : "{" + text + "\n  }";
  };
  return fmt::format("{{\n  \"stoi\": {},\n  \"min_freq\": {},\n  \"special_tokens\": {}\n}}", object_of(vocabulary_),
                     min_freq_, object_of(specials()));
}

void WordTokenizer::append_piece(std::int64_t id, bool first, std::string& out) const {
  const auto found = words_.find(id);
  if (id < kSpecialCount || found == words_.end()) return;
  if (!first) out.push_back(' ');
  out += found->second;
}

}  // namespace sq
