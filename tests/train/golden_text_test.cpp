// The golden files about text, and proof that the comparison notices a wrong number.
#include "nn/json.h"
#include "tensor/file.h"
#include "tests/golden/halo_s/golden_datasets.h"
#include "tests/golden/halo_s/golden_tokenizers.h"
#include "tests/source_root.h"
#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace sq;
namespace fs = std::filesystem;

namespace {

const fs::path kFolder = fs::path(test::kSourceRoot) / "tests/golden/halo_s";

void check_all_equal(const golden::Result& result, std::size_t least) {
  for (const std::string& failure : result.failures) FAIL_CHECK(failure);
  CHECK(result.worst_error == 0);
  CHECK(result.tensors >= least);
}

/// The file with one value changed.
fs::path changed(const test::TemporaryFolder& folder, const char* name, const Json::json_pointer& place,
                 const Json& value) {
  Json json = read_json_file((kFolder / name).string());
  json.at(place) = value;
  replace_file(folder.path() / name, json.dump());
  return folder.path() / name;
}

}  // namespace

TEST_CASE("tokenizers give the original's ids, texts and files") {
  check_all_equal(golden::check_tokenizers(kFolder / "tokenizers.json"), 60);
}

TEST_CASE("data sets give the original's items") {
  check_all_equal(golden::check_datasets(kFolder / "datasets.json"), 100);
}

TEST_CASE("the golden comparison of text notices what is wrong") {
  const test::TemporaryFolder folder;
  const auto failures = [&](const char* name, const char* place, const Json& value) {
    const fs::path file = changed(folder, name, Json::json_pointer(place), value);
    return (std::string_view(name) == "tokenizers.json" ? golden::check_tokenizers(file) : golden::check_datasets(file))
        .failures.size();
  };
  CHECK(failures("tokenizers.json", "/char/0/encode/0/ids/3", 7) == 2);  // encode and decode
  CHECK(failures("tokenizers.json", "/word/0/vocab/hola", 9) == 1);
  CHECK(failures("tokenizers.json", "/word/1/saved_file", "{}") >= 1);
  CHECK(failures("datasets.json", "/datasets/jsonl/items/2/0/1", 7) == 2);  // eager and lazy
  CHECK(failures("datasets.json", "/datasets/jsonl/lazy_offsets/1", 98) == 2);
  CHECK(failures("datasets.json", "/datasets/streaming_txt/items/19/1/7", 7) == 2);  // both shuffles
  CHECK(failures("datasets.json", "/datasets/streaming_shuffled/blocks_as_multisets/1/0/0", 7) == 1);
  CHECK(failures("datasets.json", "/datasets/text/length", 7) == 1);
  CHECK(golden::check_tokenizers(folder.path() / "absent.json").failures.size() == 1);
}
