#!/bin/sh
# tools/install_headers.sh INCLUDEDIR: run by `meson install`; copies every room's headers to INCLUDEDIR/subquad.
set -eu
target="${MESON_INSTALL_DESTDIR_PREFIX}/$1/subquad"
cd "$MESON_SOURCE_ROOT"
find tensor autograd ops nn models train -name '*.h' ! -name '*-inl.h' | while read -r header; do
  mkdir -p "$target/$(dirname "$header")"
  cp "$header" "$target/$header"
done
