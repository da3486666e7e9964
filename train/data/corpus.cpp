#include "train/data/corpus.h"

#include "tensor/error.h"
#include "train/data/default_corpus.h"
#include "train/tokenizers/utf8.h"

namespace sq {
namespace {

void read_jsonl(const std::filesystem::path& path, std::string_view text_field, Corpus& corpus) {
  const std::size_t before = corpus.documents.size();
  const MappedText text(path);
  LineReader lines(text.bytes());
  std::string_view line;
  for (std::int64_t number = 1; lines.next(line); ++number) {
    line = trim_unicode(line);
    if (line.empty()) continue;
    auto parsed = parse_jsonl_line(line, text_field);
    if (const auto* reason = std::get_if<SkipReason>(&parsed)) {
      corpus.skipped.add(*reason, path.string(), number);
    } else if (!std::get<0>(parsed).empty()) {
      corpus.documents.push_back(std::get<0>(std::move(parsed)));
      corpus.names.push_back(fmt::format("{} line {}", path.string(), number));
    }
  }
  require_input(corpus.documents.size() > before, "data", "'{}' has no line with a text in the field \"{}\"{}{}",
                path.string(), text_field, corpus.skipped.total() > 0 ? "; " : "", corpus.skipped.text());
}

}  // namespace

std::int64_t Corpus::bytes() const {
  std::int64_t sum = 0;
  for (const std::string& document : documents) sum += std::ssize(document);
  return sum;
}

Corpus read_corpus(std::span<const std::filesystem::path> files, std::string_view text_field) {
  require_input(!files.empty(), "data", "no file is given");
  Corpus corpus;
  for (const std::filesystem::path& file : files) {
    if (line_format_of(file) == LineFormat::jsonl) {
      read_jsonl(file, text_field, corpus);
    } else {
      corpus.documents.push_back(read_text_file(file));
      corpus.names.push_back(file.string());
    }
  }
  return corpus;
}

Corpus embedded_corpus() { return {{std::string(default_corpus())}, {"embedded corpus"}, {}}; }

TokenSpan corpus_tokens(const Corpus& corpus, const Tokenizer& tokenizer, std::optional<std::int64_t> separator) {
  auto tokens = std::make_shared<TokenArray>();
  for (std::size_t i = 0; i < corpus.documents.size(); ++i) {
    append_text(*tokens, tokenizer, corpus.documents[i], corpus.names[i]);
    if (separator) tokens->append(std::span(&*separator, 1));
  }
  return TokenSpan(std::move(tokens));
}

}  // namespace sq
