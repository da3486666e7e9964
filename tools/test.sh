#!/usr/bin/env bash
# tools/test.sh: installs what is missing, builds, and runs every test. The last line is "N passed, N failed"; the exit
# status is 0 only if nothing failed. --sanitize also builds and runs everything under AddressSanitizer and UBSan.
# CUDA kernels run on the GPU where there is one and nvcc to compile them, else on an emulated one; where nvcc is there,
# they are also compiled with it.
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

cuda=emulate
have_nvcc=false
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
  have_nvcc=true
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then cuda=enabled; fi
fi
build build -Dwerror=true -Dcuda=$cuda
run_tests build
if $have_nvcc && [ $cuda = emulate ]; then
  say "compiling the CUDA kernels for sm_90"
  if JOBS=$(nproc) tools/cuda_check.sh >&2; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
if $sanitize; then
  build build-sanitize -Dcuda=emulate -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
  run_tests build-sanitize
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
