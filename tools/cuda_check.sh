#!/usr/bin/env bash
# tools/cuda_check.sh [FILE.cu...]: compiles kernel files (all of them, unless named) with nvcc for sm_90, warnings being
# errors, and prints for each kernel its registers, shared memory and spills. Needs the CUDA Toolkit, not a GPU.
# Exit status 1 when a file does not compile. ARCH=80 for another compute capability, JOBS=N for N files at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "nvcc was not found; install the CUDA Toolkit" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(find tensor ops -name '*.cu' | sort)

# compile FILE: the report goes to standard output in one piece.
compile() {
  local file=$1 log
  log=$work/$(tr '/.' '__' <<<"$file")
  if ! "$nvcc" -std=c++20 --expt-relaxed-constexpr -O3 -DSUBQUAD_CUDA -DFMT_USE_CONSTEXPR=1 -I. \
    -Xcompiler=-Wall,-Wextra,-Werror -Werror=all-warnings -arch="sm_${ARCH:-90}" -Xptxas=-v \
    -c "$file" -o "$log.o" >"$log" 2>&1; then
    printf '%s\nFAILED %s\n' "$(cat "$log")" "$file"
    return 1
  fi
  # ptxas says "Compiling entry function 'NAME'", then a line with spills, then "Used N registers, …, N bytes smem".
  awk -v file="$file" '
    /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
    /bytes spill stores/ { for (i = 1; i <= NF; i++) if ($i == "bytes" && $(i+1) == "spill" && $(i+2) ~ /stores/) spill = $(i-1) }
    /Used [0-9]+ registers/ {
      smem = 0
      for (i = 2; i <= NF; i++) { if ($i ~ /^registers/) registers = $(i-1); if ($i == "bytes" && $(i+1) ~ /smem/) smem = $(i-1) }
      printf "%s\t%s\t%d registers, %d bytes shared%s\n", file, name, registers, smem, (spill > 0 ? ", SPILLS " spill " bytes" : "")
    }' "$log" | c++filt | sort
}
export -f compile
export work nvcc ARCH
status=0
printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-1}" -I{} bash -c 'compile {}' >"$work/report" || status=1
cat "$work/report"
printf 'cuda_check: %d files, %d kernels, %d with spills\n' "${#files[@]}" \
  "$(grep -c ' registers, ' "$work/report" || true)" "$(grep -c 'SPILLS' "$work/report" || true)"
exit $status
