#include "tools/compare/store.h"

#include "nn/json.h"
#include "tensor/file.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace sq::compare {
namespace {

constexpr const char* kFile = "results.jsonl";
constexpr std::string_view kColumns[]{
    "mixer",       "work",           "n",           "task",       "ms",
    "min_ms",      "max_ms",         "runs",        "prompt_ms",  "flops",
    "mixer_flops", "peak_bytes",     "state_bytes", "parameters", "feed_forward_width",
    "excess",      "pairs",          "moved",       "max_change", "relative_error",
    "equal",       "steps",          "loss",        "val_loss",   "accuracy",
    "exponent",    "exponent_error", "r_squared",   "points",     "seconds",
    "skipped",     "failed"};

std::string field(const Json& value) {
  if (!value.is_string()) return value.dump();
  std::string text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  for (std::size_t i = 0; (i = text.find('"', i)) != std::string::npos; i += 2) text.insert(i, 1, '"');
  return '"' + text + '"';
}

std::string dump(const Json& line) { return line.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Key key_of(const Json& record) {
  return {record.value("mixer", ""), record.value("work", ""), record.value("n", std::int64_t{0}),
          record.value("task", "")};
}

bool failed(const Json& record) { return record.contains("failed"); }

void Store::take(const Json& line) {
  const std::string work = line.value("work", "");
  if (work == "settings") {
    settings_ = line;
    settings_.erase("work");
  } else if (work == "run") {
    commands_.push_back(line.value("command", ""));
  } else {
    const auto same = std::find_if(records_.begin(), records_.end(),
                                   [key = key_of(line)](const Json& record) { return key_of(record) == key; });
    if (same != records_.end())
      *same = line;
    else
      records_.push_back(line);
  }
}

void Store::load(const std::filesystem::path& file) {
  const std::string content = read_file(file);
  std::size_t begin = 0;
  for (std::size_t line = 1; begin < content.size(); ++line) {
    const std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string where = fmt::format("{}, line {}", file.string(), line);
    const Json record = parse_json(std::string_view(content).substr(begin, end - begin), where);
    require_input(record.is_object() && record.contains("work") && record["work"].is_string(), where,
                  "it is no result of a comparison");
    try {
      take(record);
    } catch (const Json::exception&) {
      throw UsageError(fmt::format("{}: an entry has the wrong type", where));
    }
    begin = end + 1;
  }
  require_input(settings_.is_object(), file.string(), "the line with the settings is missing");
  path_ = file;
  if (begin < content.size()) std::filesystem::resize_file(file, begin);
}

Store Store::read(const std::filesystem::path& folder) {
  require_input(std::filesystem::exists(folder / kFile), "compare", "'{}' holds no {}", folder.string(), kFile);
  Store store;
  store.load(folder / kFile);
  return store;
}

Store Store::open(const std::filesystem::path& folder, const Json& settings) {
  require_input(!std::filesystem::exists(folder) || std::filesystem::is_directory(folder), "--out",
                "'{}' is a file; give a folder", folder.string());
  const std::filesystem::path path = folder / kFile;
  Store store;
  const bool begun = std::filesystem::exists(path) && read_file(path).find('\n') != std::string::npos;
  if (begun) {
    store.load(path);
    const std::vector<std::string> changes = differences(store.settings_, settings);
    require_input(changes.empty(), "compare",
                  "'{}' holds results of other settings ({}); give the same ones or another --out", folder.string(),
                  fmt::join(changes, "; "));
  } else {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    require_input(!error, "--out", "'{}' cannot be made: {}", folder.string(), error.message());
  }
  store.path_ = path;
  store.file_.open(path, begun ? std::ios::app : std::ios::trunc);
  require(store.file_.good(), "compare", "'{}' cannot be written", path.string());
  if (!begun) {
    Json line{{"work", "settings"}};
    line.update(settings);
    store.append(line);
  }
  return store;
}

void Store::append(const Json& line) {
  file_ << dump(line) << '\n' << std::flush;
  require(file_.good(), "compare", "'{}' cannot be written; is the disk full?", path_.string());
  take(line);
}

void Store::add_command(const std::string& command) { append({{"work", "run"}, {"command", command}}); }

void Store::add(const Key& key, const Json& result) {
  Json line{{"mixer", key.mixer}, {"work", key.work}};
  if (key.n > 0) line["n"] = key.n;
  if (!key.task.empty()) line["task"] = key.task;
  line.update(result);
  append(line);
}

const Json* Store::find(const Key& key) const {
  const auto found = std::find_if(records_.begin(), records_.end(), [&](const Json& r) { return key_of(r) == key; });
  return found == records_.end() ? nullptr : &*found;
}

std::string csv(const std::vector<Json>& records) {
  std::string text = fmt::format("{}\r\n", fmt::join(kColumns, ","));
  for (const Json& record : records) {
    std::vector<std::string> fields;
    for (const std::string_view column : kColumns) {
      const auto found = record.find(std::string(column));
      fields.push_back(found == record.end() || found->is_null() ? "" : field(*found));
    }
    text += fmt::format("{}\r\n", fmt::join(fields, ","));
  }
  return text;
}

}  // namespace sq::compare
