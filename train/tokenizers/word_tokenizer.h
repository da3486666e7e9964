// train/tokenizers/word_tokenizer.h: one id for each word of a vocabulary; kept for models of the original HALO-S.
#pragma once

#include "train/tokenizers/tokenizer.h"

#include <unordered_map>
#include <utility>

namespace sq {

/// Words are what Unicode white space (is_unicode_space) separates. Ids 0…3 are <PAD>, <UNK>, <BOS>, <EOS>; the words
/// follow from 4 in code-point order. Encoding gives <UNK> to every other word and adds no <BOS> or <EOS>; a special
/// written in the text takes its own id. Decoding leaves out ids 0…3 and joins with one space, so white space and
/// unknown words are lost.
class WordTokenizer final : public Tokenizer {
 public:
  using Vocabulary = std::vector<std::pair<std::string, std::int64_t>>;
  static constexpr std::int64_t kUnknownId = 1, kSpecialCount = 4;

  /// The four specials alone.
  WordTokenizer();
  /// The words that occur at least `min_freq` times. Throws UsageError when min_freq < 1 or a text is not UTF-8.
  static WordTokenizer from_corpus(std::span<const std::string> documents, std::int64_t min_freq = 1);
  /// Throws UsageError unless words are non-empty and without white space, ids are 0, 1, 2, … without gaps, and the
  /// specials have ids 0…3.
  static WordTokenizer from_vocabulary(Vocabulary vocabulary, std::int64_t min_freq = 1);
  /// The original's behaviour: any vocabulary as it is, ids 0…3 still left out by decode and <UNK> still 1, whatever
  /// they stand for.
  static WordTokenizer from_unchecked_vocabulary(Vocabulary vocabulary);
  /// {"kind": "word", "min_freq": n, "words": ["<PAD>", "<UNK>", …]}: the id of a word is its place.
  static WordTokenizer from_json(const Json& json, std::string_view where);
  /// Reads what original_file() writes; the vocabulary must be as from_vocabulary needs it.
  static WordTokenizer from_original_file(std::string_view text, std::string_view where);

  std::string_view kind() const override { return "word"; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(vocabulary_.size()); }
  std::vector<std::int64_t> encode(std::string_view text) const override;
  Json to_json() const override;
  /// The vocabulary file as the original writes it, byte for byte: {"stoi": {word: id, …}, "min_freq",
  /// "special_tokens"}.
  std::string original_file() const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  void append_piece(std::int64_t id, bool first, std::string& out) const override;

 private:
  WordTokenizer(Vocabulary vocabulary, std::int64_t min_freq);
  static WordTokenizer checked(Vocabulary vocabulary, std::int64_t min_freq, std::string_view where);

  Vocabulary vocabulary_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::unordered_map<std::int64_t, std::string> words_;
  std::int64_t min_freq_ = 1;
};

}  // namespace sq
