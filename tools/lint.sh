#!/usr/bin/env bash
# tools/lint.sh [--tidy]: checks formatting (clang-format) and that rooms include only downwards; with --tidy also runs
# clang-tidy over the sources of the library, which takes long.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

packages=(clang-format)
[ "${1:-}" = --tidy ] && packages+=(clang-tidy)
install_packages "${packages[@]}"

say "formatting"
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format --dry-run --Werror
say "rooms"
tests/include_order.sh .
if [ "${1:-}" = --tidy ]; then
  install_packages "${BUILD_PACKAGES[@]}"
  build build-tidy -Dtests=false
  say "clang-tidy"
  git ls-files 'tensor/*.cpp' 'autograd/*.cpp' 'ops/*.cpp' 'nn/*.cpp' 'models/*.cpp' 'train/*.cpp' 'tools/*.cpp' |
    xargs -P "$(nproc)" -n 4 clang-tidy -p build-tidy --quiet
fi
say "clean"
