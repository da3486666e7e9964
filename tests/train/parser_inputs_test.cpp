// The fuzzers' checks on inputs that are known to be nasty; what a fuzzer finds is added here.
#include "tests/fuzz/jsonl_input.h"
#include "tests/fuzz/tokenizer_input.h"

#include <doctest/doctest.h>

using namespace sq;

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
           R"({"kind":"word","min_freq":2,"words":["<PAD>","<UNK>","<BOS>","<EOS>","\u0000","\ud83d\ude00"]})"}) {
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
