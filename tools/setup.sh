# tools/setup.sh: sourced by demo.sh and test.sh. Installs what a bare Debian 12 lacks and configures a build folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }

# install_packages NAME...: installs those of the Debian packages that are missing, as root or through sudo.
install_packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=(sudo)
    else
      say "these Debian packages are needed and cannot be installed without root or sudo:"
      printf '   apt-get install %s\n' "${missing[*]}" >&2
      exit 1
    fi
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || {
    say "installing failed; this list is needed: $*"
    exit 1
  }
}

BUILD_PACKAGES=(g++ meson ninja-build pkg-config libopenblas-dev libfmt-dev libhwy-dev nlohmann-json3-dev libpcre2-dev
  libcli11-dev)
TEST_PACKAGES=(doctest-dev libboost-context-dev)

# build FOLDER [MESON OPTION...]: configures (once) and compiles. CCACHE, if installed, is used by Meson itself.
build() {
  local folder=$1
  shift
  if [ -f "$folder/build.ninja" ]; then
    meson configure "$folder" "$@" >/dev/null
  else
    meson setup "$folder" "$@" >"/tmp/subquad_setup_$$.log" 2>&1 || {
      cat "/tmp/subquad_setup_$$.log" >&2
      exit 1
    }
    rm -f "/tmp/subquad_setup_$$.log"
  fi
  say "building $folder"
  ninja -C "$folder" --quiet >&2
}
