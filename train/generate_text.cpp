#include "train/generate_text.h"

#include <algorithm>
#include <utility>

namespace sq {
namespace {

/// The continuation of one row: text that is certain has been shown, the rest may still turn into a stop text.
class Row {
 public:
  Row(const Tokenizer& tokenizer, const std::vector<std::int64_t>& prompt) : decoder_(tokenizer) {
    for (const std::int64_t id : prompt) decoder_.push(id);  // what follows depends on it (a space between words)
  }

  /// Takes text; false once a stop text appeared.
  bool add(const std::string& piece, const std::vector<std::string>& stops) {
    text_ += piece;
    for (const std::string& stop : stops) {
      const std::size_t found = text_.find(stop, shown_);  // never reaches into what was shown; see certain()
      if (found == std::string::npos) continue;
      text_.resize(found);
      stopped_ = true;
    }
    return !stopped_;
  }

  /// What may be shown now: all but the longest tail that begins a stop text.
  std::string_view certain(const std::vector<std::string>& stops) {
    std::size_t keep = 0;
    for (const std::string& stop : stops)
      for (std::size_t length = std::min(stop.size() - 1, text_.size()); !stopped_ && length > keep; --length)
        if (text_.ends_with(std::string_view(stop).substr(0, length))) keep = length;
    return take(text_.size() - keep);
  }

  std::string_view rest() { return take(text_.size()); }
  StreamDecoder& decoder() { return decoder_; }
  const std::string& text() const { return text_; }
  bool stopped() const { return stopped_; }

 private:
  std::string_view take(std::size_t end) {
    const std::size_t begin = std::exchange(shown_, end);
    return std::string_view(text_).substr(begin, end - begin);
  }

  StreamDecoder decoder_;
  std::string text_;
  std::size_t shown_ = 0;
  bool stopped_ = false;
};

}  // namespace

GeneratedTexts generate_text(LanguageModel& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                             const TextOptions& options, const TextSink& sink) {
  for (const std::string& stop : options.stop) require_input(!stop.empty(), "generate", "a stop text is empty");
  std::vector<std::vector<std::int64_t>> ids;
  std::vector<Row> rows;
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer.encode(prompt));
    rows.emplace_back(tokenizer, ids.back());
  }
  const auto show = [&](std::size_t row, std::string_view piece) {
    if (sink && !piece.empty()) sink(row, piece);
  };
  const Generated generated = generate(model, ids, options.generate, [&](std::size_t row, std::int64_t token) {
    const bool go_on = rows[row].add(rows[row].decoder().push(token), options.stop);
    show(row, rows[row].certain(options.stop));
    return go_on;
  });
  GeneratedTexts result;
  result.slides = generated.slides;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    if (!rows[b].stopped()) rows[b].add(rows[b].decoder().finish(), options.stop);
    show(b, rows[b].rest());
    result.rows.push_back({rows[b].text(), static_cast<std::int64_t>(generated.tokens[b].size()), rows[b].stopped()});
  }
  return result;
}

}  // namespace sq
