#include "train/training_data.h"

#include "train/data/corpus.h"
#include "train/data/jsonl.h"
#include "train/data/streaming.h"
#include "train/data/windows.h"

#include <algorithm>

namespace sq {
namespace {

using Paths = std::span<const std::filesystem::path>;

std::string_view kind_name(TokenizerKind kind) { return choices(kind)[static_cast<std::size_t>(kind)]; }

std::uint64_t seed_of(const TrainingConfig& training) { return static_cast<std::uint64_t>(training.seed); }

std::unique_ptr<BatchSource> epoch_batches(const TrainingConfig& training, std::shared_ptr<const Dataset> items,
                                           bool shuffle = true) {
  EpochOptions options;
  options.batch_size = training.batch_size;
  options.shuffle = shuffle;
  options.seed = seed_of(training);
  return std::make_unique<EpochBatches>(std::move(items), options);
}

/// The first windows, as many as an evaluation while training may read.
std::shared_ptr<const Dataset> some_of(const TrainingConfig& training, const std::shared_ptr<const Dataset>& whole) {
  const std::int64_t count = std::min(whole->size(), training.eval_batches * training.batch_size);
  return count == whole->size() ? whole : std::make_shared<Subset>(whole, 0, count);
}

/// Bytes of text that ids begin+1 … end-1 stand for.
std::int64_t bytes_of(const Tokenizer& tokenizer, const TokenSpan& tokens) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(tokens.size()));
  tokens.copy(0, ids);
  return static_cast<std::int64_t>(tokenizer.decode(std::span(ids).subspan(1)).size());
}

/// One long row of ids: the first part trains, the last one validates.
void use_text(TrainingData& data, const TrainingConfig& training, const Corpus& corpus, const std::string& source) {
  if (!data.tokenizer) data.tokenizer = make_tokenizer(kind_name(training.tokenizer), corpus.documents);
  if (!corpus.skipped.text().empty()) data.remarks.push_back(corpus.skipped.text());
  const TokenSpan all = corpus_tokens(corpus, *data.tokenizer);
  const std::int64_t length = training.context;
  require_window_fits(all.size(), length, source);
  const auto [first, last] = split_tokens(all, training.data.validation_fraction);
  require_input(first.size() > length, "data",
                "{}: {} of its {} tokens train, but a window of {} needs {}; give more text, or lower context or "
                "data.validation_fraction",
                source, first.size(), all.size(), length, length + 1);
  if (training.data.stride == 0)
    data.batches = std::make_unique<RandomWindowBatches>(first, length, training.batch_size, seed_of(training), source);
  else
    data.batches = epoch_batches(training, std::make_shared<TextWindows>(first, length, training.data.stride, source));
  if (last.size() > length) {
    data.whole_validation = std::make_shared<EvaluationWindows>(last, length, length, source);
    data.validation_bytes = bytes_of(*data.tokenizer, last);
  } else if (training.data.validation_fraction > 0) {
    data.remarks.push_back(fmt::format("the last {} tokens of {} are too few for a window of {}: nothing is validated",
                                       last.size(), source, length));
  }
}

/// Each line a document of its own.
void use_jsonl(TrainingData& data, const TrainingConfig& training, Paths files) {
  require_input(files.size() == 1, "data", "data.kind jsonl reads one file, {} were given; use data.kind stream",
                files.size());
  if (!data.tokenizer)
    data.tokenizer =
        make_tokenizer(kind_name(training.tokenizer), read_corpus(files, training.data.text_field).documents);
  JsonlOptions options;
  options.length = training.context;
  options.text_field = training.data.text_field;
  options.lazy = training.data.kind == DataKind::jsonl_lazy;
  options.stride = training.data.stride;
  const auto items = std::make_shared<JsonlDataset>(files[0], data.tokenizer, options);
  if (!items->skipped().text().empty()) data.remarks.push_back(items->skipped().text());
  const std::int64_t count = training_count(items->size(), training.data.validation_fraction);
  require_input(count > 0, "data",
                "'{}' has {} usable items, none of them left to train on; lower data.validation_fraction",
                files[0].string(), items->size());
  data.batches = epoch_batches(training, std::make_shared<Subset>(items, 0, count));
  if (count < items->size()) data.whole_validation = std::make_shared<Subset>(items, count, items->size() - count);
}

