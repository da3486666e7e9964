// subquad bench ops: single operations at the shapes of a small language model, forward and with backward.
#include "autograd/engine.h"
#include "ops/adamw.h"
#include "ops/block_linear_attention.h"
#include "ops/block_retrieval.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/cross_entropy.h"
#include "ops/cumsum.h"
#include "ops/delta_rule.h"
#include "ops/dropout.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/gather.h"
#include "ops/gradient_norm.h"
#include "ops/l2_normalize.h"
#include "ops/layer_norm.h"
#include "ops/linear_attention.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/short_convolution.h"
#include "ops/softmax.h"
#include "ops/sort.h"
#include "ops/swiglu.h"
#include "ops/view.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tools/bench.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sq::cli {
namespace {

constexpr std::int64_t kRows = 1024, kWidth = 768, kVocabulary = 4096;

/// One operation: what runs, the same from smaller operations , and its least work forward.
struct Case {
  std::string name;
  std::vector<Tensor> leaves;         // what gradients are wanted of; empty: forward only
  std::function<Tensor()> run;        // what is timed
  std::function<Tensor()> reference;  // must give the same values
  Work work;
};

Tensor leaf(const Shape& shape) {
  const Tensor tensor = randn(shape);
  set_requires_grad(tensor);
  return tensor;
}

Tensor ids_below(std::int64_t count, std::int64_t bound) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int64_t>(
        random_below(1, 0, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(bound))));
  return Tensor::from(ids, {count});
}

/// So many f32 values read or written.
Work moves(double values) { return {.flops = 0, .bytes = 4 * values}; }

std::vector<Case> elementwise_cases() {
  const Tensor x = leaf({kRows, kWidth}), y = leaf({kRows, kWidth}), row = leaf({kWidth});
  const auto n = static_cast<double>(x.numel());
  return {
      {"add", {x, y}, [=] { return add(x, y); }, [=] { return sub(x, neg(y)); }, moves(3 * n)},
      {"add_row", {x, row}, [=] { return add(x, row); }, [=] { return add(x, expand(row, x.shape())); }, moves(2 * n)},
      {"mul", {x, y}, [=] { return mul(x, y); }, [=] { return mul(y, x); }, moves(3 * n)},
      {"exp", {x}, [=] { return exp(x); }, [=] { return mul(exp(mul(x, 0.5)), exp(mul(x, 0.5))); }, moves(2 * n)},
      {"gelu",
       {x},
       [=] { return gelu(x, Gelu::tanh); },
       [=] {
         return mul(mul(x, 0.5), add(tanh(mul(add(x, mul(pow(x, 3), 0.044715)), std::sqrt(2 / std::numbers::pi))), 1));
       },
       moves(2 * n)},
      {"silu", {x}, [=] { return silu(x); }, [=] { return mul(x, sigmoid(x)); }, moves(2 * n)},
      {"swiglu", {x, y}, [=] { return swiglu(x, y); }, [=] { return mul(silu(x), y); }, moves(3 * n)},
      {"dropout",
       {x},
       [=] {
         default_generator() = Generator(1);
         return dropout(x, 0.1);
       },
       [=] {
         default_generator() = Generator(1);
         return mul(x, div(dropout(x, 0.1), x));
       },
       moves(2 * n)},
  };
}

