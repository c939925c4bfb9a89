#!/usr/bin/env bash
# Checks shell scripts, the length of Rust files, and the numbers of decisions.
set -euo pipefail

MAX_LINES=400

git ls-files '*.sh' .ci/run | xargs shellcheck

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
