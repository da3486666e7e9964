#include "tests/golden/halo_s/golden_datasets.h"

#include "tensor/file.h"
#include "tests/golden/halo_s/exact.h"
#include "tests/support/temporary_folder.h"
#include "train/data/jsonl.h"
#include "train/data/streaming.h"
#include "train/data/windows.h"
#include "train/tokenizers/char_tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>

namespace golden {
namespace {

using namespace sq;

namespace fs = std::filesystem;
using Ids = std::vector<std::int64_t>;

struct Item {
  explicit Item(std::int64_t length) : x(static_cast<std::size_t>(length)), y(x.size()) {}
  bool operator==(const Json& pair) const { return x == pair.at(0).get<Ids>() && y == pair.at(1).get<Ids>(); }
  ItemSpans spans() { return {x, y}; }
  Ids x, y;
};

Item item_of(const Dataset& data, std::int64_t index) {
  Item item(data.length());
  data.read(index, item.spans());
  return item;
}

/// One data set of the file.
class Case {
 public:
  Case(std::string name, const Json& json, Result& result) : name_(std::move(name)), json_(json), result_(result) {
    length_ = json_.at("max_seq_len").get<std::int64_t>();
  }

  void run() {
    if (name_.starts_with("jsonl"))
      check_jsonl();
    else if (name_.starts_with("streaming"))
      check_streaming();
    else if (name_.starts_with("text"))
      check_text();
    else
      expect(false, "what kind of data set this is");
  }

 private:
  void expect(bool equal, const std::string& what) { expect_equal(result_, equal, name_ + ": " + what + " differs"); }

  fs::path write(const std::string& name, const Json& content) const {
    replace_file(folder_.path() / name, content.get<std::string>());
    return folder_.path() / name;
  }

  void check_jsonl() {
    const fs::path file = write("data.jsonl", json_.at("content"));
    for (const bool lazy : {false, true}) {
      const JsonlDataset data(file, tokenizer_,
                              {.length = length_, .text_field = json_.value("text_field", "text"), .lazy = lazy});
      const std::string form = lazy ? "lazy " : "eager ";
      const Json& items = json_.at("items");
      expect(data.size() == std::ssize(items), form + "size");
      for (std::int64_t i = 0; i < std::min<std::int64_t>(data.size(), std::ssize(items)); ++i)
        expect(item_of(data, i) == items.at(static_cast<std::size_t>(i)), fmt::format("{}item {}", form, i));
      if (json_.contains("lazy_offsets"))
        expect(data.line_offsets() == json_.at("lazy_offsets").get<Ids>(), form + "offsets");
    }
  }

  void check_text() {
    const std::string text = read_text_file(write("data.txt", json_.at("content")));
    const TextWindows data(tokens_of(*tokenizer_, text), length_);
    expect(data.size() == json_.at("length"), "length");
    expect(item_of(data, 0) == json_.at("first"), "the first item");
    expect(item_of(data, data.size() - 1) == json_.at("last"), "the last item");
  }

  StreamingData stream(StreamShuffle shuffle) const {
    std::vector<fs::path> files;
    bool jsonl = name_.find("jsonl") != std::string::npos;
    for (const Json& content : json_.at("files")) {
      files.push_back(write(fmt::format("part{}", files.size()), content));
      // Only JSON lines begin with a brace.
      const auto text = content.get<std::string>();
      const std::size_t first = text.find_first_not_of(" \t\r\n");
      jsonl = jsonl || (first != std::string::npos && text[first] == '{');
    }
    StreamingOptions options{
        .length = length_, .buffer_size = json_.at("buffer_size").get<std::int64_t>(), .shuffle = shuffle};
    options.documents.format = jsonl ? LineFormat::jsonl : LineFormat::text;
    options.documents.text_field = json_.value("text_field", "text");
    return {std::move(files), tokenizer_, options};
  }

  void check_streaming() {
    if (json_.contains("items")) {  // a buffer of one sequence keeps the order, whatever the shuffle
      for (const StreamShuffle shuffle : {StreamShuffle::blocks, StreamShuffle::reservoir}) {
        StreamingData data = stream(shuffle);
        for (const auto& [i, expected] : json_.at("items").items()) {
          Item item(length_);
          data.next(item.spans());
          expect(item == expected, "item " + i);
        }
      }
    }
    if (!json_.contains("blocks_as_multisets")) return;
    StreamingData data = stream(StreamShuffle::blocks);
    for (const auto& [i, expected] : json_.at("blocks_as_multisets").items()) {
      std::vector<Ids> block;
      for (std::size_t n = 0; n < expected.size(); ++n) {
        Item item(length_);
        data.next(item.spans());
        block.push_back(item.x);
        block.back().push_back(item.y.back());
      }
      auto wanted = expected.get<std::vector<Ids>>();
      std::sort(block.begin(), block.end());
      std::sort(wanted.begin(), wanted.end());
      expect(block == wanted, "block " + i);
    }
  }

  std::string name_;
  const Json& json_;
  Result& result_;
  std::int64_t length_ = 0;
  test::TemporaryFolder folder_;
  std::shared_ptr<const Tokenizer> tokenizer_ =
      std::make_shared<CharTokenizer>(CharTokenizer::latin1(UnknownCharacters::first_id));
};

}  // namespace

Result check_datasets(const fs::path& file) {
  Result result;
  try {
    const Json json = read_json_file(file.string());
    const auto tokenizer = json.value("tokenizer", "");
    if (!tokenizer.starts_with("char")) throw Error("the tokenizer '" + tokenizer + "' is not the default char one");
    for (const auto& [name, one] : json.at("datasets").items()) Case(name, one, result).run();
  } catch (const std::exception& error) {  // a file of another form, or a data set that refuses
    expect_equal(result, false, fmt::format("{}: {}", file.string(), error.what()));
  }
  return result;
}

}  // namespace golden
