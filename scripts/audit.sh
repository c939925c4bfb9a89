#!/usr/bin/env bash
# Checks Cargo.lock against the RustSec advisory database: its public repository, or a copy in a folder or
# an archive, so that a machine without a network has the same check.
set -euo pipefail

URL=https://github.com/RustSec/advisory-db
WORK=target/audit

[ $# -le 1 ] || { echo "usage: $0 [FOLDER|ARCHIVE]" >&2; exit 2; }
rm -rf "$WORK"
mkdir -p "$WORK"

# cargo-deny takes only a Git repository with a URL, and the copy need not be one.
if [ -n "${1:-}" ]; then
  mkdir "$WORK/copy"
  if [ -d "$1" ]; then cp -R "$1/." "$WORK/copy"; else tar -C "$WORK/copy" -xf "$1"; fi
  crates=$(find "$WORK/copy" -maxdepth 2 -type d -name crates -print -quit)
  [ -n "$crates" ] || { echo "$1 is not an advisory database: it has no folder 'crates'" >&2; exit 1; }
  copy=$PWD/${crates%/crates}
  rm -rf "$copy/.git"
  git -C "$copy" init -q --initial-branch=main
  git -C "$copy" add --all --force
  git -C "$copy" -c user.name=audit -c user.email=audit@localhost commit -q -m copy
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$copy.insteadOf" GIT_CONFIG_VALUE_0=$URL
fi
cargo deny --locked check advisories
