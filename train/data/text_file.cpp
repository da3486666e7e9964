#include "train/data/text_file.h"

#include "tensor/file.h"
#include "train/tokenizers/utf8.h"

#include <algorithm>
#include <cstring>

namespace sq {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

std::string with_unix_line_ends(std::string text) {
  std::size_t out = text.find('\r');
  if (out == std::string::npos) return text;
  for (std::size_t at = out; at < text.size(); ++at) {
    if (text[at] != '\r')
      text[out++] = text[at];
    else if (at + 1 == text.size() || text[at + 1] != '\n')
      text[out++] = '\n';
  }
  text.resize(out);
  return text;
}

std::string read_text_file(const std::filesystem::path& path) {
  std::string text = read_file(path);
  require_input(!text.empty(), "data", "'{}' is empty", path.string());
  const std::size_t nul = text.find('\0');
  require_input(nul == std::string::npos, "data", "'{}' is binary: byte {} is NUL; text in UTF-8 is needed",
                path.string(), nul);
  const auto invalid = find_invalid_utf8(text);
  require_input(!invalid, "data", "'{}' is not UTF-8 text at byte {} (0x{:02X}); convert it to UTF-8", path.string(),
                invalid.value_or(0), static_cast<unsigned char>(text[invalid.value_or(0)]));
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  require_input(!text.empty(), "data", "'{}' holds nothing but a byte-order mark", path.string());
  return with_unix_line_ends(std::move(text));
}

MappedText::MappedText(std::filesystem::path path) : path_(std::move(path)), storage_(map_file(path_)) {
  require_input(storage_->bytes() > 0, "data", "'{}' is empty", path_.string());
  bytes_ = {reinterpret_cast<const char*>(storage_->data()), storage_->bytes()};
}

LineReader::LineReader(std::string_view text, std::int64_t offset)
    : text_(text), offset_(static_cast<std::size_t>(offset)) {
  require(offset >= 0 && offset_ <= text.size(), "lines", "offset {} is outside a text of {} bytes", offset,
          text.size());
}

bool LineReader::next(std::string_view& line) {
  if (offset_ == text_.size()) return false;
  std::size_t begin = offset_;
  if (begin == 0 && text_.starts_with(kByteOrderMark)) begin = kByteOrderMark.size();
  // One pass for both kinds of end: looking for LF alone would read a file with CR ends again for each line.
  std::size_t end = begin;
  while (end < text_.size() && text_[end] != '\n' && text_[end] != '\r') ++end;
  line = text_.substr(begin, end - begin);
  const bool two_bytes = text_.substr(end).starts_with("\r\n");
  offset_ = std::min(end + (two_bytes ? 2 : 1), text_.size());
  return true;
}

}  // namespace sq
