// tools/compare/store.h: the results of a comparison on disk: results.jsonl, one object a line, and results.csv.
//
// The first line holds the settings: {"work": "settings", …}. Every other line is one finished measurement with
// "mixer", "work" and, where they matter, "n" (the length) and "task", or {"work": "run", "command": …}, one for each
// time the command was started. A line is written whole when its measurement is finished, so that a comparison that was
// stopped goes on where it was.
#pragma once

#include "tools/cli.h"

#include <filesystem>
#include <fstream>
#include <vector>

namespace sq::compare {

using cli::Json;

/// What a measurement is of.
struct Key {
  std::string mixer, work;
  std::int64_t n = 0;     // 0: no length
  std::string task = {};  // "": none
  bool operator==(const Key&) const = default;
};

class Store {
 public:
  /// Reads folder/results.jsonl; a last line without its end, left by a crash, is dropped. Throws UsageError when there
  /// is none or it is damaged.
  static Store read(const std::filesystem::path& folder);
  /// The same for adding to it; begins one, and makes the folder, where there is none. Throws UsageError when `folder`
  /// is a file or holds results of other settings (naming what differs), Error when the disk refuses.
  static Store open(const std::filesystem::path& folder, const Json& settings);

  const Json& settings() const { return settings_; }
  /// Command lines, in order.
  const std::vector<std::string>& commands() const { return commands_; }
  /// Measurements, in the order in which they were first finished. One that was made again stands in its old place.
  const std::vector<Json>& records() const { return records_; }
  /// The measurement, or null when there is none.
  const Json* find(const Key& key) const;

  /// Adds a line and flushes it. Throws Error when the disk refuses.
  void add_command(const std::string& command);
  void add(const Key& key, const Json& result);

 private:
  Store() = default;
  void load(const std::filesystem::path& file);
  void take(const Json& line);
  void append(const Json& line);

  Json settings_;
  std::vector<std::string> commands_;
  std::vector<Json> records_;
  std::filesystem::path path_;
  std::ofstream file_;
};

/// The key of a record.
Key key_of(const Json& record);
/// Whether a measurement was tried and failed ({"failed": why}): it is then tried again.
bool failed(const Json& record);

/// One row a record, as RFC 4180 says: the same columns for all, empty where a record has none; lists are left out.
std::string csv(const std::vector<Json>& records);

}  // namespace sq::compare
