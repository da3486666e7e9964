#!/bin/sh
# Makes docs/comparing.svg anew: every mixer on the same work, measured and trained on this machine.
#   tools/compare_report.sh [BUILD_FOLDER [RESULTS_FOLDER]]
# Ten minutes or so on two cores. What is finished in RESULTS_FOLDER is not measured again; report.html, results.csv and
# results.jsonl stay there. Other processes make the times wrong.
set -e
cd "$(dirname "$0")/.."
build=${1:-build}
out=${2:-$build/comparison}
"$build/tools/subquad" compare --hidden-size 64 --layers 2 --heads 2 --n 64,128,256,512,1024,2048,4096 --runs 3 \
  --seconds 2 --set linear.conv_size=4 --set delta_net.conv_size=4 --train 300 --context 128 --train-batch-size 4 --task needle:length=64 \
  --task mqar:vocab_size=32,pairs=4,length=32 --task selective_copy:tokens=4,length=32 --task-steps 1000 \
  --task-batch-size 32 --lr 0.004 --out "$out"
cp "$out/report.svg" docs/comparing.svg
echo "docs/comparing.svg is new; the whole report is $out/report.html"