void use_stream(TrainingData& data, const TrainingConfig& training, Paths files) {
  require_input(!files.empty(), "data", "data.kind stream needs files");
  if (!data.tokenizer) {
    require_input(training.tokenizer == TokenizerKind::byte, "data",
                  "data.kind stream does not read the files beforehand, so the vocabulary of a '{}' tokenizer is not "
                  "known; use training.tokenizer byte",
                  kind_name(training.tokenizer));
    data.tokenizer = make_tokenizer("byte", {});
  }
  StreamingOptions options;
  options.length = training.context;
  options.buffer_size = training.data.shuffle_buffer;
  options.seed = seed_of(training);
  options.documents.text_field = training.data.text_field;
  options.documents.format = files[0].extension() == ".jsonl" ? LineFormat::jsonl : LineFormat::text;
  if (training.faithful) options.shuffle = StreamShuffle::blocks;
  auto stream = std::make_shared<StreamingData>(std::vector(files.begin(), files.end()), data.tokenizer, options);
  data.batches = std::make_unique<StreamBatches>(std::move(stream), training.batch_size);
  data.remarks.push_back("streamed data has no validation part; measure with the eval command on a file of its own");
}

/// Samples of a made-up task; those to validate on are another stream.
void use_task(TrainingData& data, const TrainingConfig& training) {
  const DataConfig& d = training.data;
  const auto part = [&](TaskPart which, std::int64_t items) {
    return d.task.data(training.context, seed_of(training), which, items);
  };
  data.vocab_size = d.task.make(training.context)->vocab_size();
  data.unit = "answer";
  data.asks = true;
  const bool always_new = d.task_items == 0;
  data.batches =
      epoch_batches(training, part(TaskPart::training, always_new ? TaskData::kAll : d.task_items), !always_new);
  data.whole_validation = part(TaskPart::validation, d.task_validation_items);
}

DataKind resolve_kind(const TrainingConfig& training, Paths files) {
  if (training.data.kind != DataKind::automatic) return training.data.kind;
  const bool jsonl = files.size() == 1 && files[0].extension() == ".jsonl";
  return jsonl ? DataKind::jsonl : DataKind::text;
}

}  // namespace

std::string unit_of(const Tokenizer& tokenizer) {
  if (tokenizer.kind() == "byte") return "byte";
  if (tokenizer.kind() == "bpe") return "token";
  return tokenizer.kind() == "char" ? "character" : "word";
}

TrainingData make_training_data(const TrainingConfig& training, Paths files,
                                std::shared_ptr<const Tokenizer> tokenizer) {
  TrainingData data;
  data.tokenizer = std::move(tokenizer);
  if (!training.data.task.is_none()) {
    require_input(files.empty() && training.data.kind == DataKind::automatic, "data",
                  "the task {} makes its own data; leave out files and data.kind", training.data.task.type);
    use_task(data, training);
    data.validation = some_of(training, data.whole_validation);
    return data;
  }
  switch (resolve_kind(training, files)) {
    case DataKind::jsonl:
    case DataKind::jsonl_lazy:
      use_jsonl(data, training, files);
      break;
    case DataKind::stream:
      use_stream(data, training, files);
      break;
    case DataKind::automatic:
    case DataKind::text: {
      const std::string source = files.empty()       ? "the embedded corpus"
                                 : files.size() == 1 ? "'" + files[0].string() + "'"
                                                     : fmt::format("the {} files", files.size());
      use_text(data, training, files.empty() ? embedded_corpus() : read_corpus(files, training.data.text_field),
               source);
    }
  }
  if (data.tokenizer) {
    data.vocab_size = data.tokenizer->vocab_size();
    data.unit = unit_of(*data.tokenizer);
  }
  if (data.whole_validation) data.validation = some_of(training, data.whole_validation);
  return data;
}

}  // namespace sq
