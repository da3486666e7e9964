// tests/tools/run_tool.h: runs the command-line tool as a user would.
#pragma once

#include "tensor/file.h"
#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <string>
#include <sys/wait.h>

namespace sq::test {

struct ToolResult {
  int status = -1;
  std::string out, err;

  /// The only line of stdout as JSON.
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// `arguments` as in a shell.
inline ToolResult run_tool(const std::string& arguments) {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string(), err = (folder.path() / "err").string();
  const int code =
      std::system(fmt::format("'{}' {} >'{}' 2>'{}' </dev/null", SUBQUAD_TOOL, arguments, out, err).c_str());
  return {WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code), read_file(out), read_file(err)};
}

/// Bad usage: exit status 2, nothing on stdout, one line on stderr that begins as it should and holds `text`.
inline void check_refused(const std::string& arguments, const std::string& text) {
  CAPTURE(arguments);
  const ToolResult result = run_tool(arguments);
  CAPTURE(result.err);
  CHECK(result.status == 2);
  CHECK(result.out.empty());
  CHECK(result.err.starts_with("subquad: error: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find(text) != std::string::npos);
}

}  // namespace sq::test
