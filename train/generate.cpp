#include "train/generate.h"

#include "autograd/grad_mode.h"
#include "ops/view.h"
#include "tensor/memory.h"
#include "tensor/random.h"

#include <algorithm>

namespace sq {
namespace {

using Tokens = std::vector<std::int64_t>;

/// Rows of different lengths as i64 [B, longest], padded with 0 on the right.
Tensor padded(const std::vector<Tokens>& rows) {
  std::size_t longest = 1;
  for (const Tokens& row : rows) longest = std::max(longest, row.size());
  Tokens values(rows.size() * longest, 0);
  for (std::size_t b = 0; b < rows.size(); ++b)
    std::copy(rows[b].begin(), rows[b].end(), values.begin() + static_cast<std::ptrdiff_t>(b * longest));
  return Tensor::from(values, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(longest)});
}

Tokens last_of(const Tokens& tokens, std::int64_t count) {
  const auto keep = std::min<std::int64_t>(count, static_cast<std::int64_t>(tokens.size()));
  return {tokens.end() - keep, tokens.end()};
}

/// Gives the logits that follow each row's context, [B,V].
class Reader {
 public:
  virtual ~Reader() = default;
  /// Takes the tokens that are new in each row, possibly none.
  virtual Tensor read(const std::vector<Tokens>& fresh) = 0;
  virtual std::int64_t slides() const { return 0; }
};

/// With a state: only new tokens are read, and the last half again when a row is full.
class SteppingReader : public Reader {
 public:
  SteppingReader(LanguageModel& model, std::size_t rows, std::int64_t capacity)
      : model_(model), contexts_(rows), capacity_(std::min(capacity, model.max_tokens())) {
    state_ = model_.make_state(static_cast<std::int64_t>(rows), capacity_);
  }

  Tensor read(const std::vector<Tokens>& fresh) override {
    bool overflow = false;
    for (std::size_t b = 0; b < fresh.size(); ++b)
      overflow |= static_cast<std::int64_t>(contexts_[b].size() + fresh[b].size()) > capacity_;
    std::vector<Tokens> unread = fresh;
    if (overflow) {
      state_ = model_.make_state(static_cast<std::int64_t>(fresh.size()), capacity_);
      for (std::size_t b = 0; b < fresh.size(); ++b) {
        const bool full = static_cast<std::int64_t>(contexts_[b].size() + fresh[b].size()) > capacity_;
        if (full && !contexts_[b].empty()) {
          contexts_[b] = last_of(contexts_[b], capacity_ / 2);
          ++slides_;
        }
        unread[b] = contexts_[b];
        unread[b].insert(unread[b].end(), fresh[b].begin(), fresh[b].end());
        contexts_[b].clear();
      }
    }
    Tokens counts;
    for (std::size_t b = 0; b < unread.size(); ++b) {
      unread[b] = last_of(unread[b], capacity_);
      contexts_[b].insert(contexts_[b].end(), unread[b].begin(), unread[b].end());
      counts.push_back(static_cast<std::int64_t>(unread[b].size()));
    }
    return model_.step(padded(unread), *state_, counts);
  }

  std::int64_t slides() const override { return slides_; }

 private:
  LanguageModel& model_;
  std::vector<Tokens> contexts_;  // what the state holds
  std::int64_t capacity_;
  std::unique_ptr<ModelState> state_;
  std::int64_t slides_ = 0;
};

/// Without a state: every row's whole context, row by row, since its result depends on its length.
class RecomputingReader : public Reader {
 public:
  RecomputingReader(LanguageModel& model, std::size_t rows) : model_(model), contexts_(rows) {}

  Tensor read(const std::vector<Tokens>& fresh) override {
    Tensor logits =
        Tensor::zeros({static_cast<std::int64_t>(fresh.size()), model_.config().vocab_size}, model_.options());
    for (std::size_t b = 0; b < fresh.size(); ++b) {
      if (fresh[b].empty()) continue;
      contexts_[b].insert(contexts_[b].end(), fresh[b].begin(), fresh[b].end());
      contexts_[b] = last_of(contexts_[b], model_.max_tokens());
      const Tensor all = model_.forward(padded({contexts_[b]}));
      Tensor row = select(logits, 0, static_cast<std::int64_t>(b));
      copy_(row, select(select(all, 0, 0), 0, all.size(1) - 1));
    }
    return logits;
  }

 private:
  LanguageModel& model_;
  std::vector<Tokens> contexts_;
};

std::unique_ptr<Reader> make_reader(LanguageModel& model, const std::vector<Tokens>& prompts,
                                    std::int64_t max_new_tokens) {
  if (!model.can_step()) return std::make_unique<RecomputingReader>(model, prompts.size());
  std::size_t longest = 0;
  for (const Tokens& prompt : prompts) longest = std::max(longest, prompt.size());
  const std::int64_t room = std::min(max_new_tokens, model.max_tokens());
  return std::make_unique<SteppingReader>(model, prompts.size(), static_cast<std::int64_t>(longest) + room);
}

}  // namespace

Generated generate(LanguageModel& model, const std::vector<Tokens>& prompts, const GenerateOptions& options,
                   const TokenSink& sink) {
  check_sampling(options.sampling);
  require_input(options.max_new_tokens >= 0, "generate", "max_new_tokens {} is negative", options.max_new_tokens);
  for (const Tokens& prompt : prompts)
    require_input(!prompt.empty(), "generate", "the prompt is empty; give at least one token to continue");
  Generated result;
  result.tokens.resize(prompts.size());
  if (prompts.empty() || options.max_new_tokens == 0) return result;

  const NoGrad unrecorded;
  const EvalMode evaluation(model);
  const std::unique_ptr<Reader> reader = make_reader(model, prompts, options.max_new_tokens);
  std::vector<Tokens> fresh = prompts;
  std::vector<bool> running(prompts.size(), true);
  for (std::int64_t n = 0;
       n < options.max_new_tokens && std::find(running.begin(), running.end(), true) != running.end(); ++n) {
    const std::vector<float> logits = reader->read(fresh).to_vector<float>();
    const std::size_t vocabulary = logits.size() / prompts.size();
    for (std::size_t b = 0; b < prompts.size(); ++b) {
      fresh[b].clear();
      if (!running[b]) continue;
      const double u = random_uniform(options.seed, b, static_cast<std::uint64_t>(n));
      const std::int64_t token = sample_token({logits.data() + b * vocabulary, vocabulary}, options.sampling, u);
      const bool stopped =
          std::find(options.stop_tokens.begin(), options.stop_tokens.end(), token) != options.stop_tokens.end();
      running[b] = !stopped;
      if (stopped) continue;
      result.tokens[b].push_back(token);
      fresh[b] = {token};
      const auto held = static_cast<std::int64_t>(prompts[b].size() + result.tokens[b].size());
      if ((sink && !sink(b, token)) || (options.when_full == WhenFull::stop && held >= model.max_tokens()))
        running[b] = false;
      if (!running[b]) fresh[b].clear();
    }
  }
  result.slides = reader->slides();
  return result;
}

}  // namespace sq
