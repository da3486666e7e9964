// The fuzzers' checks on inputs that are known to be nasty; what a fuzzer finds is added here.
#include "tests/fuzz/config_input.h"
#include "tests/fuzz/jsonl_input.h"
#include "tests/fuzz/tokenizer_input.h"
#include "tests/support/tiny_bpe.h"

#include <doctest/doctest.h>

using namespace sq;

namespace {

/// A byte-pair tokenizer's file with one key changed.
std::string bpe_with(const char* key, const char* value) {
  Json json = BpeTokenizer(test::tiny_bpe()).to_json();
  json[key] = Json::parse(value);
  return json.dump();
}

}  // namespace

TEST_CASE("tokenizer files of any bytes are refused or read whole") {
  const std::string deep(100'000, '[');
  for (const std::string& input : std::vector<std::string>{
           "",
           " ",
           "\xFF\xFE",
           std::string(1, '\0'),
           "{",
           "null",
           "1e999",
           "{\"kind\":\"byte\"}",
           "{\"kind\":\"byte\",}",
           "{\"kind\":\"byte\",\"kind\":\"byte\"}",
           "{\"kind\":null}",
           deep,
           "{\"kind\":" + deep,
           R"({"kind":"char","alphabet":"a\u0000\ud83d\ude00","unknown":"error"})",
           R"({"kind":"char","alphabet":"\ud83d","unknown":"error"})",
           "{\"kind\":\"char\",\"alphabet\":\"\x80\"}",
           R"({"kind":"char","alphabet":"bb","unknown":"first_id"})",
           R"({"kind":"word","min_freq":1,"words":["<PAD>","<UNK>","<BOS>","<EOS>","a","a"]})",
           R"({"kind":"word","min_freq":1,"words":["<PAD>","<UNK>","<BOS>","<EOS>","a\u3000b"]})",
           R"({"kind":"word","min_freq":18446744073709551615,"words":["<PAD>","<UNK>","<BOS>","<EOS>"]})",
           R"({"kind":"word","min_freq":-1,"words":["<PAD>","<UNK>","<BOS>","<EOS>"]})",
           R"({"kind":"word","min_freq":2,"words":["<PAD>","<UNK>","<BOS>","<EOS>","\u0000","\ud83d\ude00"]})",
           R"({"kind":"bpe","tokens":[],"merges":[],"special":[]})",
           R"({"kind":"bpe","tokens":["a","a"],"merges":[" "],"special":[18446744073709551615]})",
           bpe_with("special", "[0]"),
           bpe_with("special", "[263,263]"),
           bpe_with("merges", R"(["  "])"),
           bpe_with("merges", R"(["Ġ Ġ","Ġ Ġ"])"),
           bpe_with("tokens", R"(["\u0000"])"),
           bpe_with("kind", "\"bpe\"")}) {
    CAPTURE(input.substr(0, 80));
    CHECK_NOTHROW(fuzz::tokenizer_input(input));
  }
}

TEST_CASE("JSONL of any bytes gives texts or reasons") {
  const std::string deep(100'000, '[');
  for (const std::string& input : std::vector<std::string>{
           "", "\n", "\r", "\r\n\r", "\xEF\xBB\xBF", "\xEF\xBB\xBF\n", "\xEF\xBB", "{\"text\":\"a\"}",
           "{\"text\":\"\\ud83d\"}\n", "{\"text\":\"\\u0000\"}\r{\"text\":1e999}\n", std::string("\0\n\0", 3), deep,
           "{\"text\":" + deep, "{\"text\":\"a\",\"text\":2}\n", "\xE3\x80\x80{}\xE3\x80", "\x80\x80\x80\x80\x80"}) {
    CAPTURE(input.substr(0, 80));
    CHECK_NOTHROW(fuzz::jsonl_input(input));
  }
}

TEST_CASE("configurations of any bytes are refused or give models that can be built") {
  const std::string small = R"("vocab_size":5,"hidden_size":8,"num_layers":2,"max_seq_len":16)";
  for (const std::string& input : std::vector<std::string>{
           "",
           "null",
           "[]",
           "{}",
           std::string(100'000, '['),
           "{\"model_type\":\"halo-s\"}",
           "{\"model_type\":[\"halo-s\"]}",
           "{\"model_type\":\"\xFF\"}",
           "{" + small + R"(,"mixer":{"type":"dense","num_heads":2}})",
           "{" + small +
               R"(,"mixer":[{"type":"dense","num_heads":2},{"type":"halo_s","num_heads":2,"num_kv_heads":1}]})",
           "{" + small + R"(,"mixer":[]})",
           "{" + small + R"(,"mixer":[[]]})",
           "{" + small + R"(,"mixer":{"type":null}})",
           "{" + small + R"(,"mixer":{"type":"dense","num_heads":9223372036854775807}})",
           "{" + small + R"(,"dropout":-0.0,"norm":"rms_norm","feed_forward":"gelu","positions":"learned"})",
           R"({"vocab_size":1073741824,"hidden_size":262144,"num_layers":4096,"max_seq_len":67108864})",
           R"({"vocab_size":18446744073709551615})",
           R"({"hidden_size":1e308})",
           R"({"about":"","model":{},"training":{"steps":-1}})",
           R"({"model":{"max_seq_len":256},"training":{"context":257}})",
           R"("mixer.local_window=32")",
           R"("mixer.0.type=dense")",
           R"("model.mixer=dense")",
           R"("=")",
           R"("about")",
           R"("training.data.kind=stream")"}) {
    CAPTURE(input.substr(0, 80));
    CHECK_NOTHROW(fuzz::config_input(input));
  }
}
