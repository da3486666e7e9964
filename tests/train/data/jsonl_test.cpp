#include "train/data/jsonl.h"

#include "tensor/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"

#include <doctest/doctest.h>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;
namespace fs = std::filesystem;

namespace {

/// Every kind of line that a JSONL file may hold by mistake.
const std::string kMixed =
    "\xEF\xBB\xBF{\"text\": \"first, with a byte-order mark\"}\n"
    "12\nnull\n[\"text\"]\n\"text\"\n"
    "{\"text\": null}\n{\"text\": 5}\n{\"text\": [\"a\"]}\n"
    "{\"body\": \"x\"}\n{\"text\": \"cut o\n{\"text\": \"bad \xFF byte\"}\n"
    "{\"text\": \"short\"}\n\n \t\r\n"
    "{\"text\": \"second, after the rest\"}\r{\"text\": \"third, after a lone CR\"}";

std::string decoded(const JsonlDataset& data, std::int64_t index) {
  Ids x(static_cast<std::size_t>(data.length())), y(x.size());
  data.read(index, {x, y});
  CHECK(std::equal(x.begin() + 1, x.end(), y.begin()));
  return ByteTokenizer().decode(x);
}

std::shared_ptr<const Tokenizer> bytes() { return std::make_shared<ByteTokenizer>(); }

}  // namespace

TEST_CASE("JSONL: unusable lines are skipped and counted by reason, eager and lazy alike") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "data.jsonl";
  replace_file(file, kMixed);
  for (const bool lazy : {false, true}) {
    CAPTURE(lazy);
    const JsonlDataset data(file, bytes(), {.length = 7, .lazy = lazy});
    REQUIRE(data.size() == 3);
    CHECK(decoded(data, 0) == "first, ");
    CHECK(decoded(data, 1) == "second,");
    CHECK(decoded(data, 2) == "third, ");
    const SkipReport& skipped = data.skipped();
    CHECK(skipped.count(SkipReason::not_object) == 4);
    CHECK(skipped.count(SkipReason::field_not_text) == 3);
    CHECK(skipped.count(SkipReason::no_field) == 1);
    CHECK(skipped.count(SkipReason::not_json) == 1);
    CHECK(skipped.count(SkipReason::not_utf8) == 1);
    CHECK(skipped.count(SkipReason::too_short) == 1);
    CHECK(skipped.total() == 11);
    CHECK(contains(skipped.text(),
                   "skipped 11 lines: 1 not UTF-8 text (first: " + file.string() + " line 11), 1 not JSON"));
    CHECK_THROWS_AS(decoded(data, 3), Error);
  }
}

TEST_CASE("JSONL: long documents give all their windows when a stride is set") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "data.jsonl";
  replace_file(file, "{\"text\":\"abcdefghijkl\"}\n{\"text\":\"12345\"}\n");
  for (const bool lazy : {false, true}) {
    const JsonlDataset data(file, bytes(), {.length = 4, .lazy = lazy, .stride = 3});
    REQUIRE(data.size() == 4);
    CHECK(decoded(data, 0) == "abcd");
    CHECK(decoded(data, 1) == "defg");
    CHECK(decoded(data, 2) == "ghij");
    CHECK(decoded(data, 3) == "1234");
  }
}

TEST_CASE("JSONL: nothing usable is an error with the reasons") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "data.jsonl";
  const auto text_for = [&](std::string_view content, std::shared_ptr<const Tokenizer> tokenizer) {
    replace_file(file, content);
    return error_text<UsageError>([&] { JsonlDataset(file, tokenizer, {.length = 8}); });
  };
  CHECK(contains(text_for("", bytes()), "is empty"));
  CHECK(contains(text_for("\n\n  \n", bytes()),
                 "no line can be used with a context of 8 tokens and the text field \"text\""));
  CHECK(contains(text_for("{\"text\":\"tiny\"}\n", bytes()), "1 shorter than a context and its targets"));
  CHECK(contains(text_for("{\"text\":\"abcdefghijk\"}\n", std::make_shared<CharTokenizer>("abc")),
                 "1 with characters outside the vocabulary"));
  replace_file(file, "{\"text\":\"abcdefghijk\"}\n");
  CHECK_THROWS_AS(JsonlDataset(file, bytes(), {.length = 0}), UsageError);
  CHECK_THROWS_AS(JsonlDataset(file, bytes(), {.length = 8, .stride = -1}), UsageError);
  CHECK_THROWS_AS(JsonlDataset(folder.path() / "absent", bytes(), {.length = 8}), UsageError);
  CHECK_NOTHROW(JsonlDataset(file, bytes(), {.length = 8}));
}
