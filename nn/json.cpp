#include "nn/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

namespace sq {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::uintmax_t kMaxFileBytes = 64 << 20;

/// What the parser itself does not check: keys that occur twice, and nesting without end.
class StrictKeys {
 public:
  explicit StrictKeys(std::string_view source) : source_(source) {}

  bool operator()(int /*depth*/, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      keys_.emplace_back();
      require_input(keys_.size() <= kMaxDepth, source_, "the JSON is nested deeper than {} levels", kMaxDepth);
    } else if (event == Event::object_end || event == Event::array_end) {
      keys_.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      require_input(keys_.back().insert(key).second, source_, "the key '{}' occurs twice in one object", key);
    }
    return true;
  }

 private:
  std::string_view source_;
  std::vector<std::set<std::string>> keys_;
};

/// "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error …" without the library's prefix.
std::string reason(const std::exception& error) {
  const std::string text = error.what();
  const auto bracket = text.find("] ");
  return bracket == std::string::npos ? text : text.substr(bracket + 2);
}

/// A value from the command line: JSON if it is JSON, else the text itself.
Json parse_value(std::string_view text) {
  try {
    return parse_json(text, "value");
  } catch (const UsageError&) {
    return Json(std::string(text));
  }
}

/// The member or entry `key` of `node`, made when a member is missing.
Json& descend(Json& node, std::string_view key, std::string_view assignment) {
  if (node.is_null()) node = Json::object();
  if (node.is_string()) node = Json{{"type", node}};
  if (node.is_array()) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    require_input(error == std::errc() && end == key.data() + key.size() && index < node.size(), "override",
                  "'{}': '{}' must be the number of an entry, 0 to {}", assignment, key, node.size() - 1);
    return node[index];
  }
  require_input(node.is_object(), "override", "'{}': '{}' lies under a plain value", assignment, key);
  return node[std::string(key)];
}

void collect_differences(const Json* before, const Json* after, const std::string& path,
                         std::vector<std::string>& out) {
  if (before && after && *before == *after) return;
  const auto is_object = [](const Json* json) { return json && json->is_object(); };
  if (is_object(before) && is_object(after)) {
    const auto child = [](const Json* json, const std::string& key) {
      const auto found = json->find(key);
      return found == json->end() ? nullptr : &*found;
    };
    const std::string prefix = path.empty() ? "" : path + ".";
    for (const auto& [key, value] : before->items()) collect_differences(&value, child(after, key), prefix + key, out);
    for (const auto& [key, value] : after->items())
      if (!before->contains(key)) collect_differences(nullptr, &value, prefix + key, out);
    return;
  }
  const auto text = [](const Json* json) { return json ? json->dump() : "(absent)"; };
  out.push_back(fmt::format("{}: {} → {}", path, text(before), text(after)));
}

/// Insertions, deletions and substitutions that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  require_input(!text.empty(), source, "it is empty; JSON is expected");
  try {
    return Json::parse(text.begin(), text.end(), StrictKeys(source));
  } catch (const Json::exception& error) {
    throw UsageError(fmt::format("{}: not valid JSON: {}", source, reason(error)));
  }
}

Json read_json_file(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  require_input(std::filesystem::exists(status), path, "no such file");
  require_input(!std::filesystem::is_directory(status), path, "it is a directory; a JSON file is expected");
  std::ifstream file(path, std::ios::binary);
  require_input(file.good(), path, "the file cannot be read");
  std::string text;
  for (char block[1 << 16]; file.read(block, sizeof block) || file.gcount() > 0;) {
    text.append(block, static_cast<std::size_t>(file.gcount()));
    require_input(text.size() <= kMaxFileBytes, path, "the file is larger than {} MiB", kMaxFileBytes >> 20);
  }
  require_input(!file.bad(), path, "the file cannot be read");
  return parse_json(text, path);
}

void apply_override(Json& document, std::string_view assignment) {
  const auto equals = assignment.find('=');
  require_input(equals != std::string_view::npos && equals > 0, "override", "'{}' must have the form key=value",
                assignment);
  std::string_view path = assignment.substr(0, equals);
  Json* node = &document;
  while (true) {
    const auto dot = path.find('.');
    const std::string_view key = path.substr(0, dot);
    require_input(!key.empty(), "override", "'{}' has an empty part in its key", assignment);
    node = &descend(*node, key, assignment);
    if (dot == std::string_view::npos) break;
    path.remove_prefix(dot + 1);
  }
  *node = parse_value(assignment.substr(equals + 1));
}

std::vector<std::string> differences(const Json& before, const Json& after) {
  std::vector<std::string> out;
  collect_differences(&before, &after, "", out);
  return out;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string_view best = nearest(word, candidates);
  return best.empty() ? "" : fmt::format("; did you mean '{}'?", best);
}

}  // namespace sq
