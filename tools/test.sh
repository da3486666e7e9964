#!/usr/bin/env bash
# tools/test.sh: installs what is missing, builds, and runs every test. The last line is "N passed, N failed"; the exit
# status is 0 only if nothing failed. --sanitize also builds and runs everything under AddressSanitizer and UBSan.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

sanitize=false
for argument in "$@"; do
  case $argument in
    --sanitize) sanitize=true ;;
    *)
      echo "usage: tools/test.sh [--sanitize]" >&2
      exit 2
      ;;
  esac
done

install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"

passed=0
failed=0
# run_tests FOLDER: adds the test cases that ran in FOLDER's tests to the two counters.
run_tests() {
  local folder=$1 log=$1/meson-logs/testlog.txt status=0
  say "testing $folder"
  meson test -C "$folder" --no-rebuild --print-errorlogs >&2 || status=$?
  # Each binary ends with a doctest line "test cases: 8 | 7 passed | 1 failed | …"; other tests count as one.
  local counts
  counts=$(awk '/\[doctest\] test cases:/ { gsub(/[^0-9]+/, " "); p += $2; f += $3 } END { print p + 0, f + 0 }' "$log")
  local now_failed=${counts#* }
  passed=$((passed + ${counts% *}))
  if [ "$status" -ne 0 ] && [ "$now_failed" -eq 0 ]; then now_failed=1; fi # a crash or a time-out leaves no line
  failed=$((failed + now_failed))
}

build build -Dwerror=true
run_tests build
if $sanitize; then
  build build-sanitize -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
  run_tests build-sanitize
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