std::vector<Case> row_cases() {
  const Tensor x = leaf({kRows, kWidth}), gain = leaf({kWidth}), bias = leaf({kWidth});
  const auto n = static_cast<double>(x.numel());
  const auto centred = [=] { return sub(x, mean(x, {-1}, true)); };
  return {
      {"sum", {x}, [=] { return sum(x, {-1}); }, [=] { return mul(mean(x, {-1}), kWidth); }, moves(n)},
      {"max", {x}, [=] { return max(x, {-1}); }, [=] { return neg(select(sort(neg(x), -1).values, 1, 0)); }, moves(n)},
      {"logsumexp", {x}, [=] { return logsumexp(x, {-1}); }, [=] { return log(sum(exp(x), {-1})); }, moves(n)},
      {"cumsum", {x}, [=] { return select(cumsum(x, -1), 1, kWidth - 1); }, [=] { return sum(x, {-1}); }, moves(2 * n)},
      {"sort",
       {},
       [=] { return sort(x, -1).values; },
       [=] { return neg(sort(neg(x), -1, true).values); },
       moves(2 * n)},
      {"topk",
       {},
       [=] { return topk(x, 8).values; },
       [=] { return slice(sort(x, -1, true).values, 1, 0, 8); },
       moves(n)},
      {"softmax", {x}, [=] { return softmax(x); }, [=] { return exp(sub(x, logsumexp(x, {-1}, true))); }, moves(2 * n)},
      {"log_softmax",
       {x},
       [=] { return log_softmax(x); },
       [=] { return sub(x, logsumexp(x, {-1}, true)); },
       moves(2 * n)},
      {"layer_norm",
       {x, gain, bias},
       [=] { return layer_norm(x, gain, bias); },
       [=] {
         return add(mul(div(centred(), sqrt(add(mean(mul(centred(), centred()), {-1}, true), 1e-5))), gain), bias);
       },
       moves(2 * n)},
      {"l2_normalize",
       {x},
       [=] { return l2_normalize(x); },
       [=] { return div(x, sqrt(sum(mul(x, x), {-1}, true))); },
       moves(2 * n)},
      {"rms_norm",
       {x, gain},
       [=] { return rms_norm(x, gain); },
       [=] { return mul(div(x, sqrt(add(mean(mul(x, x), {-1}, true), 1e-6))), gain); },
       moves(2 * n)},
  };
}

std::vector<Case> index_cases() {
  const Tensor table = leaf({kVocabulary, kWidth}), ids = ids_below(kRows, kVocabulary), x = leaf({kRows, kWidth});
  const Tensor heads = leaf({1, 12, kRows, 64}), positions = Tensor::arange(kRows);
  const Tensor rows = leaf({1, kRows, kWidth}), taps = leaf({kWidth, 4});
  const auto n = static_cast<double>(kRows * kWidth);
  return {
      {"embedding",
       {table},
       [=] { return embedding(table, ids); },
       [=] { return index_select(table, 0, ids); },
       moves(2 * n)},
      {"index_select",
       {table},
       [=] { return index_select(table, 0, ids); },
       [=] { return embedding(table, ids); },
       moves(2 * n)},
      {"concat",
       {x},
       [=] {
         return concat({x, x}, 1);
       },
       [=] {
         return reshape(stack({x, x}, 1), {kRows, 2 * kWidth});
       },
       moves(4 * n)},
      {"short_convolution",
       {rows, taps},
       [=] { return short_convolution(rows, taps); },
       [=] {
         const Tensor whole = pad(rows, 1, 3, 0);
         Tensor y = mul(rows, select(taps, 1, 3));
         for (std::int64_t j = 0; j < 3; ++j) y = add(y, mul(slice(whole, 1, j, j + kRows), select(taps, 1, j)));
         return y;
       },
       moves(2 * n)},
      // A turn by position 0 changes nothing.
      {"rope",
       {heads},
       [=] { return rope(heads, positions); },
       [=] { return rope(rope(heads, positions), Tensor::zeros({kRows}, {.dtype = DType::i64})); },
       moves(2 * n)},
  };
}

std::vector<Case> product_cases() {
  const Tensor x = leaf({kRows, kWidth}), weight = leaf({kWidth, kWidth}), bias = leaf({kWidth});
  const Tensor head = leaf({kVocabulary, kWidth}), targets = ids_below(kRows, kVocabulary);
  const Tensor logits = leaf({kRows, kVocabulary});
  const double product = 2.0 * kRows * kWidth * kWidth, projection = 2.0 * kRows * kWidth * kVocabulary;
  const double n = static_cast<double>(kRows) * kWidth, l = static_cast<double>(kRows) * kVocabulary;
  return {
      {"matmul",
       {x, weight},
       [=] { return matmul(x, weight); },
       [=] { return linear(x, transpose(weight, 0, 1), {}); },
       {product, 4 * (2 * n + kWidth * kWidth)}},
      {"linear",
       {x, weight, bias},
       [=] { return linear(x, weight, bias); },
       [=] { return add(matmul(x, transpose(weight, 0, 1)), bias); },
       {product, 4 * (2 * n + kWidth * kWidth)}},
      {"cross_entropy",
       {logits},
       [=] { return cross_entropy(logits, targets); },
       [=] {
         return neg(mean(gather(log_softmax(logits), 1, reshape(targets, {kRows, 1}))));
       },
       moves(l)},
      {"linear_cross_entropy",
       {x, head},
       [=] { return linear_cross_entropy(x, head, targets); },
       [=] { return cross_entropy(matmul(x, transpose(head, 0, 1)), targets); },
       {projection, 4 * (n + static_cast<double>(kVocabulary) * kWidth)}},
  };
}

