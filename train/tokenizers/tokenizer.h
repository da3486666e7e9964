// train/tokenizers/tokenizer.h: text to ids and back, and the file `tokenizer.json` that lies beside a model.
#pragma once

#include "nn/json.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sq {

/// Texts are UTF-8. Tokenizers do not change once made, so several threads may use one.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// "byte", "char", "word" or "bpe".
  virtual std::string_view kind() const = 0;
  /// Number of ids: a model for this tokenizer needs this many rows of embedding.
  virtual std::int64_t vocab_size() const = 0;
  /// Throws UsageError when the text holds what the vocabulary cannot express.
  virtual std::vector<std::int64_t> encode(std::string_view text) const = 0;
  /// The text of `ids`; ids outside the vocabulary add nothing. The result is always valid UTF-8: bytes that form no
  /// character become U+FFFD.
  std::string decode(std::span<const std::int64_t> ids) const;
  /// What tokenizer.json holds.
  virtual Json to_json() const = 0;

  /// A short text, such as "char-65-0f3a…", made from all that tokenizer.json holds: kept with a run so that resuming
  /// it notices a different vocabulary.
  std::string fingerprint() const;

 protected:
  friend class StreamDecoder;
  /// Appends the bytes of one id, which need not be whole characters. `first` is true as long as nothing was appended
  /// since the start of the text; kinds that put something between two tokens look at it.
  virtual void append_piece(std::int64_t id, bool first, std::string& out) const = 0;
};

/// Decodes id after id for a reader who watches. Bytes that do not make a whole character yet are kept back, so every
/// piece is valid UTF-8, and all pieces together equal `decode` of all ids.
class StreamDecoder {
 public:
  /// The tokenizer must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// The text that is complete now; often empty or more than one character.
  std::string push(std::int64_t id);
  /// What remains at the end of the text: U+FFFD if a character was left unfinished. The decoder starts anew.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // bytes of an unfinished character
  bool first_ = true;
};

/// Writes the file in one step (see replace_file).
void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& path);
/// Reads tokenizer.json. Throws UsageError naming the file and the key that is missing, unknown or wrong.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);
/// The same from text; `where` stands for the file in errors.
std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view json_text, std::string_view where);

/// A tokenizer of the given kind for a corpus of documents: "byte" ignores them, "char" takes their characters, "word"
/// their words. Throws UsageError listing the kinds when `kind` is none of them.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind, std::span<const std::string> documents);

/// Throws UsageError unless the tokenizer has exactly the ids that the model has.
void require_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t model_vocab_size, std::string_view where);

}  // namespace sq
