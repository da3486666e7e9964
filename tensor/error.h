// tensor/error.h: the one exception type of the library, and the one way to throw it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sq {

/// What went wrong, in one sentence: the operation, what was given, what is needed.
/// `UsageError` marks input that the user can correct (flags, files, configurations): the command line turns it
/// into exit code 2, every other `Error` into exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error("<where>: <text>") unless `condition` holds. The arguments are formatted only on failure.
template <class... Args>
void require(bool condition, std::string_view where, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    throw Error(fmt::format("{}: {}", where, fmt::format(text, std::forward<Args>(args)...)));
}

/// The same for input that a user typed or a file held.
template <class... Args>
void require_input(bool condition, std::string_view where, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    throw UsageError(fmt::format("{}: {}", where, fmt::format(text, std::forward<Args>(args)...)));
}

}  // namespace sq
