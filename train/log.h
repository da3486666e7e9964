// train/log.h: the record of a training run, one JSON object a line.
#pragma once

#include "nn/json.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace sq {

/// A file of JSON lines, each with an integer "step", that only grows.
/// A line reaches the file whole or not at all: when the disk refuses, what was written of it is cut off again and the
/// line waits for the next append, so that a disk that fills up and is cleared loses nothing.
class MetricsFile {
 public:
  /// Opens `path` for appending and makes it if there is none. Lines of steps after `last_step` (and a last line
  /// without its end) are removed first: a run that goes on from a checkpoint writes them again. Throws Error when
  /// the file cannot be opened or cut, UsageError naming the line when a line is not such an object.
  MetricsFile(const std::filesystem::path& path, std::int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// Adds a line. Returns false, and keeps the line for later, when the disk refuses.
  bool append(const Json& record);
  /// Writes what waits and syncs the file to the disk. Throws Error when the disk refuses.
  void sync();

 private:
  bool write_pending();

  std::filesystem::path path_;
  int file_ = -1;
  std::string pending_;
};

}  // namespace sq
