#!/bin/sh
# tests/include_order.sh SOURCE_ROOT: a room may include from itself and from the rooms before it, never upward.
cd "$1" || exit 2
bad=$(find tensor autograd ops nn models train tools -name '*.h' -o -name '*.cpp' -o -name '*.cu' | xargs awk '
  BEGIN { n = split("tensor autograd ops nn models train tools", rooms, " "); for (i = 1; i <= n; i++) rank[rooms[i]] = i }
  match($0, /^[ \t]*#[ \t]*include[ \t]*"[a-z]+\//) {
    target = $0; sub(/^[^"]*"/, "", target); sub(/\/.*/, "", target)
    own = FILENAME; sub(/\/.*/, "", own)
    if (target == "tests" || ((target in rank) && rank[target] > rank[own])) print FILENAME ":" FNR ": " $0
  }')
if [ -n "$bad" ]; then
  echo "a room includes one above it:"
  echo "$bad"
  exit 1
fi
