#!/usr/bin/env bash
# tools/fuzz.sh [SECONDS]: builds the fuzzers (tests/fuzz) with Clang, ASan and UBSan and runs each for SECONDS (60).
# Inputs that gave new paths stay in build-fuzz/found/TARGET and are used again; an input that fails is named and kept.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

seconds=${1:-60}
install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" clang
[ -f build-fuzz/build.ninja ] || export CXX="${CXX:-clang++}"
build build-fuzz -Dfuzz=true -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined \
  -Db_lundef=false -Dtools=false
build-fuzz/tests/fuzz/fuzz_seeds build-fuzz/seeds
for target in config jsonl safetensors tokenizer; do
  say "fuzzing $target"
  mkdir -p "build-fuzz/found/$target"
  "build-fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -max_len=20000 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/fails-on-$target-" "build-fuzz/found/$target" "build-fuzz/seeds/$target"
done
