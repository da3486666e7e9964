// Tokenizer files of Hugging Face; see bpe_tokenizer.h.
#include "tensor/error.h"
#include "tensor/file.h"
#include "train/tokenizers/bpe_tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <unordered_set>

namespace sq {
namespace {

namespace fs = std::filesystem;

/// Objects search their keys in a tree: a vocabulary has 50,000 of them.
using Tree = nlohmann::json;

constexpr std::int64_t kMostIds = 1 << 24;

Tree parse(const fs::path& path) {
  try {
    return Tree::parse(read_file(path));
  } catch (const Tree::exception& error) {
    throw UsageError(fmt::format("{}: no JSON: {}", path.string(), error.what()));
  }
}

/// A member, or null when it is missing.
const Tree& member(const Tree& object, const char* key) {
  static const Tree null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

/// Puts tokens in their places.
class Builder {
 public:
  explicit Builder(std::string where) : where_(std::move(where)) {}

  void add(const std::string& token, const Tree& id) {
    require_input(id.is_number_integer() && id >= 0 && id < kMostIds, where_,
                  "token '{}' has the id {}, which is no whole number from 0 to {}", token, id.dump(), kMostIds - 1);
    const auto place = id.get<std::size_t>();
    std::vector<std::string>& tokens = result.tokens;
    if (place >= tokens.size()) tokens.resize(place + 1);
    require_input(tokens[place].empty() || tokens[place] == token, where_, "'{}' and '{}' have the same id, {}",
                  tokens[place], token, place);
    tokens[place] = token;
  }

  void add_vocabulary(const Tree& vocabulary) {
    require_input(vocabulary.is_object() && !vocabulary.empty(), where_, "the vocabulary is no object of tokens");
    for (const auto& [token, id] : vocabulary.items()) {
      require_input(!token.empty(), where_, "a token is empty");
      add(token, id);
    }
  }

  void add_merge(const std::string& left, const std::string& right) {
    require_input(!left.empty() && !right.empty(), where_, "merge {} is not two tokens", result.merges.size());
    result.merges.emplace_back(left, right);
  }

  /// "left right".
  void add_merge(const std::string& pair) {
    const std::size_t space = pair.find(' ');
    add_merge(pair.substr(0, space), space == std::string::npos ? "" : pair.substr(space + 1));
  }

  /// Tokens that are neither a byte nor the result of a merge can only be meant as they are written.
  void mark_special() {
    std::unordered_set<std::string> made;
    for (const auto& [left, right] : result.merges) made.insert(left + right);
    for (std::size_t id = 0; id < result.tokens.size(); ++id) {
      const std::string& token = result.tokens[id];
      if (token.empty() || made.contains(token)) continue;
      const std::optional<std::string> bytes = bpe_bytes(token);
      if (!bytes || bytes->size() > 1) result.special.push_back(static_cast<std::int64_t>(id));
    }
  }

  BpeVocabulary result;

 private:
  std::string where_;
};

BpeVocabulary read_pair(const fs::path& vocabulary, const fs::path& merges) {
  Builder builder(vocabulary.string());
  builder.add_vocabulary(parse(vocabulary));
  Builder lines(merges.string());
  const std::string text = read_file(merges);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !(at == 0 && line.starts_with("#version"))) lines.add_merge(line);
    at = end + 1;
  }
  builder.result.merges = std::move(lines.result.merges);
  builder.mark_special();
  return std::move(builder.result);
}

/// Everything in tokenizer.json that would give other ids than this tokenizer does.
void check_kind(const Tree& document, const std::string& where) {
  const auto type = [](const Tree& part) {
    return member(part, "type").is_string() ? member(part, "type").get<std::string>() : "";
  };
  const Tree &model = member(document, "model"), &before = member(document, "pre_tokenizer"),
             &after = member(document, "post_processor");
  require_input(type(model) == "BPE", where, "model.type is {}, but only BPE is read", member(model, "type").dump());
  require_input(member(document, "normalizer").is_null(), where, "normalizer is not null; texts are not changed here");
  require_input(type(before) == "ByteLevel", where, "pre_tokenizer.type is {}, but only ByteLevel is read",
                member(before, "type").dump());
  require_input(member(before, "add_prefix_space") != true, where,
                "pre_tokenizer.add_prefix_space is true, which is not done here");
  require_input(member(before, "use_regex") != false, where,
                "pre_tokenizer.use_regex is false; only GPT-2's pattern is known here");
  require_input(after.is_null() || type(after) == "ByteLevel", where,
                "post_processor.type is {}; tokens are not added to texts here", member(after, "type").dump());
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    require_input(member(model, key).is_null() || member(model, key) == "", where,
                  "model.{} is {}, which is not used here", key, member(model, key).dump());
  require_input(member(model, "dropout").is_null() || member(model, "dropout") == 0.0, where,
                "model.dropout is {}, which is not done here", member(model, "dropout").dump());
  for (const char* key : {"byte_fallback", "ignore_merges"})
    require_input(member(model, key) != true, where, "model.{} is true, which is not done here", key);
}

void add_special(const Tree& list, Builder& builder, const std::string& where) {
  std::set<std::int64_t> ids;
  for (const Tree& token : list) {
    const Tree& content = member(token, "content");
    require_input(content.is_string() && !content.get_ref<const std::string&>().empty(), where,
                  "an added token has no content");
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      require_input(member(token, key) != true, where, "the added token '{}' has {}, which is not done here",
                    content.get<std::string>(), key);
    builder.add(content.get<std::string>(), member(token, "id"));
    ids.insert(member(token, "id").get<std::int64_t>());
  }
  builder.result.special.assign(ids.begin(), ids.end());
}

BpeVocabulary read_document(const fs::path& path) {
  const std::string where = path.string();
  const Tree document = parse(path);
  check_kind(document, where);
  Builder builder(where);
  builder.add_vocabulary(member(member(document, "model"), "vocab"));
  const Tree& merges = member(member(document, "model"), "merges");
  require_input(merges.is_array(), where, "model.merges is no list");
  for (const Tree& merge : merges) {
    const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    require_input(pair || merge.is_string(), where, "merge {} is neither a text nor two", builder.result.merges.size());
    if (pair)
      builder.add_merge(merge[0].get<std::string>(), merge[1].get<std::string>());
    else
      builder.add_merge(merge.get<std::string>());
  }
  add_special(member(document, "added_tokens"), builder, where);
  return std::move(builder.result);
}

}  // namespace

std::unique_ptr<BpeTokenizer> read_hugging_face_tokenizer(const fs::path& folder, std::int64_t vocab_size) {
  const fs::path document = folder / "tokenizer.json", vocabulary = folder / "vocab.json",
                 merges = folder / "merges.txt";
  const bool has_document = fs::exists(document);
  if (!has_document && !fs::exists(vocabulary) && !fs::exists(merges)) return nullptr;
  const fs::path& source = has_document ? document : vocabulary;
  BpeVocabulary result = has_document ? read_document(document) : read_pair(vocabulary, merges);
  if (static_cast<std::int64_t>(result.tokens.size()) < vocab_size)
    result.tokens.resize(static_cast<std::size_t>(vocab_size));
  return std::make_unique<BpeTokenizer>(std::move(result), source.string());
}

}  // namespace sq
