// nn/json.h: reading JSON that people wrote, changing it from the command line, comparing two documents.
#pragma once

#include "tensor/error.h"

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sq {

/// Objects keep the order in which their keys were written. Include <nlohmann/json.hpp> where its content is used.
using Json = nlohmann::ordered_json;

/// Strict JSON: throws UsageError naming `source`, the line and the reason on syntax errors, keys that occur twice in
/// one object, and nesting deeper than 64.
Json parse_json(std::string_view text, std::string_view source);

/// The same for a file of at most 64 MiB. Throws UsageError when it is missing, unreadable, empty or too large.
Json read_json_file(const std::string& path);

/// Applies "a.b.c=value" to an object. The value is read as JSON where it is JSON (12, 1e-3, true, [1,2,4], "text"),
/// else as text. Missing objects on the way are made; a number addresses an entry of a list (mixer.0.num_heads=4); a
/// text on the way stands for {"type": text}. Throws UsageError when the text has no such form or the path leads
/// through a value that is no object or list. Says nothing about whether the key is known: reading the result does.
void apply_override(Json& document, std::string_view assignment);

/// One line for each leaf that differs or exists on one side only: "mixer.num_heads: 4 → 8".
std::vector<std::string> differences(const Json& before, const Json& after);

/// The candidate that `word` is most likely a misspelling of (edit distance of at most a third of its length, at least
/// 1), or "" when none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

/// "; did you mean 'x'?" or "".
std::string suggestion(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace sq
