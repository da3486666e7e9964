#include "train/data/tasks.h"

#include "train/data/copy_task.h"
#include "train/data/induction_task.h"
#include "train/data/mqar_task.h"
#include "train/data/needle_task.h"
#include "train/data/selective_copy_task.h"

#include <fmt/ranges.h>

#include <array>

namespace sq {
namespace {

template <class Config, class Made>
constexpr TaskEntry entry(std::string_view name, std::string_view summary, std::string_view paper) {
  return {.name = name,
          .summary = summary,
          .paper = paper,
          .normalise = [](const Json& options,
                          std::string_view path) { return config_to_json(config_from_json<Config>(options, path)); },
          .make = [](const Json& options, std::int64_t length) -> std::unique_ptr<Task> {
            return std::make_unique<Made>(config_from_json<Config>(options, "task"), length);
          },
          .help = [] { return config_help<Config>(); }};
}

constexpr std::array kTasks{
    entry<CopyTaskConfig, CopyTask>("copy", "repeat a random pattern", ""),
    entry<NeedleTaskConfig, NeedleTask>("needle", "find one value far back in an empty text", ""),
    entry<MqarTaskConfig, MqarTask>("mqar", "key-value pairs, then the keys again: give each one's value",
                                    "Arora et al. 2023"),
    entry<SelectiveCopyTaskConfig, SelectiveCopyTask>("selective_copy", "repeat the ids that stood among noise",
                                                      "Gu and Dao 2023"),
    entry<InductionTaskConfig, InductionTask>("induction", "say what followed the trigger last time",
                                              "Olsson et al. 2022"),
};

}  // namespace

std::span<const TaskEntry> task_registry() { return kTasks; }

const TaskEntry& find_task(std::string_view name, std::string_view path) {
  std::vector<std::string_view> known;
  for (const TaskEntry& entry : kTasks) {
    if (entry.name == name) return entry;
    known.push_back(entry.name);
  }
  throw UsageError(
      fmt::format("{} is '{}' but must be one of {}{}", path, name, fmt::join(known, ", "), suggestion(name, known)));
}

TaskConfig TaskConfig::from_json(const Json& json, std::string_view path) {
  if (json.is_string()) return from_json(Json{{"type", json}}, path);
  require_input(json.is_object(), "config", "{} must be an object with a type, or a type alone", path);
  const auto type = json.find("type");
  require_input(type != json.end() && type->is_string(), "config", "{} needs a text 'type'", path);
  Json options = json;
  options.erase("type");
  if (*type == kNone) {
    require_input(options.empty(), "config", "{} has options but its type is 'none'; name the task", path);
    return {};
  }
  const TaskEntry& entry = find_task(type->get_ref<const std::string&>(), path);
  return {std::string(entry.name), entry.normalise(options, path)};
}

Json TaskConfig::to_json() const {
  if (is_none()) return type;
  Json json{{"type", type}};
  json.update(options);
  return json;
}

std::shared_ptr<const Task> TaskConfig::make(std::int64_t length) const {
  require_input(!is_none(), "task", "there is none");
  require_input(length >= 1, "task", "a length of {} is not possible; use 1 or more", length);
  return find_task(type).make(options, length);
}

std::shared_ptr<const TaskData> TaskConfig::data(std::int64_t length, std::uint64_t seed, TaskPart part,
                                                 std::int64_t items) const {
  return std::make_shared<TaskData>(make(length), "task " + to_json().dump(), seed, part, items);
}

}  // namespace sq
