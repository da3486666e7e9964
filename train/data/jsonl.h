// train/data/jsonl.h: one JSON object a line, one text an object.
#pragma once

#include "train/data/text_file.h"
#include "train/data/token_array.h"

#include <array>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sq {

/// Why a line gives no item.
enum class SkipReason { not_utf8, not_json, not_object, no_field, field_not_text, unknown_character, too_short };
inline constexpr std::size_t kSkipReasons = 7;

/// What was left out of a data set, for the user to read.
class SkipReport {
 public:
  /// Counts a line; the first line of each reason is remembered. `line` counts from 1.
  void add(SkipReason reason, std::string_view file, std::int64_t line);
  std::int64_t count(SkipReason reason) const { return counts_[static_cast<std::size_t>(reason)]; }
  std::int64_t total() const;
  /// One sentence, such as `skipped 3 lines: 2 not JSON (first: a.jsonl line 5), 1 without the field (…)`, or nothing.
  std::string text() const;

 private:
  std::array<std::int64_t, kSkipReasons> counts_{};
  std::array<std::string, kSkipReasons> first_;
};

/// The text in the given field of a line that holds one JSON object, or why there is none. Never throws on any bytes.
std::variant<std::string, SkipReason> parse_jsonl_line(std::string_view line, std::string_view text_field);

/// The same, encoded: ids, or why there are none (a character outside the vocabulary included).
std::variant<std::vector<std::int64_t>, SkipReason> encode_jsonl_line(std::string_view line,
                                                                      std::string_view text_field,
                                                                      const Tokenizer& tokenizer);

struct JsonlOptions {
  std::int64_t length = 0;  ///< L, must be given
  std::string text_field = "text";
  /// false: the ids are kept in memory; true: only where the usable lines are, and each access reads its line again.
  bool lazy = false;
  /// 0: each line gives one item, its first L+1 ids, as the original does; s >= 1: windows of L+1 ids at 0, s, 2s, …,
  /// so that long documents are used up.
  std::int64_t stride = 0;
};

/// Items from the usable lines of a file, in order: lines that are blank are passed over, lines that hold no JSON
/// object, no text in the field or fewer than L+1 ids are skipped and counted.
class JsonlDataset final : public Dataset {
 public:
  /// Throws UsageError when the file cannot be read, holds no usable line (the reasons are listed), or an option is out
  /// of range.
  JsonlDataset(const std::filesystem::path& path, std::shared_ptr<const Tokenizer> tokenizer, JsonlOptions options);
  std::int64_t size() const override { return static_cast<std::int64_t>(items_.size()); }
  std::int64_t length() const override { return options_.length; }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

  const SkipReport& skipped() const { return skipped_; }
  /// Byte offset of the start of the line of each item.
  std::vector<std::int64_t> line_offsets() const;

 private:
  struct Item {
    std::int64_t line_offset;
    std::int64_t first;  // id within the line (lazy) or within all ids kept (eager)
  };

  void add_line(std::int64_t offset, std::int64_t number, std::span<const std::int64_t> ids);

  MappedText file_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  JsonlOptions options_;
  std::vector<Item> items_;
  TokenArray tokens_;  // empty when lazy
  SkipReport skipped_;
};

}  // namespace sq
