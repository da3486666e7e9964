#include "train/tokenizers/byte_tokenizer.h"

#include <nlohmann/json.hpp>

namespace sq {

std::vector<std::int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids;
  ids.reserve(text.size());
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

Json ByteTokenizer::to_json() const { return {{"kind", "byte"}}; }

void ByteTokenizer::append_piece(std::int64_t id, bool, std::string& out) const {
  if (id >= 0 && id < kVocabSize) out.push_back(static_cast<char>(static_cast<unsigned char>(id)));
}

}  // namespace sq
