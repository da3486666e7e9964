#include "train/json_text.h"

#include "tensor/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <vector>

namespace sq {
namespace {

using Json = nlohmann::json;

/// Line and column (both from 1) of a byte of the text.
std::string place_of(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0 on the first line
  return fmt::format("line {}, column {}", line, before.size() - line_start + 1);
}

std::string list_of(std::initializer_list<std::string_view> required,
                    std::initializer_list<std::string_view> optional) {
  std::vector<std::string_view> all(required);
  all.insert(all.end(), optional.begin(), optional.end());
  return fmt::format("{}", fmt::join(all, ", "));
}

bool contains(std::initializer_list<std::string_view> list, std::string_view key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

const Json& member(const Json& object, std::string_view key, std::string_view where) {
  require_input(object.is_object(), where, "a JSON object is needed, this is a {}", object.type_name());
  const auto found = object.find(key);
  require_input(found != object.end(), where, "the key \"{}\" is missing", key);
  return *found;
}

}  // namespace

Json parse_json_text(std::string_view text, std::string_view where) {
  // One set of keys for each object that is open.
  std::vector<std::set<std::string>> open;
  const auto note_keys = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      require_input(open.back().insert(key).second, where, "the key \"{}\" appears twice in one object", key);
    }
    return true;
  };
  try {
    return Json::parse(text, note_keys);
  } catch (const Json::parse_error& error) {
    throw UsageError(
        fmt::format("{}: not valid JSON at {}", where, place_of(text, error.byte == 0 ? 0 : error.byte - 1)));
  } catch (const Json::exception&) {  // such as a number that no double holds
    throw UsageError(fmt::format("{}: not valid JSON: a number is out of range", where));
  }
}

void check_json_keys(const Json& value, std::string_view where, std::initializer_list<std::string_view> required,
                     std::initializer_list<std::string_view> optional) {
  require_input(value.is_object(), where, "a JSON object is needed, this is a {}", value.type_name());
  for (const auto& [key, unused] : value.items())
    require_input(contains(required, key) || contains(optional, key), where,
                  "the key \"{}\" is unknown; known keys are {}", key, list_of(required, optional));
  for (const std::string_view key : required)
    require_input(value.contains(key), where, "the key \"{}\" is missing", key);
}

std::string json_string(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = member(object, key, where);
  require_input(value.is_string(), where, "\"{}\" must be a string, it is a {}", key, value.type_name());
  return value.get<std::string>();
}

std::int64_t json_integer(const Json& object, std::string_view key, std::string_view where, std::int64_t least) {
  const Json& value = member(object, key, where);
  require_input(value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<std::uint64_t>() <= std::uint64_t{INT64_MAX}),
                where, "\"{}\" must be a whole number, it is {}", key, value.dump());
  const auto number = value.get<std::int64_t>();
  require_input(number >= least, where, "\"{}\" is {}; it must be at least {}", key, number, least);
  return number;
}

}  // namespace sq
