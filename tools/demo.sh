#!/usr/bin/env bash
# tools/demo.sh [FOLDER]: installs what is missing, builds, trains a small HALO-S model on the corpus inside the program
# for about a minute, and writes text with it before and after.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

out=${1:-demo-model}
if [ -e "$out" ]; then
  say "'$out' exists already; give another folder: tools/demo.sh FOLDER"
  exit 2
fi

install_packages "${BUILD_PACKAGES[@]}"
build build-demo -Dtests=false -Dcuda=disabled
subquad=build-demo/tools/subquad

prompt='## '
sample() { "$subquad" generate --model "$1" --prompt "$prompt" --max-new-tokens 200 --temperature 0.8 --seed 1; }

untrained=$(mktemp -d)
trap 'rm -rf "$untrained"' EXIT
"$subquad" train --preset halo-s-tiny --out "$untrained/model" --steps 1 --quiet
say "what the untrained model writes after '$prompt':"
sample "$untrained/model"

say "training halo-s-tiny on the project's own documents and sources"
"$subquad" train --preset halo-s-tiny --steps 700 --out "$out"
say "what the trained model writes after '$prompt':"
sample "$out"

cat >&2 <<TEXT
== the model is in $out; try next:
   $subquad generate --model $out --prompt '# The tensor' --max-new-tokens 300
   $subquad summary --preset halo-s-tiny
   $subquad train --preset halo-s-tiny --data your.txt --out your-model
TEXT
