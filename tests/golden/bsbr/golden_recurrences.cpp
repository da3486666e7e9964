#include "tests/golden/bsbr/golden_recurrences.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/delta_rule.h"
#include "ops/elementwise.h"
#include "ops/forgetting_attention.h"
#include "ops/linear_attention.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/golden/bsbr/bsbr_file.h"
#include "tests/support/delta_rule_chunks.h"

#include <cmath>

namespace golden {

using namespace sq;

namespace {

/// [B,T,H,…] of the files and [B,H,T,…] of the operations.
Tensor heads(const Tensor& x) { return transpose(x, 1, 2); }

/// The inputs of a file in one dtype; what the file has gradients of are leaves.
class Inputs {
 public:
  Inputs(const BsbrFile& file, DType dtype) : file_(file), dtype_(dtype) {}

  Tensor operator()(const std::string& name) {
    if (!file_.contains("grad." + name)) return file_.at(name, dtype_);
    const auto [place, added] = leaves_.try_emplace(name);
    if (added) place->second = file_.leaf(name, dtype_);
    return place->second;
  }
  const std::map<std::string, Tensor>& leaves() const { return leaves_; }

 private:
  const BsbrFile& file_;
  DType dtype_;
  std::map<std::string, Tensor> leaves_;
};

/// What a rule returns, by the names in the files, and the names of the gradients given for them.
struct Output {
  std::string name, gradient;
  Tensor value;
};
using Outputs = std::vector<Output>;
using Rule = Outputs (*)(Inputs&);

Outputs memory_outputs(const Tensor& y, const Tensor& state) {
  return {{"o", "do", heads(y)}, {"state", "dstate", state}};
}

Outputs linear(Inputs& in, const Tensor& log_decay) {
  const auto result = linear_attention(heads(in("q")), heads(in("k")), heads(in("v")),
                                       {.log_decay = log_decay, .first_state = in("S0")});
  return memory_outputs(result.y, result.state);
}
Outputs delta(Inputs& in, const Tensor& log_decay) {
  const auto result = delta_rule(heads(in("q")), heads(in("k")), heads(in("v")), heads(in("beta")),
                                 {.log_decay = log_decay, .first_state = in("S0")});
  return memory_outputs(result.y, result.state);
}

/// S_t q_t / (z_t·q_t + ε), z_t = Σ k: the sum of the keys is the state of a value that is always 1.
Outputs linear_normalized(Inputs& in) {
  const Tensor q = heads(in("q")), v = heads(in("v")), z = in("z0");
  const std::int64_t width = v.size(3);
  const Tensor ones = Tensor::ones({v.size(0), v.size(1), v.size(2), 1}, v.options());
  const auto result = linear_attention(q, heads(in("k")), concat({v, ones}, 3),
                                       {.first_state = concat({in("S0"), unsqueeze(z, -1)}, 3)});
  const auto part = [width](const Tensor& x) { return slice(x, 3, 0, width); };
  const auto of_ones = [width](const Tensor& x) { return slice(x, 3, width, width + 1); };
  Outputs outputs = memory_outputs(part(result.y) / (of_ones(result.y) + 1e-6), part(result.state));
  outputs.push_back({"z", "dz", squeeze(of_ones(result.state), 3)});
  return outputs;
}

/// One decay for each head, 1 - 2^(-5-h).
Outputs retention(Inputs& in) {
  const Tensor q = heads(in("q"));
  std::vector<double> decays;
  for (std::int64_t h = 0; h < q.size(1); ++h) decays.push_back(std::log1p(-std::exp2(-5 - static_cast<double>(h))));
  const Tensor by_head = packed_copy(Tensor::from(decays, {1, q.size(1), 1}), q.dtype());
  return linear(in, expand(by_head, {q.size(0), q.size(1), q.size(2)}));
}

/// Mamba-2: Δ = softplus(dt + bias), S_t = e^(-e^A Δ) S_{t-1} + B (Δ x)ᵀ, y = Sᵀ C + D x.
Outputs ssd(Inputs& in) {
  const Tensor x = heads(in("x")), step = softplus(in("dt") + in("dt_bias"));
  const Shape keys{x.size(0), x.size(1), x.size(2), in("Bm").size(3)};
  const auto of_all_heads = [&](const Tensor& group) {
    const std::int64_t groups = group.size(2), each = keys[1] / groups;
    const Tensor apart = expand(unsqueeze(heads(group), 2), {keys[0], groups, each, keys[2], keys[3]});
    return reshape(apart, keys);
  };
  const auto result =
      linear_attention(of_all_heads(in("Cm")), of_all_heads(in("Bm")), x * unsqueeze(heads(step), -1),
                       {.scale = 1, .log_decay = heads(neg(exp(in("A_log"))) * step), .first_state = in("S0")});
  const Tensor skipped = reshape(in("D"), {1, keys[1], 1, 1}) * x;
  return {{"y", "dy", heads(result.y + skipped)}, {"state", "dstate", result.state}};
}

Outputs forgetting(Inputs& in) {
  return {{"o", "do", heads(forgetting_attention(heads(in("q")), heads(in("k")), heads(in("v")), heads(in("g"))))}};
}

Rule rule_of(const std::string& name) {
  static const std::map<std::string, Rule> rules{
      {"linear", [](Inputs& in) { return linear(in, {}); }},
      {"linear_normalized", linear_normalized},
      {"retention", retention},
      {"simple_gla", [](Inputs& in) { return linear(in, heads(in("g"))); }},
      {"gla", [](Inputs& in) { return linear(in, heads(in("g"))); }},
      {"delta", [](Inputs& in) { return delta(in, {}); }},
      {"gated_delta", [](Inputs& in) { return delta(in, heads(in("g"))); }},
      {"kda", [](Inputs& in) { return delta(in, heads(in("g"))); }},
      {"ssd", ssd},
      {"forgetting_attn", forgetting},
  };
  const auto found = rules.find(name);
  require_input(found != rules.end(), "golden", "the rule '{}' is unknown", name);
  return found->second;
}

void check_rule(Comparison& comparison, const BsbrFile& file, Rule rule, DType dtype) {
  Inputs in(file, dtype);
  Tensor loss = Tensor::zeros({}, {.dtype = DType::f64});
  for (const Output& output : rule(in)) {
    compare(comparison, Quantity::value, output.name, detach(output.value), file.at(output.name), dtype);
    loss = loss + sum(cast(output.value, DType::f64) * file.at(output.gradient, DType::f64));
  }
  if (file.contains("loss"))
    compare(comparison, Quantity::loss, "loss", detach(reshape(loss, {1})), file.at("loss"), dtype);
  backward(loss);
  for (const auto& [name, leaf] : in.leaves())
    compare(comparison, Quantity::gradient, "grad." + name, grad(leaf), file.at("grad." + name), dtype);
}

/// Every matrix of the chunks beside the file's, [B,H,chunk,…].
void check_steps(Comparison& comparison, const BsbrFile& file) {
  using namespace sq::test;
  const auto at = [&](const std::string& name) { return heads(file.at(name, DType::f64)); };
  const DeltaInputs in{at("q"), at("k"), at("v"), at("beta"), at("g"), file.at("S0", DType::f64)};
  const double scale = 1 / std::sqrt(static_cast<double>(in.q.size(3)));
  const auto chunk = static_cast<std::int64_t>(file.number("chunk"));
  const std::vector<DeltaChunk> chunks = delta_rule_chunks(in, scale, chunk);
  std::vector<DeltaChunkGradients> gradients(chunks.size());
  Tensor dstate = file.at("dstate", DType::f64);
  for (std::size_t n = chunks.size(); n-- > 0;) {
    const auto begin = static_cast<std::int64_t>(n) * chunk;
    gradients[n] =
        delta_rule_chunk_gradients(chunks[n], slice(at("do"), 2, begin, begin + chunks[n].in.q.size(2)), dstate, scale);
    dstate = gradients[n].first_state;
  }
  const auto check = [&](const std::string& name, const auto& list, auto member) {
    std::vector<Tensor> each;
    for (const auto& one : list) each.push_back(member(one));
    compare(comparison, Quantity::value, name, stack(each, 2), file.at(name), DType::f64);
  };
  using C = DeltaChunk;
  using G = DeltaChunkGradients;
  check("chunk.b", chunks, [](const C& c) { return c.b; });
  check("chunk.Gamma", chunks, [](const C& c) { return c.gamma; });
  check("chunk.A", chunks, [](const C& c) { return c.a; });
  check("chunk.T", chunks, [](const C& c) { return c.t; });
  check("chunk.U", chunks, [](const C& c) { return c.u; });
  check("chunk.W", chunks, [](const C& c) { return c.w; });
  check("chunk.S_start", chunks, [](const C& c) { return c.in.first_state; });
  check("chunk.Vn", chunks, [](const C& c) { return c.updates; });
  check("chunk.P", chunks, [](const C& c) { return c.p; });
  check("chunk.o_chunk", chunks, [](const C& c) { return c.y; });
  check("chunk.dVn", gradients, [](const G& g) { return g.updates; });
  check("chunk.dP", gradients, [](const G& g) { return g.p; });
  check("chunk.dW", gradients, [](const G& g) { return g.w; });
  check("chunk.dT", gradients, [](const G& g) { return g.t; });
  check("chunk.dA", gradients, [](const G& g) { return g.a; });
  check("chunk.dS_start", gradients, [](const G& g) { return g.first_state; });
}

}  // namespace

Result check_recurrence(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  for (const DType dtype : kTypes) check_rule(comparison, file, rule_of(file.text("name")), dtype);
  return comparison.result();
}

Result check_delta_chunks(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  check_steps(comparison, file);
  for (const DType dtype : kTypes) check_rule(comparison, file, rule_of("gated_delta"), dtype);
  return comparison.result();
}

}  // namespace golden