std::vector<Case> attention_cases() {
  constexpr std::int64_t kHeads = 12, kHeadWidth = kWidth / kHeads;
  const Shape shape{1, kHeads, kRows, kHeadWidth};
  const Tensor q = leaf(shape), k = leaf(shape), v = leaf(shape);
  std::vector<float> past;  // 1 where the column is not after the row
  for (std::int64_t i = 0; i < kRows; ++i)
    for (std::int64_t j = 0; j < kRows; ++j) past.push_back(j <= i ? 1.0f : 0.0f);
  const Tensor mask = Tensor::from(past, {kRows, kRows});
  constexpr std::int64_t kBlock = 32, kBlocks = kRows / kBlock;
  const Tensor r = leaf({1, kHeads, kBlocks, kHeadWidth}), h = leaf({1, kHeads, kBlocks, kHeadWidth});
  const Tensor states = leaf({1, kHeads, kBlocks, kHeadWidth, kHeadWidth});
  std::vector<std::uint8_t> earlier;  // 1 where the column is before the row
  for (std::int64_t i = 0; i < kBlocks; ++i)
    for (std::int64_t j = 0; j < kBlocks; ++j) earlier.push_back(j < i ? 1 : 0);
  std::vector<float> blocks_before;  // 1 where the column is in an earlier block of 128
  for (std::int64_t i = 0; i < kRows; ++i)
    for (std::int64_t j = 0; j < kRows; ++j) blocks_before.push_back(j / 128 < i / 128 ? 1.0f : 0.0f);
  const Tensor before = Tensor::from(blocks_before, {kRows, kRows});
  const Tensor visible = Tensor::from(earlier, {kBlocks, kBlocks});
  const double memory = kHeads * kHeadWidth * kHeadWidth;
  return {
      {"block_linear_attention",
       {q, k, v},
       [=] { return block_linear_attention(q, k, v, 128); },
       [=] { return matmul(mul(matmul(q, transpose(k, 2, 3)), before), v); },
       {.flops = 4.0 * kRows * kWidth * kHeadWidth, .bytes = 16.0 * kRows * kWidth}},
      {"block_retrieval",
       {q, r, h, states},
       [=] { return block_retrieval(q, r, h, states, kBlock); },
       [=] {
         const Tensor scores = mul(matmul(r, transpose(h, 2, 3)), 1 / std::sqrt(static_cast<double>(kHeadWidth)));
         const Tensor p = mul(softmax(where(visible, scores, Tensor::full({}, -1e9))), cast(visible, DType::f32));
         const Tensor mixtures = matmul(p, reshape(states, {1, kHeads, kBlocks, kHeadWidth * kHeadWidth}));
         const Tensor by_block = reshape(q, {1, kHeads, kBlocks, kBlock, kHeadWidth});
         return reshape(matmul(by_block, reshape(mixtures, states.shape())), shape);
       },
       {.flops = memory * (2.0 * kRows + 1.0 * kBlocks * kBlocks),
        .bytes = 4 * (2.0 * kRows * kWidth + kBlocks * memory)}},
      {"linear_attention",
       {q, k, v},
       [=] { return linear_attention(q, k, v).y; },
       [=] {
         const Tensor scores = mul(matmul(q, transpose(k, 2, 3)), 1 / std::sqrt(static_cast<double>(kHeadWidth)));
         return matmul(mul(scores, mask), v);
       },
       {.flops = 4.0 * kRows * kWidth * kHeadWidth * 2, .bytes = 16.0 * kRows * kWidth}},
  };
}

