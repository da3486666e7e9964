// tools/subquad.cpp: the command line. Exit status 0: done; 1: failed while running; 2: wrong usage or bad input.
#include "tools/cli.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <exception>

namespace {

/// Texts from the parser may span lines; an error here is one.
std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

int fail(int status, std::string_view text) {
  std::fflush(stdout);
  fmt::print(stderr, "subquad: error: {}\n", one_line(std::string(text)));
  return status;
}

int run(int argc, char** argv) {
  CLI::App app("subquad: language models that cost less than O(N²), in C++", "subquad");
  app.set_version_flag("--version", SUBQUAD_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  sq::cli::add_train(app);
  sq::cli::add_generate(app);
  sq::cli::add_eval(app);
  sq::cli::add_logits(app);
  sq::cli::add_convert(app);
  sq::cli::add_bench(app);
  sq::cli::add_compare(app);
  sq::cli::add_profile(app);
  sq::cli::add_summary(app);
  sq::cli::add_info(app);
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands([](CLI::App*) { return true; }))
    known.push_back(command->get_name());
  if (argc > 1 && argv[1][0] != '-' && std::find(known.begin(), known.end(), argv[1]) == known.end())
    return fail(2, fmt::format("'{}' is no subcommand; use one of {}", argv[1], fmt::join(known, ", ")));
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return fail(2, fmt::format("{}; see subquad --help", error.what()));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const sq::UsageError& error) {
    return fail(2, error.what());
  } catch (const std::exception& error) {
    return fail(1, error.what());
  }
}
