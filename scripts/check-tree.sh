#!/usr/bin/env bash
# Checks shell scripts, the length of Rust files, the numbers of decisions, and the modules of the hooks.
set -euo pipefail

MAX_LINES=400

git ls-files '*.sh' .ci/run guest-image/hooks/agent-control guest-image/hooks/initramfs-tools | xargs shellcheck

long=$(git ls-files '*.rs' | xargs wc -l | awk -v max=$MAX_LINES '$2 != "total" && $1 > max')
if [ -n "$long" ]; then
  printf 'files of more than %d lines:\n%s\n' "$MAX_LINES" "$long" >&2
  exit 1
fi

repeated=$(git ls-files 'docs/decisions/*.md' | sed 's:.*/\([0-9]*\)-.*:\1:' | sort | uniq -d)
if [ -n "$repeated" ]; then
  printf 'numbers of several decisions: %s\n' "$repeated" >&2
  exit 1
fi

# The modules that the guest's init and the agent load.
needed=$(sed -n '/^pub const BOOT_MODULES/,/;$/p' guest-image/init/src/lib.rs
  sed -n '/^const ON_DEMAND/,/;$/p' agent/netcfg/src/modules.rs)
if ! diff <(grep -o '"[a-z_]*"' <<<"$needed" | tr -d '"') guest-image/hooks/modules >&2; then
  printf 'guest-image/hooks/modules differs from BOOT_MODULES and ON_DEMAND\n' >&2
  exit 1
fi
