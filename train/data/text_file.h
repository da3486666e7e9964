// train/data/text_file.h: text files, read whole or line by line, with everything that is no text refused.
#pragma once

#include "tensor/storage.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace sq {

/// The text of a file: UTF-8, a byte-order mark left out, CR LF and lone CR turned into LF. Throws UsageError when the
/// file is missing, a folder, unreadable, empty, binary (it holds a NUL byte) or not UTF-8.
std::string read_text_file(const std::filesystem::path& path);

/// CR LF and lone CR become LF.
std::string with_unix_line_ends(std::string text);

/// A file mapped into memory, of which only the parts in use need to fit there. It must not be shortened while open.
class MappedText {
 public:
  /// Throws UsageError when the file is missing, a folder, unreadable or empty.
  explicit MappedText(std::filesystem::path path);
  const std::filesystem::path& path() const { return path_; }
  std::string_view bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<Storage> storage_;
  std::string_view bytes_;
};

/// Gives the lines of a text in order. Lines end at LF, CR LF or a lone CR; the ends and a byte-order mark at the start
/// of the text are left out.
class LineReader {
 public:
  /// `offset` must be one that offset() gave, or 0.
  explicit LineReader(std::string_view text, std::int64_t offset = 0);
  /// The next line, a view into the text, or false at the end.
  bool next(std::string_view& line);
  /// Where the next line starts, in bytes.
  std::int64_t offset() const { return static_cast<std::int64_t>(offset_); }

 private:
  std::string_view text_;
  std::size_t offset_;
};

}  // namespace sq
