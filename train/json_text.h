// train/json_text.h: JSON from files and lines, with every failure a UsageError that says where it is.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sq {

/// Parses all of `text`. Throws UsageError naming `where`, line and column when it is not JSON or names a key of an
/// object twice.
nlohmann::json parse_json_text(std::string_view text, std::string_view where);

/// The keys an object may have. Throws UsageError naming `where` when `value` is no object, holds another key (the
/// known ones are listed), or lacks one that is required.
void check_json_keys(const nlohmann::json& value, std::string_view where,
                     std::initializer_list<std::string_view> required,
                     std::initializer_list<std::string_view> optional = {});

/// The value of a key, of the type wanted. Throws UsageError naming `where` and the key.
std::string json_string(const nlohmann::json& object, std::string_view key, std::string_view where);
std::int64_t json_integer(const nlohmann::json& object, std::string_view key, std::string_view where,
                          std::int64_t least);

}  // namespace sq
