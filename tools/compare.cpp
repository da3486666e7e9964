// subquad compare: mixers on the same work, measured, checked and trained side by side.
#include "tools/compare/plan.h"
#include "tools/compare/progress.h"
#include "tools/compare/report.h"
#include "tools/compare/summary.h"

#include <csignal>

namespace sq::cli {
namespace {

using namespace sq::compare;

struct Options {
  Settings settings;
  std::string out;
  bool report_only = false;
};

Stop stop_requested{false};

/// The first Ctrl-C ends the comparison in order; the next one ends the program at once.
void request_stop(int signal) {
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);
}

/// The command as it was given, for the report.
std::string command_line(const CLI::App& command) {
  const auto quoted = [](const std::string& text) {
    const bool plain = !text.empty() && text.find_first_of(" \t\n'\"\\$&|;<>()*?#`!~{}[]") == std::string::npos;
    return plain ? text : "'" + text + "'";
  };
  std::string text = "subquad " + command.get_name();
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0) {
      text += " " + option->get_name();
      if (option->get_expected_max() > 0)
        for (const std::string& value : option->results()) text += " " + quoted(value);
    }
  return text;
}

/// Makes what is missing, in order. Returns how many measurements failed.
std::size_t run_plan(const Settings& settings, std::vector<Measurement> plan, Store& store) {
  std::erase_if(plan, [&](const Measurement& m) {
    const Json* record = store.find(m.key);
    return record && !failed(*record);
  });
  double work = 0;
  for (const Measurement& measurement : plan) work += measurement.work;
  CompareProgress progress(progress_on_stderr(settings.common.quiet), plan.size(), work);
  std::size_t failures = 0;
  for (const Measurement& measurement : plan) {
    if (stop_requested) break;
    progress.begin(describe(measurement.key), measurement.work);
    Json result;
    try {
      result = measurement.run(stop_requested, [&](std::int64_t step, std::int64_t last) {
        progress.inner(static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(last, 1)));
      });
    } catch (const Interrupted&) {
      break;
    } catch (const std::exception& error) {
      result = {{"failed", error.what()}};
      ++failures;
    }
    store.add(measurement.key, result);
    progress.end(short_result(result));
  }
  return failures;
}

void print_results(const Store& store) {
  for (const Json& record : store.records()) print_line(record);
  for (const Json& record : growth_records(store)) print_line(record);
}

void run(Options& o, const CLI::App& command) {
  Settings& settings = o.settings;
  if (o.report_only) {
    const Store store = Store::read(o.out);
    write_report(o.out, store);
    if (settings.common.json) print_results(store);
    say(settings.common, "the report is in {}/report.html", o.out);
    return;
  }
  settings.complete();
  for (std::string& file : settings.data) file = std::filesystem::absolute(file).string();
  const std::vector<Contender> contenders = make_contenders(settings);
  check_training_data(settings);
  Store store = Store::open(o.out, settings.to_json());
  store.add_command(command_line(command));
  const std::vector<Measurement> plan = make_plan(settings, contenders);
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  const std::size_t failures = run_plan(settings, plan, store);
  write_report(o.out, store);
  if (settings.common.json) print_results(store);
  if (stop_requested)
    say(settings.common, "stopped; what is finished is in {} and is not measured again by the same command", o.out);
  else
    say(settings.common, "{} contenders; results.jsonl, results.csv, report.html and report.svg are in {}",
        contenders.size(), o.out);
  require(failures == 0, "compare",
          "{} measurements failed; results.jsonl in '{}' says why, the same command tries again", failures, o.out);
}

void add_flags(CLI::App& command, Options& o) {
  Settings& s = o.settings;
  const auto number = [&](const char* flag, auto& value, const char* help) {
    command.add_option(flag, value, help)->capture_default_str();
  };
  command.add_option("--mixers", s.mixers, "a,b,c; a+b: layers take turns; default: every mixer")->delimiter(',');
  command.add_option("--n", s.lengths, "tokens of a sequence: 64,256,…")->delimiter(',')->capture_default_str();
  command.add_option("--out", o.out, "folder for the results; one that has some goes on")->required();
  number("--hidden-size", s.hidden_size, "features of a position");
  number("--layers", s.layers, "layers");
  number("--heads", s.heads, "heads, where a mixer has them");
  number("--batch-size", s.batch_size, "sequences at a time");
  number("--vocab-size", s.vocab_size, "ids, when measuring");
  command.add_option("--set", s.changes, "MIXER.key=value, or model.key=value for the shell around all")
      ->take_all()
      ->expected(1);
  number("--runs", s.runs, "runs of a measurement, after one that does not count");
  number("--seconds", s.seconds, "a measurement stops repeating after so long");
  number("--decode-tokens", s.decode_tokens, "tokens written after each length");
  number("--train", s.train_steps, "steps to train each contender; 0 = none");
  command.add_option("--data", s.data, "text or .jsonl files to train on; none: the embedded corpus")->take_all();
  command.add_option("--task", s.tasks, "mqar:pairs=8,length=64: also train on this task; default: needle and mqar")
      ->take_all();
  number("--task-steps", s.task_steps, "steps on each task; 0 = as --train");
  number("--context", s.context, "tokens of a sequence, training on text");
  number("--train-batch-size", s.train_batch_size, "sequences of a step, training on text");
  number("--task-batch-size", s.task_batch_size, "samples of a step, training on a task");
  number("--lr", s.learning_rate, "peak learning rate of training");
  command.add_flag("--report-only", o.report_only, "write the report anew from the results in --out");
  add_common(command, s.common);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compare", "measure mixers on the same work, and report");
  add_flags(*command, *o);
  command->callback([o, command] {
    o->settings.common.apply(*command);
    run(*o, *command);
  });
}

}  // namespace sq::cli
