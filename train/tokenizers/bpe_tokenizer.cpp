#include "train/tokenizers/bpe_tokenizer.h"

#include "tensor/error.h"
#include "train/json_check.h"
#include "train/tokenizers/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <queue>
#include <set>

namespace sq {
namespace {

constexpr std::int32_t kNone = -1;

std::uint64_t pair_key(std::int64_t left, std::int64_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

/// The character that stands for each byte: itself where Latin-1 has a printable one, else the next of U+0100, ….
constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}
constexpr std::array<char32_t, 256> kAlphabet = make_alphabet();

/// The byte that a character stands for, or -1.
int byte_of(char32_t character) {
  static const std::unordered_map<char32_t, int> bytes = [] {
    std::unordered_map<char32_t, int> map;
    for (int byte = 0; byte < 256; ++byte) map[kAlphabet[static_cast<std::size_t>(byte)]] = byte;
    return map;
  }();
  const auto found = bytes.find(character);
  return found == bytes.end() ? -1 : found->second;
}

/// A pair of neighbours that can become one token.
struct Candidate {
  std::int32_t rank;
  std::size_t left, right;         // places of the two
  std::int32_t left_id, right_id;  // what stood there when it was found
  std::int32_t merged_id;

  /// For a queue whose top is the earliest merge, the leftmost of equals.
  bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

/// One place of a piece while its tokens are merged.
struct Place {
  std::int32_t id;
  std::ptrdiff_t before, after;  // neighbours; -1 and past the end where there is none
};

}  // namespace

std::optional<std::string> bpe_bytes(std::string_view written) {
  std::string bytes;
  for (std::size_t at = 0; at < written.size();) {
    const Utf8Step step = read_utf8(written, at);
    const int byte = step.status == Utf8Status::valid ? byte_of(step.code_point) : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    at += step.length;
  }
  return bytes;
}

std::string bpe_written(std::string_view bytes) {
  std::string written;
  for (const char byte : bytes) append_utf8(written, kAlphabet[static_cast<unsigned char>(byte)]);
  return written;
}

BpeTokenizer::BpeTokenizer(BpeVocabulary vocabulary, std::string_view where)
    : vocabulary_(std::move(vocabulary)), pattern_(kGpt2Pattern), of_byte_(256, kNone), special_by_(256) {
  add_tokens(where);
  add_merges(where);
}

void BpeTokenizer::add_tokens(std::string_view where) {
  const std::vector<std::string>& tokens = vocabulary_.tokens;
  require_input(tokens.size() <= (1u << 30), where, "{} tokens are too many", tokens.size());
  bytes_.resize(tokens.size());
  std::vector<bool> is_special(tokens.size(), false);
  for (const std::int64_t id : vocabulary_.special) {
    require_input(id >= 0 && id < vocab_size(), where, "the special id {} is none of the {} tokens", id, vocab_size());
    const std::string& text = tokens[static_cast<std::size_t>(id)];
    require_input(!text.empty() && !is_special[static_cast<std::size_t>(id)], where,
                  "the special token {} is empty or named twice", id);
    require_input(!find_invalid_utf8(text), where, "the special token {} is not UTF-8", id);
    is_special[static_cast<std::size_t>(id)] = true;
    bytes_[static_cast<std::size_t>(id)] = text;
    special_by_[static_cast<unsigned char>(text[0])].push_back(id);
  }
  for (auto& ids : special_by_)
    std::stable_sort(ids.begin(), ids.end(),
                     [&](std::int64_t a, std::int64_t b) { return bytes(a).size() > bytes(b).size(); });
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (is_special[id] || tokens[id].empty()) continue;
    std::optional<std::string> content = bpe_bytes(tokens[id]);
    require_input(content.has_value(), where,
                  "token {} holds a character that stands for no byte; special tokens must be listed as such", id);
    if (content->size() == 1) of_byte_[static_cast<unsigned char>((*content)[0])] = static_cast<std::int32_t>(id);
    bytes_[id] = std::move(*content);
  }
  for (std::size_t byte = 0; byte < 256; ++byte)
    require_input(of_byte_[byte] != kNone, where, "no token stands for the byte {}", byte);
}

void BpeTokenizer::add_merges(std::string_view where) {
  const std::set<std::int64_t> special(vocabulary_.special.begin(), vocabulary_.special.end());
  std::unordered_map<std::string_view, std::int64_t> ids;
  for (std::int64_t id = 0; id < vocab_size(); ++id) {
    if (bytes(id).empty() || special.contains(id)) continue;
    const auto [first, is_new] = ids.emplace(bytes(id), id);
    require_input(is_new, where, "tokens {} and {} are the same", first->second, id);
  }
  for (const std::int64_t id : special) ids.emplace(bytes(id), id);  // one that merges make as well
  const auto find = [&](const std::string& written, std::size_t rank) {
    const std::optional<std::string> content = bpe_bytes(written);
    const auto found = content ? ids.find(*content) : ids.end();
    require_input(found != ids.end(), where, "merge {} needs '{}', which is no token", rank, written);
    return found->second;
  };
  for (std::size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
    const auto& [left, right] = vocabulary_.merges[rank];
    const std::uint64_t key = pair_key(find(left, rank), find(right, rank));
    const Merge merge{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(find(left + right, rank))};
    require_input(merges_.emplace(key, merge).second, where, "merge {} of '{}' and '{}' stands there twice", rank, left,
                  right);
  }
}

BpeTokenizer BpeTokenizer::from_json(const Json& json, std::string_view where) {
  check_json_keys(json, where, {"kind", "tokens", "merges", "special"});
  const auto list = [&](const char* key) -> const Json& {
    const Json& value = json.at(key);
    require_input(value.is_array(), where, "\"{}\" must be a list, it is a value of type {}", key, value.type_name());
    return value;
  };
  const auto text = [&](const Json& value, const char* key) -> const std::string& {
    require_input(value.is_string(), where, "\"{}\" must hold texts, there is a value of type {}", key,
                  value.type_name());
    return value.get_ref<const std::string&>();
  };
  BpeVocabulary vocabulary;
  for (const Json& token : list("tokens")) vocabulary.tokens.push_back(text(token, "tokens"));
  for (const Json& merge : list("merges")) {
    const std::string& pair = text(merge, "merges");
    const std::size_t space = pair.find(' ');
    require_input(space != std::string::npos, where, "\"merges\": '{}' are not two tokens with a space between", pair);
    vocabulary.merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
  }
  for (const Json& id : list("special")) {
    require_input(id.is_number_integer(), where, "\"special\" must hold ids, there is a value of type {}",
                  id.type_name());
    vocabulary.special.push_back(id.get<std::int64_t>());
  }
  return BpeTokenizer(std::move(vocabulary), where);
}

Json BpeTokenizer::to_json() const {
  Json merges = Json::array();
  for (const auto& [left, right] : vocabulary_.merges) merges.push_back(fmt::format("{} {}", left, right));
  return {{"kind", "bpe"}, {"tokens", vocabulary_.tokens}, {"merges", merges}, {"special", vocabulary_.special}};
}

std::string_view BpeTokenizer::bytes(std::int64_t id) const {
  return id >= 0 && id < vocab_size() ? std::string_view(bytes_[static_cast<std::size_t>(id)]) : std::string_view();
}

std::int64_t BpeTokenizer::special_at(std::string_view text, std::size_t at) const {
  for (const std::int64_t id : special_by_[static_cast<unsigned char>(text[at])])
    if (text.substr(at).starts_with(bytes(id))) return id;
  return kNone;
}

std::vector<std::int64_t> BpeTokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::int64_t special = special_at(text, at);
    if (special == kNone) {
      ++at;
      continue;
    }
    encode_text(text.substr(begin, at - begin), ids);
    ids.push_back(special);
    begin = at += bytes(special).size();
  }
  encode_text(text.substr(begin), ids);
  return ids;
}

