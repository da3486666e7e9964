#include "train/data/windows.h"

#include "tests/train/error_text.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"
#include "train/tokenizers/word_tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;

namespace {

TokenSpan counting(std::int64_t count) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  auto tokens = std::make_shared<TokenArray>();
  tokens->append(ids);
  return TokenSpan(std::move(tokens));
}

struct Item {
  explicit Item(const Dataset& data, std::int64_t index) : x(static_cast<std::size_t>(data.length())), y(x.size()) {
    data.read(index, {x, y});
  }
  Ids x, y;
};

}  // namespace

TEST_CASE("a token array widens when a larger id comes and keeps what it has") {
  TokenArray tokens;
  tokens.append(Ids{0, 255});
  CHECK(tokens.bytes_per_token() == 1);
  tokens.append(Ids{256, 65535});
  CHECK(tokens.bytes_per_token() == 2);
  tokens.append(Ids{});
  tokens.append(Ids{65536, INT32_MAX});
  CHECK(tokens.bytes_per_token() == 4);
  Ids ids(6);
  tokens.copy(0, ids);
  CHECK(ids == Ids{0, 255, 256, 65535, 65536, INT32_MAX});
  CHECK_THROWS_AS(tokens.append(Ids{-1}), UsageError);
  CHECK_THROWS_AS(tokens.append(Ids{std::int64_t{1} << 31}), UsageError);
  CHECK_THROWS_AS(tokens.copy(1, ids), Error);
}

TEST_CASE("a token fingerprint depends on the ids alone") {
  const TokenSpan all = counting(300);  // two bytes an id
  auto narrow = std::make_shared<TokenArray>();
  narrow->append(Ids{5, 6, 7});
  CHECK(all.part(5, 3).fingerprint() == TokenSpan(narrow).fingerprint());
  CHECK(all.part(5, 3).fingerprint() != all.part(6, 3).fingerprint());
}

TEST_CASE("encoding in pieces gives the ids of the whole text") {
  std::string text;
  while (text.size() < (3u << 20)) text += "some words \u20ac\n and  more\n";
  const std::vector<std::string> corpus{text};
  const ByteTokenizer bytes;
  const CharTokenizer characters = CharTokenizer::from_corpus(corpus);
  const WordTokenizer words = WordTokenizer::from_corpus(corpus);
  for (const Tokenizer* tokenizer : {static_cast<const Tokenizer*>(&bytes), static_cast<const Tokenizer*>(&characters),
                                     static_cast<const Tokenizer*>(&words)}) {
    const Ids expected = tokenizer->encode(text);
    const TokenSpan tokens = tokens_of(*tokenizer, text);
    Ids got(static_cast<std::size_t>(tokens.size()));
    tokens.copy(0, got);
    CHECK(got == expected);
  }
  text += "ab\u4e2d";
  const auto lines = std::count(text.begin(), text.end(), '\n');
  CHECK(contains(error_text<UsageError>([&] { (void)tokens_of(characters, text, "my.txt"); }),
                 fmt::format("my.txt: line {}: char tokenizer: character 2 of the text, 'b'", lines + 1)));
}

TEST_CASE("the first nine tenths train, the rest validates") {
  const auto [training, validation] = split_tokens(counting(1115394));
  CHECK(training.size() == 1003854);  // the split that published character losses of Tiny Shakespeare use
  CHECK(validation.size() == 111540);
  CHECK(split_tokens(counting(10), 0).second.size() == 0);
  CHECK(split_tokens(counting(10), 0.25).first.size() == 7);
  CHECK_THROWS_AS((void)training_count(10, 1.0), UsageError);
  CHECK_THROWS_AS((void)training_count(10, -0.1), UsageError);
  CHECK_THROWS_AS((void)training_count(10, NAN), UsageError);
}

TEST_CASE("text windows: number, content and what is too short") {
  const TextWindows every(counting(10), 3), third(counting(10), 3, 3), wide(counting(10), 3, 100);
  CHECK(every.size() == 7);
  CHECK(Item(every, 6).x == Ids{6, 7, 8});
  CHECK(Item(every, 6).y == Ids{7, 8, 9});
  CHECK(third.size() == 3);
  CHECK(Item(third, 2).y == Ids{7, 8, 9});
  CHECK(wide.size() == 1);
  CHECK(TextWindows(counting(4), 3).size() == 1);
  CHECK(every.fingerprint() != third.fingerprint());
  CHECK_THROWS_WITH_AS(
      TextWindows(counting(3), 3, 1, "my.txt"),
      "my.txt: too short: a context of 3 needs 4 tokens, there are 3; use more data or a shorter context", UsageError);
  CHECK_THROWS_AS(TextWindows(counting(5), 0), UsageError);
  CHECK_THROWS_AS(TextWindows(counting(5), 2, 0), UsageError);
  CHECK_THROWS_AS(Item(every, 7), Error);
  CHECK_THROWS_AS(Item(every, -1), Error);
}

TEST_CASE("evaluation windows count every id but the first exactly once, with its own context") {
  for (const std::int64_t count : {9, 10, 16, 17, 18, 31}) {
    for (const std::int64_t length : {1, 3, 8}) {
      for (std::int64_t stride = 1; stride <= length; ++stride) {
        CAPTURE(count);
        CAPTURE(length);
        CAPTURE(stride);
        const EvaluationWindows windows(counting(count), length, stride);
        std::vector<int> seen(static_cast<std::size_t>(count), 0);
        for (std::int64_t i = 0; i < windows.size(); ++i) {
          const Item item(windows, i);
          for (std::size_t t = 0; t < item.x.size(); ++t) {
            if (item.y[t] == kIgnoreTarget) continue;
            CHECK(item.y[t] == item.x[t] + 1);
            ++seen[static_cast<std::size_t>(item.y[t])];
            // Context: all but the first window give each target at least length - stride ids before it.
            if (i > 0) CHECK(static_cast<std::int64_t>(t) >= length - stride);
          }
        }
        seen[0] += 1;
        CHECK(seen == std::vector<int>(static_cast<std::size_t>(count), 1));
        CHECK(windows.target_count() == count - 1);
      }
    }
  }
  CHECK_THROWS_AS(EvaluationWindows(counting(9), 4, 5), UsageError);
  CHECK_THROWS_AS(EvaluationWindows(counting(4), 4, 4), UsageError);
}

TEST_CASE("a subset is a range of items") {
  const auto whole = std::make_shared<TextWindows>(counting(10), 3);
  const Subset last(whole, 5, 2);
  CHECK(last.size() == 2);
  CHECK(Item(last, 1).x == Item(*whole, 6).x);
  CHECK(last.fingerprint() != Subset(whole, 4, 2).fingerprint());
  CHECK_THROWS_AS(Item(last, 2), Error);
  CHECK_THROWS_AS(Subset(whole, 6, 2), UsageError);
}
