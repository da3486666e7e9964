#!/usr/bin/env bash
# mqar_table.sh OUT [PAIRS...]: how many of P facts two layers of each mixer recall (multi-query associative recall, see
# docs/comparing.md), as a table for docs/benchmarks.md. Runs are kept in OUT; a second call goes on where the first one
# ended. Half an hour on two cores for 8, 16, 32 and 64 pairs. WIDTH and STEPS change the models and the training,
# SUBQUAD names the program.
set -euo pipefail
out=${1:?usage: tools/mqar_table.sh OUT [PAIRS...]}
shift
pairs=("$@")
[ ${#pairs[@]} -gt 0 ] || pairs=(8 16 32 64)
subquad=${SUBQUAD:-$(dirname "$0")/../build/tools/subquad}
width=${WIDTH:-64} steps=${STEPS:-1600}
mkdir -p "$out"

# A key and its value are neighbours: one layer has to join them, the next one finds the pair. linear and delta_net do
# the first with their short convolutions; all others get a first layer that sees one position back.
before='{"type": "sliding_window", "num_heads": 1, "window": 1}'
mixers() {
  cat <<TABLE
dense|[$before, {"type": "dense", "num_heads": 1, "num_kv_heads": 1}]
hopfield, temperature 0.5|[$before, {"type": "hopfield", "num_heads": 1, "temperature": 0.5}]
hopfield, 1 iteration|[$before, {"type": "hopfield", "num_heads": 1, "iterations": 1}]
halo_s, window 64|[$before, {"type": "halo_s", "num_heads": 1, "num_kv_heads": 1, "num_globals": 0, "local_window": 64}]
sliding_window, window 64|[$before, {"type": "sliding_window", "num_heads": 1, "window": 64}]
bsbr, chunk 64|[$before, {"type": "bsbr", "num_heads": 1, "chunk_size": 64}]
gau, chunk 64|[$before, {"type": "gau", "expansion_factor": 1, "chunk_size": 64}]
linear|{"type": "linear", "num_heads": 1, "conv_size": 4}
delta_net|{"type": "delta_net", "num_heads": 1, "conv_size": 4}
linear and dense|[{"type": "linear", "num_heads": 1, "conv_size": 4}, {"type": "dense", "num_heads": 1, "num_kv_heads": 1}]
delta_net and dense|[{"type": "delta_net", "num_heads": 1, "conv_size": 4}, {"type": "dense", "num_heads": 1, "num_kv_heads": 1}]
TABLE
}

# accuracy NAME MIXER PAIRS: trains unless that is done, prints the share of right answers at the end.
accuracy() {
  local length=$((4 * $3 > 64 ? 4 * $3 : 64)) run="$out/$1-$3"
  run=${run// /_}
  if [ ! -e "$run/model.safetensors" ]; then
    cat >"$out/config.json" <<CONFIG
{"model": {"vocab_size": 0, "hidden_size": $width, "num_layers": 2, "max_seq_len": $length, "mixer": $2,
           "feed_forward": {"type": "gelu", "width": $((2 * width))}, "positions": {"type": "none"}},
 "training": {"batch_size": 32, "context": $length, "learning_rate": 0.003, "warmup_steps": 100,
              "weight_decay": 0.1, "eval_batches": 8}}
CONFIG
    "$subquad" train --config "$out/config.json" --task mqar --task-set vocab_size=256 --task-set "pairs=$3" \
      --task-set fewest_pairs=4 --task-set random_filler=false --steps "$steps" --eval-every "$steps" \
      --out "$run" --force --quiet >"$out/log" 2>&1 || { cat "$out/log" >&2; return 1; }
  fi
  grep -o '"val_accuracy":[0-9.e-]*' "$run/metrics.jsonl" | tail -1 | cut -d: -f2
}

printf '| mixer, width %s |' "$width"
printf ' %s pairs |' "${pairs[@]}"
printf '\n|---|'
printf -- '---|%.0s' "${pairs[@]}"
printf '\n'
while IFS='|' read -r name mixer; do
  printf '| %s |' "$name"
  for count in "${pairs[@]}"; do
    value=$(accuracy "$name" "$mixer" "$count")
    printf ' %.3f |' "$value"
  done
  printf '\n'
done < <(mixers)
