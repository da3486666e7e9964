#include "tensor/safetensors.h"

#include "tensor/file.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tests/fuzz/safetensors_input.h"
#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace sq;

namespace {

/// A file of this header and so many bytes of data, as an object in memory.
SafetensorsFile parse(const std::string& header, std::size_t data_bytes, std::uint64_t claimed = ~0ull) {
  const std::uint64_t length = claimed == ~0ull ? header.size() : claimed;
  auto storage = Storage::allocate(8 + header.size() + data_bytes, {});
  std::memset(storage->data(), 0, storage->bytes());
  std::memcpy(storage->data(), &length, 8);
  std::memcpy(storage->data() + 8, header.data(), header.size());
  return SafetensorsFile(storage, "x");
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, int begin, int end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

}  // namespace

TEST_CASE("what is saved comes back, every dtype, odd sizes and views included") {
  const test::TemporaryFolder folder;
  const Tensor f = randn({3, 5});
  const NamedTensors saved{{"u8", Tensor::from<std::uint8_t>({1, 2, 255}, {3})},
                           {"f32", f},
                           {"transposed", f.alias({5, 3}, {1, 5}, 0)},
                           {"f64", randn({2, 1}, {.dtype = DType::f64})},
                           {"f16", randn({7}, {.dtype = DType::f16})},
                           {"bf16", randn({7}, {.dtype = DType::bf16})},
                           {"i32", Tensor::from<std::int32_t>({-1}, {1})},
                           {"i64", Tensor::arange(4)},
                           {"scalar", Tensor::scalar(3)},
                           {"empty", Tensor::zeros({0, 4})}};
  const auto path = folder.path() / "a.safetensors";
  const std::uint64_t checksum = save_safetensors(path, saved, {{"note", "ünïcode"}});
  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == saved.size());
  for (const auto& [name, tensor] : saved) CHECK(bit_equal(file.at(name), tensor));
  CHECK(file.metadata().at("note") == "ünïcode");
  CHECK_FALSE(file.contains("other"));
  CHECK_THROWS_AS(file.at("other"), UsageError);
  Checksum again;
  const std::string bytes = read_file(path);
  again.add(bytes.data(), 5);  // in pieces of any size
  again.add(bytes.data() + 5, bytes.size() - 5);
  CHECK(again.value() == checksum);
}

TEST_CASE("damaged files are refused with a reason") {
  CHECK_NOTHROW(parse("{" + entry("a", "F32", "[2]", 0, 8) + "}", 8));
  const auto refused = [](const std::string& header, std::size_t bytes, const std::string& reason,
                          std::uint64_t claimed = ~0ull) {
    CAPTURE(header);
    try {
      parse(header, bytes, claimed);
      FAIL_CHECK("accepted");
    } catch (const UsageError& error) {
      CAPTURE(error.what());
      CHECK(std::string(error.what()).find(reason) != std::string::npos);
    }
  };
  refused("{}", 0, "claims a header of", 1000);
  refused("{}", 0, "claims a header of", ~0ull - 1);
  refused("{\"a\":", 0, "not a JSON object");
  refused("[]", 0, "not a JSON object");
  refused("{" + entry("a", "F32", "[2]", 0, 8) + "}", 4, "cut short");
  refused("{" + entry("a", "F32", "[2]", 0, 8) + "}", 12, "follow the last tensor");
  refused("{" + entry("a", "F32", "[3]", 0, 8) + "}", 8, "8 bytes of data where f32[3] needs 12");
  refused("{" + entry("a", "F32", "[4611686018427387904,4]", 0, 8) + "}", 8, "too large");
  refused("{" + entry("a", "F32", "[-1]", 0, 8) + "}", 8, "not a list");
  refused("{" + entry("a", "Q4", "[2]", 0, 8) + "}", 8, "dtype 'Q4'");
  refused("{" + entry("a", "F32", "[2]", 0, 8) + "," + entry("b", "F32", "[2]", 4, 12) + "}", 12,
          "'a' and 'b' overlap");
  refused("{" + entry("a", "F32", "[2]", 0, 8) + "," + entry("b", "F32", "[1]", 12, 16) + "}", 16,
          "4 unused bytes before tensor 'b'");
  refused("{" + entry("a", "F32", "[2]", 8, 0) + "}", 8, "bytes of data where");
  refused(R"({"a":{"dtype":"F32","shape":[2]}})", 8, "must have exactly");
  refused(R"({"__metadata__":{"k":1}})", 0, "metadata 'k' is not text");
}

TEST_CASE("safetensors files of any bytes are refused or read whole") {
  const auto file = [](const std::string& header, std::size_t data_bytes) {
    const std::uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\xFF');
  };
  const std::string huge = "4611686018427387904";
  for (const std::string& input :
       {std::string(), std::string(7, '\0'), std::string(8, '\0'), std::string(8, '\xFF'), file("", 0), file("{}", 0),
        file("{}", 1), file(std::string(100'000, '['), 0), file("{\"\xFF\":1}", 0),
        file("{" + entry("", "F64", "[]", 0, 8) + "}", 8), file("{" + entry("odd", "F64", "[1]", 0, 8) + " }", 8),
        file("{" + entry("a", "F16", "[0," + huge + "," + huge + "]", 0, 0) + "}", 0),
        file("{" + entry("a", "U8", "[" + huge + "," + huge + ",0]", 0, 0) + "}", 0),
        file("{" + entry("a", "BF16", "[1,1,1,1,1,1,1,1]", 0, 2) + "}", 2),
        file("{" + entry("a", "BF16", "[1,1,1,1,1,1,1,1,1]", 0, 2) + "}", 2),
        file("{" + entry("a", "U8", "[2]", 0, 2) + "," + entry("a", "U8", "[2]", 2, 4) + "}", 4),
        file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4),
        file(R"({"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}})", 4),
        file(R"({"__metadata__":{"k":"v","k":"w"}})", 0)}) {
    CAPTURE(input.size());
    CHECK_NOTHROW(fuzz::safetensors_input(input));
  }
}

TEST_CASE("missing files and folders are named") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(SafetensorsFile(folder.path() / "none.safetensors"), UsageError);
  CHECK_THROWS_AS(SafetensorsFile(folder.path()), UsageError);
  replace_file(folder.path() / "short", "abc");
  CHECK_THROWS_AS(SafetensorsFile(folder.path() / "short"), UsageError);
}

TEST_CASE("a write that fails leaves the old file and nothing else") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "kept";
  replace_file(path, "old");
  CHECK_THROWS_AS(replace_file(path,
                               [](const ByteSink& sink) {
                                 sink("half", 4);
                                 throw Error("disk: full");
                               }),
                  Error);
  CHECK(read_file(path) == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  CHECK_THROWS_AS(replace_file(folder.path() / "no" / "folder", "x"), Error);
  CHECK_THROWS_AS(replace_file("/dev/full/x", "x"), Error);
}
