#include <fmt/core.h>

#include <subquad/autograd/engine.h>
#include <subquad/models/model_folder.h>
#include <subquad/ops/elementwise.h>
#include <subquad/ops/reduce.h>
#include <subquad/train/generate_text.h>

int main(int argc, char** argv) {
  try {
    // A tensor, and the derivative of a function of it: d/dx Σ x² = 2x.
    sq::Tensor x = sq::Tensor::from<float>({1, 2, 3}, {3});
    sq::set_requires_grad(x);
    sq::backward(sq::sum(x * x));
    fmt::print("{}\n", sq::to_string(sq::grad(x)));

    // A model that `subquad train` made, and text that it writes.
    const std::filesystem::path folder = argc > 1 ? argv[1] : "demo-model";
    auto model = sq::load_model(folder);
    auto tokenizer = sq::load_tokenizer(folder / sq::kTokenizerFile);
    sq::TextOptions options;
    options.generate.max_new_tokens = 40;
    options.generate.sampling.temperature = 0.8;
    const auto result = sq::generate_text(*model, *tokenizer, {"The tensor"}, options);
    fmt::print("The tensor{}\n", result.rows[0].continuation);
  } catch (const sq::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
