#!/bin/sh
# Makes docs/comparing.svg anew: every mixer on the same work, measured and trained on this machine.
#   tools/compare_report.sh [BUILD_FOLDER [RESULTS_FOLDER]]
# Five minutes or so on two cores. What is finished in RESULTS_FOLDER is not measured again; report.html, results.csv and
# results.jsonl stay there. Other processes make the times wrong.
set -e
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-$build/comparison}
"$build/tools/subquad" compare --mixers dense,hopfield,halo_s,sliding_window,bsbr,gau,linear,delta_net,delta_net+dense \
  --hidden-size 64 --layers 2 --heads 2 --n 256,1024,4096,16384 --runs 5 --seconds 4 \
  --set linear.conv_size=4 --set delta_net.conv_size=4 --train 300 --context 128 --train-batch-size 4 \
  --task mqar:vocab_size=64,pairs=16,fewest_pairs=2,random_filler=false,length=64 \
  --task selective_copy:tokens=8,length=64 --task-steps 1000 --task-batch-size 32 --lr 0.003 --out "$out"
cp "$out/report.svg" docs/comparing.svg
echo "docs/comparing.svg is new; the whole report is $out/report.html"
