#!/usr/bin/env bash
# Installs what is missing: `run` for building and starting sandboxes, `test` for the tests too, and
# `fuzz` for fuzzing alone.
set -euo pipefail

# QEMU before this one crashes under TCG when a vhost-user card is hot-plugged.
QEMU_MIN=10
SUITE=bookworm-backports

say() { printf 'setup: %s\n' "$*" >&2; }
have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1; }

apt_update() {
  [ -n "${UPDATED:-}" ] || apt-get -qq update
  UPDATED=1
}

apt_install() {
  say "installing $*"
  apt_update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" >/dev/null
}

# The suite from the mirror that the machine already uses, in a sources file of its own.
add_backports() {
  local list=/etc/apt/sources.list.d/patchbay-backports.sources mirror
  [ ! -e "$list" ] || return 0
  mirror=$(apt-cache policy | awk '/^ *[0-9]+ +https?:/ && $3 ~ /^bookworm\// {print $2; exit}')
  [ -n "$mirror" ] || { say "no Debian 12 mirror found: using the QEMU that there is"; return 1; }
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$SUITE" /usr/share/keyrings/debian-archive-keyring.gpg >"$list"
  UPDATED=
  apt_update
}

qemu_major() { qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p'; }

install_qemu() {
  if have qemu-system-x86_64 && [ "$(qemu_major)" -ge "$QEMU_MIN" ]; then return; fi
  apt_update
  if add_backports; then apt_install -t "$SUITE" qemu-system-x86; else apt_install qemu-system-x86; fi
}

# One arm machine is looked at without a guest; of the same version, with which it shares files.
install_qemu_arm() {
  if add_backports; then apt_install -t "$SUITE" qemu-system-arm; else apt_install qemu-system-arm; fi
}

# Tools only have to work, not to be fast: without this their build takes twice as long.
cargo_install() {
  say "building $1"
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install --quiet --locked "$@"
}

if [ "${1:-run}" = fuzz ]; then
  if ! cargo +nightly --version >/dev/null 2>&1; then
    say "fuzzing needs a nightly toolchain (rustup toolchain install nightly)"
    exit 1
  fi
  have g++ || have clang++ || apt_install g++
  have cargo-fuzz || cargo_install cargo-fuzz
  exit 0
fi

missing=()
for pair in ip:iproute2 ping:iputils-ping depmod:kmod; do
  have "${pair%%:*}" || missing+=("${pair#*:}")
done
[ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
# The image's packages are looked up in apt's lists.
compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt_update
install_qemu
have vhost-device-vsock || [ -e /dev/vhost-vsock ] || cargo_install vhost-device-vsock@0.3.0

if [ "${1:-run}" = test ]; then
  have qemu-system-aarch64 || install_qemu_arm
  have shellcheck || apt_install shellcheck
  have ethtool || apt_install ethtool
  have dpdk-testpmd || apt_install dpdk-dev
  have cargo-nextest || cargo_install cargo-nextest
  have cargo-deny || cargo_install cargo-deny
fi
