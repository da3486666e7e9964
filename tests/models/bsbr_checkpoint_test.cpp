#include "autograd/grad_mode.h"
#include "models/checkpoints/bsbr.h"
#include "models/estimate.h"
#include "models/language_model.h"
#include "ops/elementwise.h"
#include "tests/support/compare.h"

#include <set>

using namespace sq;
using namespace sq::test;

namespace {

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

BsbrLibraryModel library(BsbrFamily family) {
  BsbrLibraryModel model;
  model.family = family;
  return model;
}

constexpr std::array kFamilies{
    BsbrFamily::standard, BsbrFamily::linear, BsbrFamily::delta_net, BsbrFamily::sliding_window,
    BsbrFamily::hopfield, BsbrFamily::gau,    BsbrFamily::bsbr};

}  // namespace

TEST_CASE("models of the BSBR library have the sizes that it reports") {
  const auto size = [](const BsbrLibraryModel& model) {
    const ModelConfig config = to_model_config(model, BsbrReading::corrected);
    return count_parameters(config) - model.vocab_size * model.hidden_dim;  // the library has no head
  };
  for (const BsbrFamily family : kFamilies)
    if (family != BsbrFamily::gau && family != BsbrFamily::bsbr) CHECK(size(library(family)) == 3'614'720);
  CHECK(size(library(BsbrFamily::gau)) == 4'403'712);
  BsbrLibraryModel compressed = library(BsbrFamily::bsbr);
  compressed.compression_factor = 2;
  CHECK(size(compressed) == 5'983'488);
}

TEST_CASE("every parameter has a name in the library, and comes back by it") {
  for (const BsbrFamily family : kFamilies) {
    BsbrLibraryModel model = library(family);
    model.compression_factor = family == BsbrFamily::bsbr ? 4 : 0;
    NamedTensors theirs;
    const NamedShapes ours = parameter_shapes(to_model_config(model, BsbrReading::corrected));
    for (const auto& [name, shape] : ours) theirs.emplace_back(to_bsbr_name(name), Tensor::zeros({0}));
    theirs.emplace_back("pos_encoding.pe", Tensor::zeros({0}));
    const NamedTensors back = from_bsbr_names(theirs, "file");
    REQUIRE(back.size() == ours.size());
    for (std::size_t i = 0; i < ours.size(); ++i) CHECK(back[i].first == ours[i].first);
  }
  CHECK(to_bsbr_name("layers.11.attn.o_proj.bias") == "layers.11.attention.out_proj.bias");
  CHECK(to_bsbr_name("layers.0.ffn.w2.weight") == "layers.0.ff.3.weight");
  CHECK(to_bsbr_name("ln_f.weight") == "layer_norm.weight");
}

TEST_CASE("names that the library does not have are listed") {
  const NamedTensors tensors{{"embedding.weight", Tensor()},
                             {"layers.0.attention.x_proj.weight", Tensor()},
                             {"layers.0", Tensor()},
                             {"layers.0.weight", Tensor()},
                             {"bias", Tensor()}};
  CHECK(error_of([&] { from_bsbr_names(tensors, "file"); }) ==
        "file: these are no parameters of the BSBR library: layers.0.attention.x_proj.weight, layers.0, "
        "layers.0.weight, bias");
  CHECK(error_of([] { to_bsbr_name("layers.0.ffn.w3.weight"); }) ==
        "bsbr: the BSBR library has no parameter that corresponds to 'layers.0.ffn.w3.weight'");
}

TEST_CASE("a corrected model sees no later token, the original BSBR does") {
  const auto sees_later = [](BsbrFamily family, BsbrReading reading) {
    BsbrLibraryModel small = library(family);
    small.vocab_size = 11;
    small.hidden_dim = 16;
    small.ff_dim = 16;
    small.chunk_size = small.window_size = 4;
    Generator generator(5);
    LanguageModel model(to_model_config(small, reading), {.dtype = DType::f64}, generator);
    model.eval();
    const NoGrad unrecorded;
    const auto first = [&](std::int64_t last_id) {
      const Tensor y = model.hidden(Tensor::from<std::int64_t>({1, 2, 3, 4, 5, last_id}, {1, 6}));
      const std::vector<double> values = y.to_vector<double>();
      return std::vector<double>(values.begin(), values.begin() + 5 * 16);
    };
    return first(6) != first(7);
  };
  for (const BsbrFamily family : kFamilies) {
    CAPTURE(static_cast<int>(family));
    CHECK_FALSE(sees_later(family, BsbrReading::corrected));
    CHECK(sees_later(family, BsbrReading::original) == (family == BsbrFamily::bsbr));
  }
}

TEST_CASE("constructor arguments of the library are checked") {
  const auto error = [](auto change) {
    BsbrLibraryModel model;
    change(model);
    return error_of([&] { to_model_config(model, BsbrReading::corrected); });
  };
  CHECK(error([](BsbrLibraryModel& m) { m.chunk_size = 0; }).find("chunk_size is 0 but must be") != std::string::npos);
  CHECK(error([](BsbrLibraryModel& m) { m.num_heads = 3; }).find("hidden_size is 256 but must be a multiple of") !=
        std::string::npos);
  CHECK(error([](BsbrLibraryModel& m) { m.compression_factor = 300; }).find("compression_factor is 300") !=
        std::string::npos);
  CHECK(error([](BsbrLibraryModel& m) { m.temperature = 0; }).find("temperature is 0") != std::string::npos);
}
