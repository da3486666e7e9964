#include "nn/fields.h"

#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

using namespace sq;

namespace {

enum class Colour { red, dark_green };
constexpr std::array<std::string_view, 2> choices(Colour) { return {"red", "dark_green"}; }

struct Wheel {
  std::string type = "spoked";
  double radius = 0.5;

  static constexpr auto fields() {
    return std::tuple{field("type", &Wheel::type, "how it is made"),
                      field("radius", &Wheel::radius, "in metres", {.min = 0, .max = 2, .above_min = true})};
  }
};

struct Cart {
  bool covered = false;
  std::int64_t seats = 2;
  double load = 0;
  Colour colour = Colour::red;
  std::vector<std::int64_t> axles = {1, 3};
  Wheel wheel = {};

  static constexpr auto fields() {
    return std::tuple{
        field("covered", &Cart::covered, "has a roof"),
        field("seats", &Cart::seats, "places to sit", {.min = 1, .max = 8}),
        field("load", &Cart::load, "in tonnes", {.min = 0, .max = 1, .below_max = true}),
        field("colour", &Cart::colour, "of the paint"),
        field("axles", &Cart::axles, "their places", {.each = {.min = 1}, .distinct = true}),
        field("wheel", &Cart::wheel, "all alike"),
    };
  }
  void validate(std::string_view path) const {
    require_input(!covered || seats > 1, "config", "{} is too small for a roof", join_path(path, "seats"));
  }
};

std::string error_of(const std::string& text) {
  try {
    config_from_json<Cart>(parse_json(text, "test"));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string parse_error(const std::string& text) {
  try {
    parse_json(text, "file.json");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

Json overridden(std::string_view document, std::string_view assignment) {
  Json json = parse_json(document, "test");
  apply_override(json, assignment);
  return json;
}

}  // namespace

TEST_CASE("a configuration survives JSON and back") {
  Cart cart{.covered = true, .seats = 5, .load = 0.1, .colour = Colour::dark_green, .axles = {}, .wheel = {"disc", 2}};
  const Json json = config_to_json(cart);
  CHECK(
      json.dump() ==
      R"({"covered":true,"seats":5,"load":0.1,"colour":"dark_green","axles":[],"wheel":{"type":"disc","radius":2.0}})");
  CHECK(config_to_json(config_from_json<Cart>(json)) == json);
}

TEST_CASE("keys that are left out keep their defaults") {
  const Cart cart = config_from_json<Cart>(parse_json(R"({"wheel":{"radius":1}})", "test"));
  CHECK(cart.seats == 2);
  CHECK(cart.wheel.type == "spoked");
  CHECK(cart.wheel.radius == 1.0);
}

TEST_CASE("a text stands for an object with that type") {
  CHECK(config_from_json<Cart>(parse_json(R"({"wheel":"disc"})", "test")).wheel.type == "disc");
}

TEST_CASE("errors name the key, the value and what is allowed") {
  CHECK(error_of(R"({"seat":3})") ==
        "config: unknown key 'seat'; did you mean 'seats'? (known here: covered, seats, load, colour, axles, wheel)");
  CHECK(error_of(R"({"wheel":{"q":3}})") == "config: unknown key 'wheel.q' (known here: type, radius)");
  CHECK(error_of(R"({"seats":0})") == "config: seats is 0 but must be an integer from 1 to 8");
  CHECK(error_of(R"({"seats":2.0})") == "config: seats is 2.0 but must be an integer from 1 to 8");
  CHECK(error_of(R"({"seats":18446744073709551615})") ==
        "config: seats is 18446744073709551615 but must be an integer from 1 to 8");
  CHECK(error_of(R"({"seats":"3"})") == "config: seats is \"3\" but must be an integer from 1 to 8");
  CHECK(error_of(R"({"covered":1})") == "config: covered is 1 but must be true or false");
  CHECK(error_of(R"({"load":1})") == "config: load is 1 but must be a finite number >= 0 and < 1");
  CHECK(error_of(R"({"wheel":{"radius":0}})") == "config: wheel.radius is 0 but must be a finite number > 0 and <= 2");
  CHECK(error_of(R"({"colour":"darkgreen"})") ==
        "config: colour is \"darkgreen\" but must be one of red, dark_green; did you mean 'dark_green'?");
  CHECK(error_of(R"({"axles":[1,1]})") ==
        "config: axles is [1,1] but must be a list of at most 1024 distinct integers >= 1");
  CHECK(error_of(R"({"axles":[0]})") ==
        "config: axles is [0] but must be a list of at most 1024 distinct integers >= 1");
  CHECK(error_of(R"({"axles":[1.5]})") ==
        "config: axles is [1.5] but must be a list of at most 1024 distinct integers >= 1");
  CHECK(error_of(R"({"axles":7})") == "config: axles is 7 but must be a list of at most 1024 distinct integers >= 1");
  CHECK(error_of(R"([1])") ==
        "config: the document is [1] but must be an object with the keys covered, seats, load, colour, axles, wheel");
  CHECK(error_of(R"({"covered":true,"seats":1})") == "config: seats is too small for a roof");
}

TEST_CASE("values set by a program are checked like values that were read") {
  CHECK_NOTHROW(check_config(Cart{}));
  CHECK_THROWS_WITH_AS(check_config(Cart{.load = NAN}), "config: load is nan but must be a finite number >= 0 and < 1",
                       UsageError);
  CHECK_THROWS_WITH_AS(check_config(Cart{.wheel = {"disc", INFINITY}}, "cart"),
                       "config: cart.wheel.radius is inf but must be a finite number > 0 and <= 2", UsageError);
  CHECK_THROWS_AS(check_config(Cart{.seats = -1}), UsageError);
  CHECK_THROWS_AS(check_config(Cart{.colour = static_cast<Colour>(7)}), UsageError);
  CHECK_THROWS_AS(check_config(Cart{.axles = {2, 2}}), UsageError);
  CHECK_THROWS_AS(check_config(Cart{.covered = true, .seats = 1}), UsageError);
}

TEST_CASE("overrides take JSON, or text where it is none") {
  CHECK(overridden("{}", "seats=4").dump() == R"({"seats":4})");
  CHECK(overridden(R"({"seats":2})", "seats=4").dump() == R"({"seats":4})");
  CHECK(overridden("{}", "axles=[1,2,4]").dump() == R"({"axles":[1,2,4]})");
  CHECK(overridden("{}", "colour=red").dump() == R"({"colour":"red"})");
  CHECK(overridden("{}", "wheel.radius=1e-3").dump() == R"({"wheel":{"radius":0.001}})");
  CHECK(overridden(R"({"wheel":"disc"})", "wheel.radius=2").dump() == R"({"wheel":{"type":"disc","radius":2}})");
  CHECK(overridden(R"({"list":[{"a":1},{"a":2}]})", "list.1.a=9").dump() == R"({"list":[{"a":1},{"a":9}]})");
  CHECK(overridden("{}", "equation=a=b").dump() == R"({"equation":"a=b"})");
}

TEST_CASE("overrides that make no sense are refused") {
  CHECK_THROWS_WITH_AS(overridden("{}", "seats"), "override: 'seats' must have the form key=value", UsageError);
  CHECK_THROWS_AS(overridden("{}", "=3"), UsageError);
  CHECK_THROWS_AS(overridden("{}", "a..b=3"), UsageError);
  CHECK_THROWS_AS(overridden("{}", "a.=3"), UsageError);
  CHECK_THROWS_WITH_AS(overridden(R"({"a":1})", "a.b=3"), "override: 'a.b=3': 'b' lies under a plain value",
                       UsageError);
  CHECK_THROWS_WITH_AS(overridden(R"({"a":[1]})", "a.1=3"),
                       "override: 'a.1=3': '1' must be the number of an entry, 0 to 0", UsageError);
  CHECK_THROWS_AS(overridden(R"({"a":[]})", "a.0=3"), UsageError);
  // NaN is no JSON, so it arrives as a text and fails as a number.
  CHECK_THROWS_WITH_AS(config_from_json<Cart>(overridden("{}", "load=nan")),
                       "config: load is \"nan\" but must be a finite number >= 0 and < 1", UsageError);
  CHECK_THROWS_AS(config_from_json<Cart>(overridden("{}", "load=1e999")), UsageError);
  CHECK_THROWS_AS(config_from_json<Cart>(overridden("{}", "wheel.type=\xff")), UsageError);
}

TEST_CASE("JSON is read strictly") {
  CHECK(parse_error("") == "file.json: it is empty; JSON is expected");
  CHECK(parse_error("{\"a\":1,\"b\":{\"a\":2},\"a\":3}") == "file.json: the key 'a' occurs twice in one object");
  CHECK(parse_error("{\"a\":1,}").find("file.json: not valid JSON: parse error at line 1, column 8") == 0);
  CHECK(parse_error("{\"a\":\"\xff\"}").find("file.json: not valid JSON") == 0);
  CHECK(parse_error(std::string(65, '[')) == "file.json: the JSON is nested deeper than 64 levels");
  CHECK(parse_error(std::string(64, '[') + std::string(64, ']')) == "");
  CHECK(parse_error("[1e999]").find("file.json: not valid JSON") == 0);
}

TEST_CASE("files that cannot be configurations are named") {
  const test::TemporaryFolder folder;
  const std::string missing = folder.path() / "missing.json", empty = folder.path() / "empty.json";
  std::ofstream(empty).close();
  CHECK_THROWS_WITH_AS(read_json_file(missing), (missing + ": no such file").c_str(), UsageError);
  CHECK_THROWS_WITH_AS(read_json_file(empty), (empty + ": it is empty; JSON is expected").c_str(), UsageError);
  CHECK_THROWS_WITH_AS(read_json_file(folder.path()),
                       (folder.path().string() + ": it is a directory; a JSON file is expected").c_str(), UsageError);
  const std::string good = folder.path() / "good.json";
  std::ofstream(good) << "{\"a\": 1}";
  CHECK(read_json_file(good).dump() == "{\"a\":1}");
}

TEST_CASE("differences are listed leaf by leaf") {
  const Json before = parse_json(R"({"a":1,"b":{"c":[1,2],"d":true},"e":0})", "test");
  const Json after = parse_json(R"({"a":1,"b":{"c":[1,3],"d":true},"f":0})", "test");
  CHECK(differences(before, after) ==
        std::vector<std::string>{"b.c: [1,2] → [1,3]", "e: 0 → (absent)", "f: (absent) → 0"});
  CHECK(differences(before, before).empty());
}

TEST_CASE("help has one row a field") {
  const std::vector<FieldHelp> rows = config_help<Cart>();
  REQUIRE(rows.size() == 7);
  CHECK(rows[1].key == "seats");
  CHECK(rows[1].default_value == "2");
  CHECK(rows[1].allowed == "an integer from 1 to 8");
  CHECK(rows[1].help == "places to sit");
  CHECK(rows[6].key == "wheel.radius");
  CHECK(help_table(rows).find("wheel.type    \"spoked\"  a text") != std::string::npos);
}

TEST_CASE("long values are cut between characters") {
  std::string value = "x";
  for (int i = 0; i < 40; ++i) value += "é";
  const std::string error = error_of(R"({"seats":")" + value + R"("})");
  CHECK(error.find("éé... but must be an integer") != std::string::npos);
  CHECK(error.size() < 130);
}

TEST_CASE("misspellings are guessed only when near") {
  const std::array<std::string_view, 3> names{"local_window", "num_heads", "w"};
  CHECK(nearest("local_windw", names) == "local_window");
  CHECK(nearest("numheads", names) == "num_heads");
  CHECK(nearest("learning_rate", names).empty());
}
