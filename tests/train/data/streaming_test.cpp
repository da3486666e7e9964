#include "train/data/streaming.h"

#include "tensor/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "train/data/batch_loader.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/char_tokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;
namespace fs = std::filesystem;

namespace {

/// Files of lines "d0001 …", of different lengths, with some that cannot be used.
class Files {
 public:
  explicit Files(int lines = 60) {
    std::string content;
    for (int i = 0; i < lines; ++i) {
      const std::string text = fmt::format("d{:04}{}", i, std::string(static_cast<std::size_t>(i * 7 % 23), '.'));
      content += i % 10 == 9 ? "not json\n\n" : fmt::format("{{\"text\": \"{}\"}}\n", text);
      if (i % 25 == 24 || i + 1 == lines) {
        paths.push_back(folder.path() / fmt::format("part{}.jsonl", paths.size()));
        replace_file(paths.back(), content);
        content.clear();
      }
    }
  }
  StreamingData stream(StreamingOptions options) const { return {paths, std::make_shared<ByteTokenizer>(), options}; }

  test::TemporaryFolder folder;
  std::vector<fs::path> paths;
};

/// L+1 ids as text.
std::string next_text(StreamingData& data) {
  Ids x(static_cast<std::size_t>(data.length())), y(x.size());
  data.next({x, y});
  CHECK(std::equal(x.begin() + 1, x.end(), y.begin()));
  x.push_back(y.back());
  return ByteTokenizer().decode(x);
}

std::vector<std::string> next_texts(StreamingData& data, int count) {
  std::vector<std::string> result;
  for (int i = 0; i < count; ++i) result.push_back(next_text(data));
  return result;
}

}  // namespace

TEST_CASE("streaming: both shuffles give the sequences of the files, in another order") {
  const Files files;
  StreamingData plain = files.stream({.length = 9, .buffer_size = 1});
  const std::vector<std::string> in_order = next_texts(plain, 60);
  StreamingData blocks = files.stream({.length = 9, .buffer_size = 20, .shuffle = StreamShuffle::blocks});
  std::vector<std::string> shuffled = next_texts(blocks, 60);
  CHECK(shuffled != in_order);
  for (int block = 0; block < 3; ++block) {  // each block holds its own twenty
    std::vector<std::string> a(shuffled.begin() + 20 * block, shuffled.begin() + 20 * block + 20);
    std::vector<std::string> b(in_order.begin() + 20 * block, in_order.begin() + 20 * block + 20);
    CHECK(a != b);
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    CHECK(a == b);
  }
  StreamingData reservoir = files.stream({.length = 9, .buffer_size = 16});
  const std::vector<std::string> drawn = next_texts(reservoir, 44);
  CHECK(drawn != std::vector<std::string>(in_order.begin(), in_order.begin() + 44));
  // With 16 in the buffer, draw n can only give what stands among the first n + 16.
  std::multiset<std::string> available(in_order.begin(), in_order.begin() + 15);
  for (std::size_t n = 0; n < drawn.size(); ++n) {
    available.insert(in_order[n + 15]);
    const auto found = available.find(drawn[n]);
    REQUIRE(found != available.end());
    available.erase(found);
  }
  StreamingData other = files.stream({.length = 9, .buffer_size = 16, .seed = 1});
  CHECK(next_texts(other, 44) != drawn);
}

TEST_CASE("streaming: a saved position goes on exactly, for every shuffle, buffer, share and place") {
  const Files files;
  for (const StreamShuffle shuffle : {StreamShuffle::reservoir, StreamShuffle::blocks}) {
    for (const std::int64_t buffer : {1, 7, 50}) {
      for (const Shard shard : {Shard{0, 1}, Shard{1, 3}}) {
        StreamingOptions options{.length = 9, .buffer_size = buffer, .shuffle = shuffle};
        options.documents.shard = shard;
        options.documents.separator = 10;
        StreamingData whole = files.stream(options);
        const std::vector<std::string> expected = next_texts(whole, 180);  // several rounds
        for (const int cut : {0, 1, 13, 50, 99}) {
          StreamingData first = files.stream(options);
          (void)next_texts(first, cut);
          const SourceState state = first.state();
          (void)next_texts(first, 3);
          StreamingData second = files.stream(options);
          (void)next_texts(second, 5);  // what it did before does not matter
          second.restore(parse_json(state().dump(), "state"));
          CHECK(next_texts(second, 180 - cut) == std::vector<std::string>(expected.begin() + cut, expected.end()));
          CHECK(second.state()() == whole.state()());
        }
      }
    }
  }
}

TEST_CASE("streaming: shares are disjoint, together everything, and documents are separated") {
  const Files files;
  std::map<std::string, int> seen;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    for (std::int64_t worker = 0; worker < 2; ++worker) {
      DocumentOptions options;
      options.shard = Shard::of(rank, 2, worker, 2);
      options.separator = 0;
      DocumentReader reader(files.paths, std::make_shared<ByteTokenizer>(), options);
      Ids ids;
      while (reader.next(ids).round == 0) {
        CHECK(ids.back() == 0);
        ++seen[ByteTokenizer().decode(ids).substr(0, 5)];
      }
    }
  }
  CHECK(seen.size() == 54);  // 60 lines, every tenth of them no JSON
  for (const auto& entry : seen) CHECK_MESSAGE(entry.second == 1, entry.first);
}

TEST_CASE("streaming: what was skipped is counted once, in the first round") {
  const Files files;
  StreamingData data = files.stream({.length = 9, .buffer_size = 4});
  (void)next_texts(data, 400);
  CHECK(data.skipped().count(SkipReason::not_json) == 6);
  CHECK(data.skipped().total() == 6);
  CHECK(contains(data.skipped().text(), "part0.jsonl line 10"));
}