void BpeTokenizer::encode_text(std::string_view text, std::vector<std::int64_t>& ids) const {
  pattern_.cut(text, [&](std::string_view piece) { encode_piece(piece, ids); });
}

/// The next merge is always the top of a queue, so a piece of n bytes costs n log n, however long.
void BpeTokenizer::encode_piece(std::string_view piece, std::vector<std::int64_t>& ids) const {
  std::vector<Place> places;
  for (const char byte : piece) {
    const auto at = static_cast<std::ptrdiff_t>(places.size());
    places.push_back({of_byte_[static_cast<unsigned char>(byte)], at - 1, at + 1});
  }
  const auto end = static_cast<std::ptrdiff_t>(places.size());
  std::priority_queue<Candidate> queue;
  const auto consider = [&](std::ptrdiff_t left, std::ptrdiff_t right) {
    if (left < 0 || right >= end) return;
    const auto l = static_cast<std::size_t>(left), r = static_cast<std::size_t>(right);
    const auto found = merges_.find(pair_key(places[l].id, places[r].id));
    if (found != merges_.end()) queue.push({found->second.rank, l, r, places[l].id, places[r].id, found->second.id});
  };
  for (std::ptrdiff_t at = 0; at + 1 < end; ++at) consider(at, at + 1);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Place &left = places[best.left], &right = places[best.right];
    // One of the two may have been merged with another neighbour since.
    if (left.id != best.left_id || right.id != best.right_id || left.after != static_cast<std::ptrdiff_t>(best.right))
      continue;
    left.id = best.merged_id;
    left.after = right.after;
    right.id = kNone;
    if (left.after < end) places[static_cast<std::size_t>(left.after)].before = static_cast<std::ptrdiff_t>(best.left);
    consider(left.before, static_cast<std::ptrdiff_t>(best.left));
    consider(static_cast<std::ptrdiff_t>(best.left), left.after);
  }
  for (const Place& place : places)
    if (place.id != kNone) ids.push_back(place.id);
}

void BpeTokenizer::append_piece(std::int64_t id, bool, std::string& out) const { out += bytes(id); }

}  // namespace sq
