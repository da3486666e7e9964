// nn/fields.h: a configuration struct described once gives JSON in and out, overrides, help and error texts.
//
//   struct HeadConfig {
//     std::int64_t num_heads = 8;
//     double dropout = 0;
//     static constexpr auto fields() {
//       return std::tuple{field("num_heads", &HeadConfig::num_heads, "query heads", {.min = 1}),
//                         field("dropout", &HeadConfig::dropout, "share of weights set to 0",
//                               {.min = 0, .max = 1, .below_max = true})};
//     }
//     void validate(std::string_view path) const;  // optional: rules between fields
//     void adapt_defaults(const Json& given);      // optional: defaults that depend on other fields
//   };
//
// Member types: bool, std::int64_t, double, std::string, std::vector<std::int64_t>, an enum class with a function
// `constexpr std::array<std::string_view, N> choices(E)` beside it (names in the order of the values 0 … N-1), another
// described struct, or a class with `static T from_json(const Json&, std::string_view path)`, `Json to_json() const`
// and a text `kAllowed` for the help. Reading is strict: an unknown key, a wrong type or a value out of range is a
// UsageError that names the dotted key, the value and what is allowed. A text where a struct with a field "type" is
// expected stands for
// {"type": text}.
#pragma once

#include "nn/json.h"

#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

namespace sq {

// What a value may be. Doubles are always finite.
struct IntRange {
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
};
struct RealRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is not allowed
  bool below_max = false;  // max itself is not allowed
};
struct IntList {
  IntRange each = {};
  bool distinct = false;
  std::size_t longest = 1024;
};
struct NoRule {};

template <class T>
struct RuleOf {
  using type = NoRule;
};
template <>
struct RuleOf<std::int64_t> {
  using type = IntRange;
};
template <>
struct RuleOf<double> {
  using type = RealRange;
};
template <>
struct RuleOf<std::vector<std::int64_t>> {
  using type = IntList;
};

template <class Config, class T>
struct Field {
  std::string_view name;
  T Config::*member;
  std::string_view help;
  typename RuleOf<T>::type rule;
};

template <class Config, class T>
constexpr Field<Config, T> field(std::string_view name, T Config::*member, std::string_view help,
                                 typename RuleOf<T>::type rule = {}) {
  return {name, member, help, rule};
}

/// One line of a help table.
struct FieldHelp {
  std::string key;            // dotted
  std::string default_value;  // as JSON
  std::string allowed;        // "an integer >= 1"
  std::string help;
};

/// Columns key, default (cut when long), allowed, help.
std::string help_table(std::span<const FieldHelp> rows);

// A field of one object with its type erased, so that all JSON handling is ordinary code in fields.cpp.
struct FieldRef;

struct ChoiceRef {
  void* value;
  std::span<const std::string_view> names;
  std::size_t (*get)(const void*);
  void (*set)(void*, std::size_t);
};
struct IntRef {
  std::int64_t* value;
  IntRange allowed;
};
struct RealRef {
  double* value;
  RealRange allowed;
};
struct IntListRef {
  std::vector<std::int64_t>* value;
  IntList allowed;
};
struct CustomRef {
  void* value;
  std::string_view allowed;
  void (*read)(void*, const Json&, std::string_view path);
  void (*write)(const void*, Json&);
};
/// A struct: its fields, and its own hooks where it has them (null otherwise).
struct GroupRef {
  std::vector<FieldRef> fields;
  void* value;
  void (*validate)(const void*, std::string_view path);
  void (*adapt_defaults)(void*, const Json&);
};

struct FieldRef {
  std::string_view name;
  std::string_view help;
  std::variant<bool*, std::string*, IntRef, RealRef, IntListRef, ChoiceRef, GroupRef, CustomRef> value;
};

/// Sets the fields that `json` names and leaves the others; then runs validate(). `path` is the dotted name of the
/// object for error texts, "" for the document itself.
void read_fields(const GroupRef& group, const Json& json, std::string_view path);
/// All fields, in order.
Json write_fields(const GroupRef& group);
/// Checks values that did not come from JSON against the same rules.
void check_fields(const GroupRef& group, std::string_view path);
std::vector<FieldHelp> describe_fields(const GroupRef& group);

/// "parent.key", or "key" under the document itself.
std::string join_path(std::string_view path, std::string_view key);

namespace detail {

template <class T>
concept Described = requires {
  T::fields();
};
template <class T>
concept HasCustomJson = requires(const Json& json) {
  T::from_json(json, std::string_view());
};

template <Described Config>
GroupRef bind(Config& config);

template <class T>
auto bind_value(T& value, const typename RuleOf<T>::type& rule) {
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    return &value;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return IntRef{&value, rule};
  } else if constexpr (std::is_same_v<T, double>) {
    return RealRef{&value, rule};
  } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
    return IntListRef{&value, rule};
  } else if constexpr (std::is_enum_v<T>) {
    static constexpr auto names = choices(T{});
    return ChoiceRef{&value, names, [](const void* p) { return static_cast<std::size_t>(*static_cast<const T*>(p)); },
                     [](void* p, std::size_t i) { *static_cast<T*>(p) = static_cast<T>(i); }};
  } else if constexpr (HasCustomJson<T>) {
    return CustomRef{
        &value, T::kAllowed,
        [](void* p, const Json& json, std::string_view path) { *static_cast<T*>(p) = T::from_json(json, path); },
        [](const void* p, Json& json) { json = static_cast<const T*>(p)->to_json(); }};
  } else {
    return bind(value);
  }
}

template <Described Config>
GroupRef bind(Config& config) {
  GroupRef group{{}, &config, nullptr, nullptr};
  std::apply(
      [&](const auto&... f) {
        (group.fields.push_back(FieldRef{f.name, f.help, bind_value(config.*f.member, f.rule)}), ...);
      },
      Config::fields());
  if constexpr (requires(const Config& c) { c.validate(std::string_view()); })
    group.validate = [](const void* p, std::string_view path) { static_cast<const Config*>(p)->validate(path); };
  if constexpr (requires(Config & c, const Json& json) { c.adapt_defaults(json); })
    group.adapt_defaults = [](void* p, const Json& json) { static_cast<Config*>(p)->adapt_defaults(json); };
  return group;
}

}  // namespace detail

/// Reads a whole struct: named fields from `json`, the others at their defaults. Throws UsageError.
template <class Config>
Config config_from_json(const Json& json, std::string_view path = "") {
  Config config;
  read_fields(detail::bind(config), json, path);
  return config;
}

/// All fields in the order of fields(). Include <nlohmann/json.hpp> to call it (`Result` lets this header do without).
template <class Config, class Result = Json>
Result config_to_json(Config config) {
  return write_fields(detail::bind(config));
}

/// Throws UsageError unless every field of a struct filled by a program obeys its rule and validate() agrees.
template <class Config>
void check_config(Config config, std::string_view path = "") {
  check_fields(detail::bind(config), path);
}

/// One row a field, nested structs with dotted keys.
template <class Config>
std::vector<FieldHelp> config_help() {
  Config config;
  return describe_fields(detail::bind(config));
}

}  // namespace sq
