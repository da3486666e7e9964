#include "nn/fields.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

/// A text of at most `length` bytes; bytes that are left out become "...".
std::string cut(std::string text, std::size_t length) {
  if (text.size() <= length) return text;
  std::size_t end = length - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

/// The value as JSON, for error texts.
std::string show(const Json& json) { return cut(json.dump(-1, ' ', false, Json::error_handler_t::replace), 60); }

[[noreturn]] void refuse(std::string_view path, const Json& json, std::string_view allowed,
                         std::string_view hint = "") {
  throw UsageError(fmt::format("config: {} is {} but must be {}{}", path.empty() ? "the document" : path, show(json),
                               allowed, hint));
}

std::string allowed_text(const IntRange& range, std::string_view noun = "an integer") {
  constexpr IntRange any;
  if (range.min != any.min && range.max != any.max) return fmt::format("{} from {} to {}", noun, range.min, range.max);
  if (range.min != any.min) return fmt::format("{} >= {}", noun, range.min);
  if (range.max != any.max) return fmt::format("{} <= {}", noun, range.max);
  return std::string(noun);
}

std::string allowed_text(const RealRange& range) {
  std::string text = "a finite number";
  if (std::isfinite(range.min)) text += fmt::format(" {} {}", range.above_min ? ">" : ">=", range.min);
  if (std::isfinite(range.max))
    text += fmt::format("{} {} {}", std::isfinite(range.min) ? " and" : "", range.below_max ? "<" : "<=", range.max);
  return text;
}

std::string allowed_text(const IntList& list) {
  return fmt::format("a list of at most {} {}{}", list.longest, list.distinct ? "distinct " : "",
                     allowed_text(list.each, "integers"));
}

std::string allowed_text(std::span<const std::string_view> names) {
  return fmt::format("one of {}", fmt::join(names, ", "));
}

bool within(std::int64_t value, const IntRange& range) { return value >= range.min && value <= range.max; }

bool within(double value, const RealRange& range) {
  return std::isfinite(value) && (range.above_min ? value > range.min : value >= range.min) &&
         (range.below_max ? value < range.max : value <= range.max);
}

bool within(const std::vector<std::int64_t>& values, const IntList& list) {
  if (values.size() > list.longest) return false;
  if (!std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return within(v, list.each); })) return false;
  if (!list.distinct) return true;
  std::vector<std::int64_t> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
}

/// A JSON integer that fits in 64 bits.
bool is_int64(const Json& json) {
  if (!json.is_number_integer()) return false;
  return !json.is_number_unsigned() || json.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max();
}

bool is_utf8(const Json& text) {
  try {
    (void)text.dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

/// One struct per action, one overload per kind of field.
struct Reader {
  const Json& json;
  std::string_view path;

  void operator()(bool* value) const {
    if (!json.is_boolean()) refuse(path, json, "true or false");
    *value = json.get<bool>();
  }
  void operator()(std::string* value) const {
    if (!json.is_string() || !is_utf8(json)) refuse(path, json, "a text in UTF-8");
    *value = json.get<std::string>();
  }
  void operator()(const IntRef& f) const {
    if (!is_int64(json) || !within(json.get<std::int64_t>(), f.allowed)) refuse(path, json, allowed_text(f.allowed));
    *f.value = json.get<std::int64_t>();
  }
  void operator()(const RealRef& f) const {
    if (!json.is_number() || !within(json.get<double>(), f.allowed)) refuse(path, json, allowed_text(f.allowed));
    *f.value = json.get<double>();
  }
  void operator()(const IntListRef& f) const {
    if (!json.is_array() || !std::all_of(json.begin(), json.end(), is_int64))
      refuse(path, json, allowed_text(f.allowed));
    const auto values = json.get<std::vector<std::int64_t>>();
    if (!within(values, f.allowed)) refuse(path, json, allowed_text(f.allowed));
    *f.value = values;
  }
  void operator()(const ChoiceRef& f) const {
    if (!json.is_string()) refuse(path, json, allowed_text(f.names));
    const auto& name = json.get_ref<const std::string&>();
    const auto found = std::find(f.names.begin(), f.names.end(), name);
    if (found == f.names.end()) refuse(path, json, allowed_text(f.names), suggestion(name, f.names));
    f.set(f.value, static_cast<std::size_t>(found - f.names.begin()));
  }
  void operator()(const GroupRef& f) const { read_fields(f, json, path); }
  void operator()(const CustomRef& f) const { f.read(f.value, json, path); }
};

struct Writer {
  Json operator()(const bool* value) const { return *value; }
  Json operator()(const std::string* value) const { return *value; }
  Json operator()(const IntRef& f) const { return *f.value; }
  Json operator()(const RealRef& f) const { return *f.value; }
  Json operator()(const IntListRef& f) const { return *f.value; }
  Json operator()(const ChoiceRef& f) const { return f.names[f.get(f.value)]; }
  Json operator()(const GroupRef& f) const { return write_fields(f); }
  Json operator()(const CustomRef& f) const {
    Json json;
    f.write(f.value, json);
    return json;
  }
};

/// JSON has no NaN or infinity, so a bad number is shown by its own text.
struct Checker {
  std::string_view path;

  void operator()(const bool*) const {}
  void operator()(const std::string* value) const {
    if (!is_utf8(*value)) refuse(path, *value, "a text in UTF-8");
  }
  void operator()(const IntRef& f) const {
    if (!within(*f.value, f.allowed)) refuse(path, *f.value, allowed_text(f.allowed));
  }
  void operator()(const RealRef& f) const {
    if (!std::isfinite(*f.value))
      throw UsageError(fmt::format("config: {} is {} but must be {}", path, *f.value, allowed_text(f.allowed)));
    if (!within(*f.value, f.allowed)) refuse(path, *f.value, allowed_text(f.allowed));
  }
  void operator()(const IntListRef& f) const {
    if (!within(*f.value, f.allowed)) refuse(path, *f.value, allowed_text(f.allowed));
  }
  void operator()(const ChoiceRef& f) const {
    if (f.get(f.value) >= f.names.size()) refuse(path, f.get(f.value), allowed_text(f.names));
  }
  void operator()(const GroupRef& f) const { check_fields(f, path); }
  void operator()(const CustomRef& f) const { f.read(f.value, Writer()(f), path); }
};

struct AllowedText {
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const std::string*) const { return "a text"; }
  std::string operator()(const IntRef& f) const { return allowed_text(f.allowed); }
  std::string operator()(const RealRef& f) const { return allowed_text(f.allowed); }
  std::string operator()(const IntListRef& f) const { return allowed_text(f.allowed); }
  std::string operator()(const ChoiceRef& f) const { return allowed_text(f.names); }
  std::string operator()(const GroupRef&) const { return "an object"; }
  std::string operator()(const CustomRef& f) const { return std::string(f.allowed); }
};

std::vector<std::string_view> field_names(const GroupRef& group) {
  std::vector<std::string_view> names;
  for (const FieldRef& field : group.fields) names.push_back(field.name);
  return names;
}

}  // namespace

