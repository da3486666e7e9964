#include "train/data/text_file.h"

#include "tensor/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "train/data/corpus.h"
#include "train/data/default_corpus.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"
#include "train/tokenizers/utf8.h"

#include <doctest/doctest.h>

#include <filesystem>

using namespace sq;
using test::contains;
using test::error_text;
namespace fs = std::filesystem;

TEST_CASE("text files come with LF line ends and without a byte-order mark") {
  const test::TemporaryFolder folder;
  replace_file(folder.path() / "a", "\xEF\xBB\xBFone\r\ntwo\rthree\n\r\r\n\r");
  CHECK(read_text_file(folder.path() / "a") == "one\ntwo\nthree\n\n\n\n");
}

TEST_CASE("what is no text is refused with one line that says why") {
  const test::TemporaryFolder folder;
  const auto text_for = [&](std::string_view content) {
    replace_file(folder.path() / "file", content);
    const std::string text = error_text<UsageError>([&] { (void)read_text_file(folder.path() / "file"); });
    CHECK(contains(text, (folder.path() / "file").string()));
    CHECK_FALSE(contains(text, "\n"));
    return text;
  };
  CHECK(contains(text_for(""), "is empty"));
  CHECK(contains(text_for("\xEF\xBB\xBF"), "nothing but a byte-order mark"));
  CHECK(contains(text_for(std::string_view("ab\0c", 4)), "is binary: byte 2 is NUL"));
  CHECK(contains(text_for("ab\xFFxyz"), "is not UTF-8 text at byte 2 (0xFF)"));
  CHECK(contains(error_text<UsageError>([&] { (void)read_text_file(folder.path()); }), "it is a folder"));
  CHECK(contains(error_text<UsageError>([&] { (void)read_text_file(folder.path() / "absent"); }), "No such file"));
}

TEST_CASE("lines end at LF, CR LF or CR, and reading goes on from any offset it gave") {
  const std::string text = "\xEF\xBB\xBFone\r\n\ntwo\rthree\r\r\n end";
  const std::vector<std::string_view> expected{"one", "", "two", "three", "", " end"};
  std::vector<std::int64_t> offsets;
  LineReader lines(text);
  std::string_view line;
  for (const std::string_view want : expected) {
    offsets.push_back(lines.offset());
    REQUIRE(lines.next(line));
    CHECK(line == want);
  }
  CHECK_FALSE(lines.next(line));
  CHECK(offsets == std::vector<std::int64_t>{0, 8, 9, 13, 19, 21});
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    LineReader again(text, offsets[i]);
    REQUIRE(again.next(line));
    CHECK(line == expected[i]);
  }
}

TEST_CASE("the embedded corpus is text about this project, and small") {
  const std::string_view corpus = default_corpus();
  CHECK_FALSE(find_invalid_utf8(corpus));
  CHECK(corpus.find('\0') == std::string_view::npos);
  CHECK(corpus.find("namespace sq") != std::string_view::npos);
  CHECK(corpus.size() > 100'000);
  CHECK(corpus.size() <= 1'500'000);
  CHECK(embedded_corpus().bytes() == std::ssize(corpus));
}

TEST_CASE("a corpus is text files whole and JSONL files line by line") {
  const test::TemporaryFolder folder;
  const std::vector<fs::path> files{folder.path() / "a.txt", folder.path() / "b.jsonl"};
  replace_file(files[0], "plain\r\ntext\n");
  replace_file(files[1], "{\"text\":\"one\"}\nnot json\n{\"text\":\"\"}\n{\"text\":\"two\"}\n[1]\n");
  const Corpus corpus = read_corpus(files);
  CHECK(corpus.documents == std::vector<std::string>{"plain\ntext\n", "one", "two"});
  CHECK(corpus.skipped.text() == "skipped 2 lines: 1 not JSON (first: " + files[1].string() +
                                     " line 2), 1 not a JSON object (first: " + files[1].string() + " line 5)");
  const TokenSpan plain = corpus_tokens(corpus, ByteTokenizer()),
                  separated = corpus_tokens(corpus, ByteTokenizer(), 300);
  CHECK(plain.size() == 11 + 3 + 3);
  CHECK(separated.size() == plain.size() + 3);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(separated.size()));
  separated.copy(0, ids);
  CHECK(ids[11] == 300);
  CHECK(ids.back() == 300);
  CHECK(contains(error_text<UsageError>([&] { (void)corpus_tokens(corpus, CharTokenizer("plainte\nx")); }),
                 "b.jsonl line 1: line 1: char tokenizer: character 1 of the text, 'o' (U+006F)"));
  replace_file(files[1], "{\"body\":\"one\"}\n");
  CHECK(contains(error_text<UsageError>([&] { (void)read_corpus(files); }), "1 without the text field"));
  CHECK_THROWS_AS((void)read_corpus({}), UsageError);
}
