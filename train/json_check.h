// train/json_check.h: members of JSON objects that must be there and be of one type.
#pragma once

#include "nn/json.h"

#include <cstdint>
#include <initializer_list>

namespace sq {

/// Throws UsageError naming `where` when `value` is no object, lacks one of the keys, or holds another one.
void check_json_keys(const Json& value, std::string_view where, std::initializer_list<std::string_view> keys);

/// The member `key`. Throws UsageError naming `where` and the key when it is missing or of another type.
std::string json_string(const Json& object, std::string_view key, std::string_view where);
/// At least `least`, which must not be negative.
std::int64_t json_integer(const Json& object, std::string_view key, std::string_view where, std::int64_t least);

}  // namespace sq