std::string join_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void read_fields(const GroupRef& group, const Json& json, std::string_view path) {
  const std::vector<std::string_view> names = field_names(group);
  if (json.is_string() && std::find(names.begin(), names.end(), "type") != names.end())
    return read_fields(group, Json{{"type", json}}, path);
  if (!json.is_object()) refuse(path, json, fmt::format("an object with the keys {}", fmt::join(names, ", ")));
  for (const auto& [key, value] : json.items()) {
    require_input(std::find(names.begin(), names.end(), key) != names.end(), "config", "unknown key '{}'{} ({})",
                  join_path(path, key), suggestion(key, names),
                  names.empty() ? "this has no options" : fmt::format("known here: {}", fmt::join(names, ", ")));
  }
  if (group.adapt_defaults) group.adapt_defaults(group.value, json);
  for (const FieldRef& field : group.fields) {
    const auto found = json.find(field.name);
    if (found != json.end()) std::visit(Reader{*found, join_path(path, field.name)}, field.value);
  }
  if (group.validate) group.validate(group.value, path);
}

Json write_fields(const GroupRef& group) {
  Json json = Json::object();
  for (const FieldRef& field : group.fields) json[std::string(field.name)] = std::visit(Writer(), field.value);
  return json;
}

void check_fields(const GroupRef& group, std::string_view path) {
  for (const FieldRef& field : group.fields) std::visit(Checker{join_path(path, field.name)}, field.value);
  if (group.validate) group.validate(group.value, path);
}

std::vector<FieldHelp> describe_fields(const GroupRef& group) {
  std::vector<FieldHelp> rows;
  for (const FieldRef& field : group.fields) {
    if (const auto* nested = std::get_if<GroupRef>(&field.value)) {
      for (FieldHelp row : describe_fields(*nested)) {
        row.key = join_path(field.name, row.key);
        rows.push_back(std::move(row));
      }
    } else {
      rows.push_back({std::string(field.name), std::visit(Writer(), field.value).dump(),
                      std::visit(AllowedText(), field.value), std::string(field.help)});
    }
  }
  return rows;
}

std::string help_table(std::span<const FieldHelp> rows) {
  constexpr std::size_t kLongDefault = 20;
  std::size_t key = 3, value = 7, allowed = 7;
  for (const FieldHelp& row : rows) {
    key = std::max(key, row.key.size());
    value = std::max(value, cut(row.default_value, kLongDefault).size());
    allowed = std::max(allowed, row.allowed.size());
  }
  std::string text = fmt::format("{:{}}  {:{}}  {:{}}  meaning\n", "key", key, "default", value, "allowed", allowed);
  for (const FieldHelp& row : rows)
    text += fmt::format("{:{}}  {:{}}  {:{}}  {}\n", row.key, key, cut(row.default_value, kLongDefault), value,
                        row.allowed, allowed, row.help);
  return text;
}

}  // namespace sq
