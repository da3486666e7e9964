// train/data/tasks.h: the table of made-up tasks, and a task as it stands in a configuration.
//
//   copy            a pattern repeats                                 copy_task.h
//   needle          one value far back in an empty text               needle_task.h
//   mqar            many key-value pairs, then the keys again         mqar_task.h
//   selective_copy  ids among noise, to be repeated in order          selective_copy_task.h
//   induction       what followed the trigger last time               induction_task.h
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

#include <nlohmann/json.hpp>

#include <span>
#include <string_view>
#include <vector>

namespace sq {

/// One row: what a task is called and what its options are.
struct TaskEntry {
  std::string_view name;
  std::string_view summary;  // one sentence
  std::string_view paper;    // where it is from

  /// Options as written (without "type") → all options, checked. Throws UsageError with keys under `path`.
  Json (*normalise)(const Json& options, std::string_view path);
  /// Options as `normalise` returned them. Throws UsageError naming the rule when samples of `length` ids are not
  /// possible.
  std::unique_ptr<Task> (*make)(const Json& options, std::int64_t length);
  std::vector<FieldHelp> (*help)();
};

std::span<const TaskEntry> task_registry();

/// Throws UsageError that lists the known names.
const TaskEntry& find_task(std::string_view name, std::string_view path = "task");

/// A task by name with all its options, or none.
struct TaskConfig {
  static constexpr std::string_view kAllowed = "a task or none";
  static constexpr std::string_view kNone = "none";

  std::string type{kNone};
  Json options = Json::object();

  bool is_none() const { return type == kNone; }
  /// {"type": name, option: value, …}, or the name alone. Throws UsageError.
  static TaskConfig from_json(const Json& json, std::string_view path);
  /// "none" alone when there is none.
  Json to_json() const;

  /// Throws UsageError when there is none or `length` is not possible.
  std::shared_ptr<const Task> make(std::int64_t length) const;
  /// Samples of one part: so many, or as many as there are.
  std::shared_ptr<const TaskData> data(std::int64_t length, std::uint64_t seed, TaskPart part,
                                       std::int64_t items = TaskData::kAll) const;
};

}  // namespace sq
