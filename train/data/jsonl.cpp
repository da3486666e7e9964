#include "train/data/jsonl.h"

#include "tensor/error.h"
#include "tensor/file.h"
#include "train/data/windows.h"
#include "train/tokenizers/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace sq {
namespace {

std::string_view describe(SkipReason reason) {
  switch (reason) {
    case SkipReason::not_utf8:
      return "not UTF-8 text";
    case SkipReason::not_json:
      return "not JSON";
    case SkipReason::not_object:
      return "not a JSON object";
    case SkipReason::no_field:
      return "without the text field";
    case SkipReason::field_not_text:
      return "with a text field that is no text";
    case SkipReason::unknown_character:
      return "with characters outside the vocabulary";
    case SkipReason::too_short:
      break;
  }
  return "shorter than a context and its targets";
}

}  // namespace

void SkipReport::add(SkipReason reason, std::string_view file, std::int64_t line) {
  const auto i = static_cast<std::size_t>(reason);
  if (counts_[i]++ == 0) first_[i] = fmt::format("{} line {}", file, line);
}

std::int64_t SkipReport::total() const { return std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0}); }

std::string SkipReport::text() const {
  std::string reasons;
  for (std::size_t i = 0; i < kSkipReasons; ++i)
    if (counts_[i] > 0)
      reasons += fmt::format("{}{} {} (first: {})", reasons.empty() ? "" : ", ", counts_[i],
                             describe(static_cast<SkipReason>(i)), first_[i]);
  return reasons.empty() ? "" : fmt::format("skipped {} line{}: {}", total(), total() == 1 ? "" : "s", reasons);
}

std::variant<std::string, SkipReason> parse_jsonl_line(std::string_view line, std::string_view text_field) {
  if (find_invalid_utf8(line)) return SkipReason::not_utf8;
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception&) {
    return SkipReason::not_json;
  }
  if (!json.is_object()) return SkipReason::not_object;
  const auto field = json.find(text_field);
  if (field == json.end()) return SkipReason::no_field;
  if (!field->is_string()) return SkipReason::field_not_text;
  return std::move(field->get_ref<std::string&>());
}

std::variant<std::vector<std::int64_t>, SkipReason> encode_jsonl_line(std::string_view line,
                                                                      std::string_view text_field,
                                                                      const Tokenizer& tokenizer) {
  const auto text = parse_jsonl_line(line, text_field);
  if (const auto* reason = std::get_if<SkipReason>(&text)) return *reason;
  try {
    return tokenizer.encode(std::get<std::string>(text));
  } catch (const UsageError&) {
    return SkipReason::unknown_character;
  }
}

JsonlDataset::JsonlDataset(const std::filesystem::path& path, std::shared_ptr<const Tokenizer> tokenizer,
                           JsonlOptions options)
    : file_(path), tokenizer_(std::move(tokenizer)), options_(std::move(options)) {
  const std::string name = path.string();
  require_input(options_.length >= 1, name, "a context of {} tokens is not possible; it must be at least 1",
                options_.length);
  require_input(options_.stride >= 0, name, "a stride of {} is not possible; it must be at least 0", options_.stride);
  LineReader lines(file_.bytes());
  std::string_view line;
  for (std::int64_t number = 1, offset = 0; lines.next(line); ++number, offset = lines.offset()) {
    line = trim_unicode(line);
    if (line.empty()) continue;
    const auto ids = encode_jsonl_line(line, options_.text_field, *tokenizer_);
    if (const auto* reason = std::get_if<SkipReason>(&ids))
      skipped_.add(*reason, name, number);
    else
      add_line(offset, number, std::get<0>(ids));
  }
  require_input(!items_.empty(), name, "no line can be used with a context of {} tokens and the text field \"{}\"{}{}",
                options_.length, options_.text_field, skipped_.total() > 0 ? "; " : "", skipped_.text());
}

void JsonlDataset::add_line(std::int64_t offset, std::int64_t number, std::span<const std::int64_t> ids) {
  const std::int64_t count = std::ssize(ids), needed = options_.length + 1;
  if (count < needed) return skipped_.add(SkipReason::too_short, file_.path().string(), number);
  const std::int64_t windows = options_.stride == 0 ? 1 : (count - needed) / options_.stride + 1;
  const std::int64_t base = tokens_.size();  // 0 when lazy
  for (std::int64_t w = 0; w < windows; ++w) items_.push_back({offset, base + w * options_.stride});
  if (!options_.lazy) tokens_.append(ids.first(static_cast<std::size_t>((windows - 1) * options_.stride + needed)));
}

void JsonlDataset::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < size(), "jsonl", "there is no item {} among {}", index, size());
  const Item& place = items_[static_cast<std::size_t>(index)];
  if (!options_.lazy) {
    tokens_.copy(place.first, item.x);
    tokens_.copy(place.first + 1, item.y);
    return;
  }
  LineReader lines(file_.bytes(), place.line_offset);
  std::string_view line;
  lines.next(line);
  const auto ids = encode_jsonl_line(trim_unicode(line), options_.text_field, *tokenizer_);
  const auto* found = std::get_if<0>(&ids);
  require(found && std::ssize(*found) > place.first + options_.length, "jsonl", "'{}' was changed while in use",
          file_.path().string());
  split_pair(std::span(*found).subspan(static_cast<std::size_t>(place.first), item.x.size() + 1), item);
}

std::string JsonlDataset::fingerprint() const {
  Checksum checksum;
  checksum.add(file_.bytes().data(), file_.bytes().size());
  return fmt::format("jsonl-{}-{}-{}-{:016x}", options_.length, options_.stride, options_.text_field, checksum.value());
}

std::vector<std::int64_t> JsonlDataset::line_offsets() const {
  std::vector<std::int64_t> offsets;
  for (const Item& item : items_) offsets.push_back(item.line_offset);
  return offsets;
}

}  // namespace sq
