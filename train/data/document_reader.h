// train/data/document_reader.h: the lines of many files as ids, round after round, from any place on.
#pragma once

#include "train/data/jsonl.h"

#include <compare>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace sq {

enum class LineFormat {
  text,  ///< each line is a document
  jsonl  ///< each line is a JSON object with a text field
};

/// jsonl for names that end in .jsonl or .ndjson, text for all others.
LineFormat line_format_of(const std::filesystem::path& path);

/// One of `count` equal shares of the lines: line n (counted over all files) belongs to share n mod count.
struct Shard {
  std::int64_t index = 0, count = 1;
  /// The share of one loader worker of one process: rank·workers + worker of ranks·workers.
  static Shard of(std::int64_t rank, std::int64_t ranks, std::int64_t worker = 0, std::int64_t workers = 1) {
    return {rank * workers + worker, ranks * workers};
  }
};

struct DocumentOptions {
  LineFormat format = LineFormat::jsonl;
  std::string text_field = "text";
  Shard shard = {};
  /// An id put behind each document, such as an end-of-text id.
  std::optional<std::int64_t> separator = {};
};

/// Where a line starts.
struct LinePosition {
  std::int64_t round = 0;   ///< times that all files were read before
  std::int64_t file = 0;    ///< number of the file
  std::int64_t offset = 0;  ///< byte in the file
  std::int64_t line = 0;    ///< lines of this round before it, over all files
  auto operator<=>(const LinePosition&) const = default;
};

/// Reads the files in order again and again. Lines are trimmed of white space; blank ones and empty texts are passed
/// over, unusable ones skipped and, in the first round if it is read from its start, counted.
class DocumentReader {
 public:
  /// Throws UsageError when there is no file, a file cannot be read or is empty, or an option is out of range.
  DocumentReader(std::vector<std::filesystem::path> files, std::shared_ptr<const Tokenizer> tokenizer,
                 DocumentOptions options);

  /// The ids of the next document and where its line starts. Throws UsageError (with the reasons) when a whole round
  /// gives no id, so that useless files never mean an endless search.
  LinePosition next(std::vector<std::int64_t>& ids);
  /// Where the next line starts.
  LinePosition position() const { return position_; }
  /// Throws UsageError when the files have no such place.
  void seek(const LinePosition& position);

  /// May be called while another thread reads.
  SkipReport skipped() const;
  /// Size and a checksum of both ends of each file, to notice other files at little cost.
  const std::vector<std::string>& file_fingerprints() const { return fingerprints_; }

 private:
  bool encode_line(std::string_view line, std::vector<std::int64_t>& ids);
  void skip(SkipReason reason);
  void open_file();
  void end_round();

  std::vector<std::filesystem::path> files_;
  std::vector<std::string> fingerprints_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  DocumentOptions options_;
  LinePosition position_;
  std::int64_t line_in_file_ = 0;  // number of the line read last, for reports
  std::unique_ptr<MappedText> text_;
  std::unique_ptr<LineReader> lines_;
  bool whole_round_ = true, found_ = false;  // this round was read from its start; it gave a document
  mutable std::mutex report_mutex_;
  SkipReport skipped_;
};

/// Where a sequence starts: a line and an id of its document.
struct SequencePosition {
  LinePosition line;
  std::int64_t token = 0;
};

/// Cuts the documents, joined one behind the other across lines, files and rounds, into sequences of equal length.
class SequenceReader {
 public:
  explicit SequenceReader(std::unique_ptr<DocumentReader> documents) : documents_(std::move(documents)) {}
  /// Fills `out` with the next ids and says where they start.
  SequencePosition next(std::span<std::int64_t> out);
  SequencePosition position() const;
  /// Throws UsageError when the files have no such place.
  void seek(const SequencePosition& position);
  const DocumentReader& documents() const { return *documents_; }

 private:
  /// A document whose ids start at `begin`, counted over all ids since the last seek.
  struct Segment {
    LinePosition line;
    std::int64_t begin;
  };

  void append_document();

  std::unique_ptr<DocumentReader> documents_;
  std::vector<std::int64_t> ids_;  // ids_[0] has number base_
  std::int64_t base_ = 0, head_ = 0;
  std::deque<Segment> segments_;  // those that reach beyond head_
  std::vector<std::int64_t> document_;
};

}  // namespace sq
