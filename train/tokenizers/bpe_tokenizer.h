// train/tokenizers/bpe_tokenizer.h: byte-level byte-pair encoding, the tokens of GPT-2.
//
// A text is cut into words, numbers, signs and white space (kGpt2Pattern). Each piece begins as one token a byte; the
// pair of neighbours whose merge was learned first becomes one token, the leftmost first, again and again until no pair
// can be merged (Sennrich et al. 2016; over bytes, Radford et al. 2019, section 2.2). Special tokens, such as
// <|endoftext|>, are looked for in the text before that and never made of others.
#pragma once

#include "train/tokenizers/text_pattern.h"
#include "train/tokenizers/tokenizer.h"

#include <optional>
#include <unordered_map>

namespace sq {

/// A vocabulary as files hold it. Tokens are written with one character for each byte: printable ones stand for
/// themselves, the others for U+0100 and up (bpe_bytes); a space is Ġ. An empty token is an id that nothing uses.
struct BpeVocabulary {
  std::vector<std::string> tokens;                          // by id; special tokens as plain text
  std::vector<std::pair<std::string, std::string>> merges;  // in the order in which they were learned
  std::vector<std::int64_t> special;                        // ids
};

class BpeTokenizer final : public Tokenizer {
 public:
  /// Throws UsageError, beginning with `where`, unless every byte has a token, tokens are written in the alphabet of
  /// bytes and stand once, and merges join two known tokens to a known one and stand once.
  explicit BpeTokenizer(BpeVocabulary vocabulary, std::string_view where = "bpe tokenizer");
  /// {"kind": "bpe", "tokens": ["!", …], "merges": ["Ġ t", …], "special": [50256]}
  static BpeTokenizer from_json(const Json& json, std::string_view where);

  std::string_view kind() const override { return "bpe"; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  /// Takes any bytes.
  std::vector<std::int64_t> encode(std::string_view text) const override;
  Json to_json() const override;
  /// The bytes of one token; empty for ids that are outside or unused.
  std::string_view bytes(std::int64_t id) const;

 protected:
  void append_piece(std::int64_t id, bool first, std::string& out) const override;

 private:
  struct Merge {
    std::int32_t rank, id;
  };

  void add_tokens(std::string_view where);
  void add_merges(std::string_view where);
  void encode_text(std::string_view text, std::vector<std::int64_t>& ids) const;
  void encode_piece(std::string_view piece, std::vector<std::int64_t>& ids) const;
  /// The special token that begins at text[at], the longest one, or -1.
  std::int64_t special_at(std::string_view text, std::size_t at) const;

  BpeVocabulary vocabulary_;
  TextPattern pattern_;
  std::vector<std::string> bytes_;                     // by id
  std::vector<std::int32_t> of_byte_;                  // the token of each byte
  std::unordered_map<std::uint64_t, Merge> merges_;    // by left id · 2³² + right id
  std::vector<std::vector<std::int64_t>> special_by_;  // first byte -> ids, longest first
};

/// GPT-2's pieces: English contractions; letters, digits or other signs with one space before them; white space, of
/// which the last character stays for the piece that follows.
/// White space is spelled out: PCRE2's \s has one character more than Unicode's White_Space, U+180E.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|)"
    R"(\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

/// The alphabet of bytes: a token as files write it -> its bytes; nothing when a character stands for no byte.
std::optional<std::string> bpe_bytes(std::string_view written);
/// The inverse.
std::string bpe_written(std::string_view bytes);

/// The tokenizer of a Hugging Face folder: tokenizer.json, else vocab.json with merges.txt; null when none is there.
/// It gets at least `vocab_size` ids, those beyond the file's unused. Throws UsageError naming the file and what is
/// wrong, or what this tokenizer does not do.
std::unique_ptr<BpeTokenizer> read_hugging_face_tokenizer(const std::filesystem::path& folder,
                                                          std::int64_t vocab_size = 0);

}  // namespace sq
