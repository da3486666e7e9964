#include "train/json_check.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

const Json& member(const Json& object, std::string_view key, std::string_view where) {
  require_input(object.is_object(), where, "a JSON object is needed, this is a value of type {}", object.type_name());
  const auto found = object.find(std::string(key));
  require_input(found != object.end(), where, "the key \"{}\" is missing", key);
  return *found;
}

}  // namespace

void check_json_keys(const Json& value, std::string_view where, std::initializer_list<std::string_view> keys) {
  require_input(value.is_object(), where, "a JSON object is needed, this is a value of type {}", value.type_name());
  for (const auto& [key, unused] : value.items())
    require_input(std::find(keys.begin(), keys.end(), key) != keys.end(), where,
                  "the key \"{}\" is unknown; the keys are {}", key, fmt::join(keys, ", "));
  for (const std::string_view key : keys) (void)member(value, key, where);
}

std::string json_string(const Json& object, std::string_view key, std::string_view where) {
  const Json& value = member(object, key, where);
  require_input(value.is_string(), where, "\"{}\" must be a text, it is a value of type {}", key, value.type_name());
  return value.get<std::string>();
}

std::int64_t json_integer(const Json& object, std::string_view key, std::string_view where, std::int64_t least) {
  const Json& value = member(object, key, where);
  require_input(value.is_number_integer(), where, "\"{}\" must be a whole number, it is a value of type {}", key,
                value.type_name());
  // Numbers above 2⁶³-1 turn negative here.
  const auto number = value.get<std::int64_t>();
  require_input(number >= least, where, "\"{}\" is {}; it must be {} to {}", key, value.dump(), least, INT64_MAX);
  return number;
}

}  // namespace sq
