#include "train/data/document_reader.h"

#include "tensor/error.h"
#include "tensor/file.h"
#include "train/tokenizers/utf8.h"

#include <algorithm>

namespace sq {
namespace {

constexpr std::size_t kLongestLine = std::size_t{256} << 20;  // bytes; a line is encoded as a whole
constexpr std::size_t kFingerprintEnd = 1 << 16;              // bytes at either end of a file
constexpr std::int64_t kForgetAfter = 1 << 16;                // used ids that may stay in memory

std::string fingerprint_of(std::string_view bytes) {
  Checksum checksum;
  const std::size_t end = std::min(bytes.size(), kFingerprintEnd);
  checksum.add(bytes.data(), end);
  checksum.add(bytes.data() + bytes.size() - end, end);
  return fmt::format("{}-{:016x}", bytes.size(), checksum.value());
}

}  // namespace

LineFormat line_format_of(const std::filesystem::path& path) {
  return path.extension() == ".jsonl" || path.extension() == ".ndjson" ? LineFormat::jsonl : LineFormat::text;
}

DocumentReader::DocumentReader(std::vector<std::filesystem::path> files, std::shared_ptr<const Tokenizer> tokenizer,
                               DocumentOptions options)
    : files_(std::move(files)), tokenizer_(std::move(tokenizer)), options_(std::move(options)) {
  require_input(!files_.empty(), "data", "no file is given");
  const Shard shard = options_.shard;
  require_input(shard.count >= 1 && shard.index >= 0 && shard.index < shard.count, "data",
                "share {} of {} does not exist; shares count from 0", shard.index, shard.count);
  require_input(!options_.separator || (*options_.separator >= 0 && *options_.separator <= INT32_MAX), "data",
                "a separator id of {} is not possible; it must be at least 0", options_.separator.value_or(0));
  for (const auto& file : files_) fingerprints_.push_back(fingerprint_of(MappedText(file).bytes()));
  open_file();
}

void DocumentReader::open_file() {
  const std::filesystem::path& path = files_[static_cast<std::size_t>(position_.file)];
  if (!text_ || text_->path() != path) text_ = std::make_unique<MappedText>(path);
  require_input(position_.offset <= std::ssize(text_->bytes()), "data", "'{}' has no byte {}", text_->path().string(),
                position_.offset);
  lines_ = std::make_unique<LineReader>(text_->bytes(), position_.offset);
  line_in_file_ = 0;
}

void DocumentReader::end_round() {
  require_input(
      !whole_round_ || found_, "data", "no line of the {} given file{} can be used{}{}{}", files_.size(),
      files_.size() == 1 ? "" : "s",
      options_.shard.count > 1 ? fmt::format(" (share {} of {})", options_.shard.index, options_.shard.count) : "",
      skipped_.total() > 0 ? "; " : "", skipped_.text());
  whole_round_ = true;
  found_ = false;
  position_ = {.round = position_.round + 1};
}

LinePosition DocumentReader::next(std::vector<std::int64_t>& ids) {
  std::string_view line;
  while (true) {
    if (!lines_->next(line)) {
      position_.file += 1;
      position_.offset = 0;
      if (position_.file == std::ssize(files_)) end_round();
      open_file();
      continue;
    }
    const LinePosition start = position_;
    position_.offset = lines_->offset();
    position_.line += 1;
    line_in_file_ += 1;
    if (start.line % options_.shard.count == options_.shard.index && encode_line(line, ids)) {
      found_ = true;
      return start;
    }
  }
}

bool DocumentReader::encode_line(std::string_view line, std::vector<std::int64_t>& ids) {
  require_input(line.size() <= kLongestLine, "data", "'{}' has a line of {} MiB; the longest possible is {} MiB",
                text_->path().string(), line.size() >> 20, kLongestLine >> 20);
  line = trim_unicode(line);
  if (line.empty()) return false;
  ids.clear();
  if (options_.format == LineFormat::jsonl) {
    auto encoded = encode_jsonl_line(line, options_.text_field, *tokenizer_);
    if (const auto* reason = std::get_if<SkipReason>(&encoded))
      skip(*reason);
    else
      ids = std::get<0>(std::move(encoded));
  } else if (find_invalid_utf8(line) || line.find('\0') != std::string_view::npos) {
    skip(SkipReason::not_utf8);
  } else {
    try {
      ids = tokenizer_->encode(line);
    } catch (const UsageError&) {
      skip(SkipReason::unknown_character);
    }
  }
  if (ids.empty()) return false;
  if (options_.separator) ids.push_back(*options_.separator);
  return true;
}

void DocumentReader::skip(SkipReason reason) {
  if (position_.round > 0 || !whole_round_) return;  // counted before, or its line number is not known
  const std::lock_guard lock(report_mutex_);
  skipped_.add(reason, text_->path().string(), line_in_file_);
}

void DocumentReader::seek(const LinePosition& position) {
  require_input(position.round >= 0 && position.file >= 0 && position.file < std::ssize(files_) &&
                    position.offset >= 0 && position.line >= 0,
                "data", "there is no byte {} of file {} in round {}", position.offset, position.file, position.round);
  position_ = position;
  whole_round_ = false;
  open_file();
}

SkipReport DocumentReader::skipped() const {
  const std::lock_guard lock(report_mutex_);
  return skipped_;
}

void SequenceReader::append_document() {
  if (head_ - base_ >= kForgetAfter) {
    ids_.erase(ids_.begin(), ids_.begin() + (head_ - base_));
    base_ = head_;
  }
  const LinePosition line = documents_->next(document_);
  segments_.push_back({line, base_ + std::ssize(ids_)});
  ids_.insert(ids_.end(), document_.begin(), document_.end());
}

SequencePosition SequenceReader::position() const {
  if (segments_.empty()) return {documents_->position(), 0};
  return {segments_.front().line, head_ - segments_.front().begin};
}

SequencePosition SequenceReader::next(std::span<std::int64_t> out) {
  while (base_ + std::ssize(ids_) - head_ < std::ssize(out)) append_document();
  const SequencePosition start = position();
  std::copy_n(ids_.begin() + (head_ - base_), out.size(), out.begin());
  head_ += std::ssize(out);
  // Forget the documents that are used up: those whose successor starts at or before head_.
  const std::int64_t end = base_ + std::ssize(ids_);
  while (!segments_.empty() && (segments_.size() > 1 ? segments_[1].begin : end) <= head_) segments_.pop_front();
  return start;
}

void SequenceReader::seek(const SequencePosition& position) {
  documents_->seek(position.line);
  ids_.clear();
  segments_.clear();
  base_ = head_ = 0;
  if (position.token == 0) return;
  append_document();
  require_input(segments_.front().line == position.line && position.token > 0 && position.token < std::ssize(ids_),
                "data",
                "the files were changed since the run was saved: file {} has no token {} in the line at byte {}",
                position.line.file, position.token, position.line.offset);
  head_ = position.token;
}

}  // namespace sq
