// tests/train/error_text.h: what an action that must fail says.
#pragma once

#include "tensor/error.h"

#include <doctest/doctest.h>

#include <string>

namespace sq::test {

/// The text of the `Expected` that `action` throws. Fails the test when it throws nothing.
template <class Expected, class Action>
std::string error_text(Action&& action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  }
  FAIL_CHECK("nothing was thrown");
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace sq::test
