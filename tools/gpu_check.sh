#!/usr/bin/env bash
# tools/gpu_check.sh [--peer FILE]: on a machine with an NVIDIA GPU and the CUDA Toolkit: builds with CUDA, runs every
# test on the CPU and on the GPU, measures, and writes gpu-report.md. The exit status is 0 only if no test failed.
# --peer names a Python program that takes `train|attention|decode …` and prints the same JSON lines for PyTorch; without
# it the report has our figures alone.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

peer=
if [ "${1:-}" = --peer ] && [ $# -eq 2 ]; then
  peer=$2
elif [ $# -gt 0 ]; then
  echo "usage: tools/gpu_check.sh [--peer FILE]" >&2
  exit 2
fi

install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
folder=build-gpu
report="gpu-report.md"
build "$folder" -Dcuda=enabled -Dwerror=true
tool=$folder/tools/subquad
log=$(mktemp)
trap 'rm -f "$log"' EXIT

gpu=$("$tool" info | sed -n 's/^gpu *//p')
case $gpu in
  none:*) echo "gpu_check: $gpu" >&2; exit 1 ;;
esac

say "testing on $gpu"
failed=0
meson test -C "$folder" --no-rebuild --print-errorlogs >&2 || failed=1
counts=$(awk '/\[doctest\] test cases:/ { gsub(/[^0-9]+/, " "); p += $2; f += $3 } END { print p + 0 " passed, " f + 0 " failed" }' \
  "$folder/meson-logs/testlog.txt")

# field KEY: that number of the last JSON line in the log, or a dash.
field() { tail -n 1 "$log" | sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" | awk '{ printf "%.4g", $1 } END { if (!NR) printf "–" }'; }
# ours WORK ARGUMENT...: runs a benchmark on the GPU; its JSON lines are in the log.
ours() { say "bench $*"; "$tool" bench "$@" --device cuda --json >"$log" 2>>"$folder/gpu_check.log" || : >"$log"; }
# theirs ARGUMENT...: the same for the peer.
theirs() {
  : >"$log"
  [ -z "$peer" ] || python3 "$peer" "$@" --device cuda >"$log" 2>>"$folder/gpu_check.log" || : >"$log"
}

{
  echo "# GPU report"
  echo
  echo "$gpu; $(nvcc --version | sed -n 's/.*release \([^,]*\),.*/CUDA \1/p'); $(date -u +%Y-%m-%d)"
  echo
  echo "Tests: $counts."
  echo
  echo "## Matrix products, [8192,8192] x [8192,8192]"
  echo
  echo "| dtype | TFLOP/s |"
  echo "|---|---|"
  for dtype in f32 bf16 f16; do
    ours gemm --m 8192 --n 8192 --k 8192 --dtype "$dtype"
    echo "| $dtype | $(field gflops | awk '{ print $1 / 1000 }') |"
  done
  echo
  echo "## Training, bf16"
  echo
  echo "| preset | batch x context | ms a step | tokens/s | PyTorch tokens/s |"
  echo "|---|---|---|---|---|"
  for sizes in "gpt2-124m 8 1024 12 768 50257" "halo-s-quickstart 8 1024 6 512 256"; do
    read -r preset batch context layers width vocabulary <<<"$sizes"
    ours train --preset "$preset" --batch-size "$batch" --context "$context" --dtype bf16
    row="| $preset | $batch x $context | $(field ms) | $(field tokens_per_s) |"
    theirs train --layers "$layers" --width "$width" --heads $((width / 64)) --vocab "$vocabulary" --batch "$batch" \
      --context "$context" --dtype bf16
    echo "$row $(field tokens_per_s) |"
  done
  echo
  echo "## Attention, forward and backward, bf16, 16 heads x 64, ms"
  echo
  echo "| N | halo_s | dense | PyTorch dense |"
  echo "|---|---|---|---|"
  for n in 4096 16384 65536; do
    ours attention --mixer halo_s --n "$n" --heads 16 --dim 64 --dtype bf16
    row="| $n | $(field ms) |"
    ours attention --mixer dense --n "$n" --heads 16 --dim 64 --dtype bf16 --runs 3
    row="$row $(field ms) |"
    theirs attention --n "$n" --heads 16 --dim 64 --dtype bf16 --causal
    echo "$row $(field ms) |"
  done
  echo
  echo "## Longest context of halo-s-quickstart that trains in 16 GB, batch 1, bf16"
  echo
  longest=none
  for ((context = 1024; context <= 4194304; context *= 2)); do
    ours train --preset halo-s-quickstart --batch-size 1 --context "$context" --set "max_seq_len=$((context + 2))" \
      --gpu-memory 16GB --dtype bf16 --runs 1 --warmup 1
    [ -s "$log" ] || break
    longest=$context
  done
  echo "$longest tokens"
  echo
  echo "## Decoding, prompt 16, 200 tokens"
  echo
  echo "| preset | batch | dtype | tokens/s |"
  echo "|---|---|---|---|"
  for preset in dense-15m gpt2-124m; do
    for batch in 1 64; do
      ours decode --preset "$preset" --prompt 16 --tokens 200 --batch-size "$batch" --dtype bf16
      echo "| $preset | $batch | bf16 | $(field tokens_per_s) |"
    done
  done
} >"$report"

say "written: $report"
exit $failed