std::vector<Case> memory_cases() {
  constexpr std::int64_t kHeads = 12, kHeadWidth = kWidth / kHeads;
  const Shape shape{1, kHeads, kRows, kHeadWidth};
  const Tensor q = leaf(shape), v = leaf(shape), directions = randn(shape), beta = rand({1, kHeads, kRows});
  const Tensor k = div(directions, sqrt(sum(mul(directions, directions), {-1}, true)));
  for (const Tensor& tensor : {k, beta}) set_requires_grad(tensor);
  return {
      {"delta_rule",
       {q, k, v, beta},
       [=] { return delta_rule(q, k, v, beta, {.scale = 1}).y; },
       [=] {  // one position after the other
         Tensor state = Tensor::zeros({1, kHeads, kHeadWidth, kHeadWidth});
         std::vector<Tensor> rows;
         for (std::int64_t t = 0; t < kRows; ++t) {
           const auto at = [t](const Tensor& x) { return slice(x, 2, t, t + 1); };
           const Tensor update = mul(unsqueeze(at(beta), -1), sub(at(v), matmul(at(k), state)));
           state = add(state, matmul(transpose(at(k), 2, 3), update));
           rows.push_back(matmul(at(q), state));
         }
         return concat(rows, 2);
       },
       {.flops = 10.0 * kRows * kWidth * kHeadWidth, .bytes = 16.0 * kRows * kWidth}},
  };
}

std::vector<Case> optimizer_cases() {
  const Tensor weight = randn({kVocabulary, kWidth}), gradient = randn({kVocabulary, kWidth});
  const auto m = std::make_shared<Tensor>(Tensor::zeros_like(weight)),
             v = std::make_shared<Tensor>(Tensor::zeros_like(weight));
  const auto n = static_cast<double>(weight.numel());
  return {
      {"gradient_norm",
       {},
       [=] { return gradient_norm(std::vector<Tensor>{gradient}); },
       [=] { return sqrt(sum(mul(gradient, gradient))); },
       moves(n)},
      // The first step moves every weight by the rate against the sign of its gradient; with rate 0 nothing moves.
      {"adamw",
       {},
       [=] {
         AdamWSlot slot{.weight = weight, .gradient = gradient, .exp_avg = *m, .exp_avg_sq = *v};
         adamw_step({&slot, 1}, {.learning_rate = 0, .step = 1});
         return weight;
       },
       [=, before = packed_copy(weight)] { return before; },
       moves(7 * n)},
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (auto group : {elementwise_cases(), row_cases(), index_cases(), product_cases(), attention_cases(),
                     memory_cases(), optimizer_cases()})
    for (Case& one : group) cases.push_back(std::move(one));
  return cases;
}

void check(const Case& one) {
  const NoGrad unrecorded;
  const auto got = one.run().to_vector<double>(), want = one.reference().to_vector<double>();
  require(got.size() == want.size(), "bench ops", "{}: {} values instead of {}", one.name, got.size(), want.size());
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error = std::max(error, std::abs(got[i] - want[i]));
    scale = std::max(scale, std::abs(want[i]));
  }
  require(error <= 1e-3 * scale, "bench ops", "{}: off by {} at values up to {}", one.name, error, scale);
}

void bench_case(const BenchOptions& options, const Case& one) {
  check(one);
  const Json sizes{{"rows", kRows}, {"columns", kWidth}, {"direction", "forward"}};
  const Timing forward = measure(options, [&] {
    const NoGrad unrecorded;
    one.run();
  });
  print_result(options, bench_result(options, one.name, forward, one.work, sizes));
  if (one.leaves.empty()) return;
  const Tensor seed = Tensor::ones(one.run().shape());
  const Timing both = measure(options, [&] {
    for (const Tensor& tensor : one.leaves) set_grad(tensor, Tensor());
    backward(one.run(), seed);
  });
  Json both_sizes = sizes;
  both_sizes["direction"] = "forward_backward";
  print_result(options, bench_result(options, one.name, both,
                                     {.flops = 3 * one.work.flops, .bytes = 3 * one.work.bytes}, both_sizes));
}

}  // namespace

void add_bench_ops(CLI::App& bench) {
  struct Options {
    BenchOptions bench;
    std::vector<std::string> names;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("ops", "single operations, f32, at the shapes of a small model");
  command->add_option("names", o->names, "which; none: all");
  add_bench_flags(*command, o->bench);
  command->callback([o, command] {
    o->bench.apply(*command);
    const std::vector<Case> cases = all_cases();
    std::vector<std::string> known;
    for (const Case& one : cases) known.push_back(one.name);
    for (const std::string& name : o->names)
      require_input(std::find(known.begin(), known.end(), name) != known.end(), "bench ops",
                    "'{}' is unknown; known are {}", name, fmt::join(known, ", "));
    for (const Case& one : cases)
      if (o->names.empty() || std::find(o->names.begin(), o->names.end(), one.name) != o->names.end())
        bench_case(o->bench, one);
  });
}

}  // namespace sq::cli
