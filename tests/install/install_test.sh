#!/bin/sh
# tests/install/install_test.sh BUILD_FOLDER SOURCE_ROOT PREFIX: the library as another project sees it: installed, found by
# pkg-config, and used by the program that docs/embedding.md shows.
set -eu
build=$1
source=$2
prefix=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR="$work/root" meson install -C "$build" --no-rebuild --quiet
pc=$(find "$work/root" -name subquad.pc)
[ -n "$pc" ] || { echo "no subquad.pc was installed"; exit 1; }

flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --define-variable=prefix="$work/root$prefix" --cflags --libs subquad)
# shellcheck disable=SC2086: the flags are several words
${CXX:-g++} -std=c++20 -Wall -Wextra -Werror "$source/tests/install/embed.cpp" $flags -o "$work/embed"

"$work/root$prefix/bin/subquad" train --preset halo-s-tiny --set hidden_size=32 --set num_layers=1 --steps 2 \
  --batch-size 2 --context 32 --quiet --out "$work/model"
"$work/embed" "$work/model" >"$work/out"
grep -q '^\[2.0000, 4.0000, 6.0000\] f32\[3\]@cpu$' "$work/out"
grep -q '^The tensor' "$work/out"
if "$work/embed" /nowhere 2>"$work/err"; then
  echo "a missing model was accepted"
  exit 1
fi
grep -q '^error: .*/nowhere' "$work/err"

# The document shows this very program: its lines between ```cpp and ```.
sed -n '/^```cpp$/,/^```$/p' "$source/docs/embedding.md" | sed '1d;$d' | diff - "$source/tests/install/embed.cpp"