TEST_CASE("streaming: files that give nothing are an error, not an endless search") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "data.jsonl";
  const auto text_for = [&](std::string_view content, StreamingOptions options) {
    replace_file(file, content);
    return error_text<UsageError>([&] {
      StreamingData data({file}, std::make_shared<CharTokenizer>("abcdefgh"), options);
      (void)next_text(data);
    });
  };
  StreamingOptions text{.length = 3};
  text.documents.format = LineFormat::text;
  CHECK(contains(text_for("", {.length = 3}), "is empty"));
  CHECK(contains(text_for("\n \n", {.length = 3}), "no line of the 1 given file can be used"));
  CHECK(contains(text_for("{\"text\":\"\"}\n", {.length = 3}), "no line"));
  CHECK(contains(text_for("{\"body\":\"abc\"}\n", {.length = 3}), "1 without the text field"));
  CHECK(contains(text_for("xyz\n", text), "1 with characters outside the vocabulary"));
  CHECK(contains(text_for("a\xFF\n", text), "1 not UTF-8 text"));
  CHECK(contains(text_for(std::string_view("a\0b\n", 4), text), "1 not UTF-8 text"));
  text.documents.shard = {1, 2};
  CHECK(contains(text_for("abc\n", text), "(share 1 of 2)"));
  text.documents.shard = {2, 2};
  CHECK(contains(text_for("abc\n", text), "share 2 of 2 does not exist"));
  CHECK(contains(text_for("abc\n", {.length = 0}), "a context of 0 tokens"));
  CHECK(contains(text_for("abc\n", {.length = 3, .buffer_size = 0}), "a buffer of 0 sequences"));
  CHECK_THROWS_AS(StreamingData({}, std::make_shared<ByteTokenizer>(), {.length = 3}), UsageError);
  CHECK_THROWS_AS(StreamingData({folder.path() / "absent"}, std::make_shared<ByteTokenizer>(), {.length = 3}),
                  UsageError);
}

TEST_CASE("streaming: a short text goes round and round, lines longer than a context are used up") {
  const test::TemporaryFolder folder;
  const fs::path file = folder.path() / "data.txt";
  replace_file(file, "abc\n");
  StreamingOptions options{.length = 4, .buffer_size = 1};
  options.documents.format = LineFormat::text;
  StreamingData small({file}, std::make_shared<ByteTokenizer>(), options);
  CHECK(next_texts(small, 3) == std::vector<std::string>{"abcab", "cabca", "bcabc"});
  std::string longline;
  for (int i = 0; i < 100'000; ++i) longline += static_cast<char>('a' + i % 26);
  replace_file(file, longline + "\n");
  StreamingData large({file}, std::make_shared<ByteTokenizer>(), options);
  std::string together;
  for (int i = 0; i < 20'000; ++i) together += next_text(large);
  CHECK(together == longline);
}

TEST_CASE("streaming: a position of other files or settings is refused") {
  const Files files;
  StreamingData data = files.stream({.length = 9, .buffer_size = 4});
  (void)next_texts(data, 10);
  const Json good = data.state()();
  const auto text_for = [&](const char* key, const Json& value) {
    Json bad = good;
    bad[key] = value;
    return error_text<UsageError>([&] { data.restore(bad); });
  };
  CHECK(contains(text_for("seed", 1), "seed: 1 → 42"));
  CHECK(contains(text_for("files", Json::array({"1-0"})), "files: "));
  CHECK(contains(text_for("buffer", 1), "\"buffer\" must be a list of at most 4 places"));
  CHECK(contains(text_for("buffer", Json::array({Json::array({1, 2})})), "five whole numbers"));
  CHECK(contains(text_for("next", {0, 99, 0, 0, 0}), "no byte 0 of file 99"));
  CHECK(contains(text_for("next", {0, 0, 1'000'000, 0, 0}), "has no byte 1000000"));
  CHECK(contains(text_for("next", {0, 0, 0, 0, 1'000'000}), "were changed since the run was saved"));
  CHECK_THROWS_AS(data.restore(Json::object()), UsageError);
  CHECK_NOTHROW(data.restore(good));
  const Files others(50);
  StreamingData other = others.stream({.length = 9, .buffer_size = 4});
  CHECK(contains(error_text<UsageError>([&] { other.restore(good); }), "the run was saved with other data"));
}

TEST_CASE("streaming: batches through the loader resume exactly") {
  const Files files;
  const auto make = [&] {
    return std::make_unique<StreamBatches>(
        std::make_shared<StreamingData>(files.paths, std::make_shared<ByteTokenizer>(),
                                        StreamingOptions{.length = 5, .buffer_size = 12}),
        3);
  };
  std::vector<Ids> expected;
  const auto plain = make();
  for (Batch batch; expected.size() < 40 && plain->next(batch);) expected.push_back(batch.x);
  Json state;
  {
    BatchLoader loader(make());
    Batch batch;
    for (int i = 0; i < 17; ++i) REQUIRE(loader.next(batch));
    state = loader.state();
  }
  auto resumed = make();
  resumed->restore(state);
  BatchLoader loader(std::move(resumed));
  Batch batch;
  for (std::size_t i = 17; i < expected.size(); ++i) {
    REQUIRE(loader.next(batch));
    CHECK(batch.x == expected[i]);
  }
  state["batch_size"] = 4;
  CHECK_THROWS_AS(make()->restore(state), UsageError);
}
