#!/usr/bin/env bash
# Prints a hash of everything that the built programs and images depend on. `make build` keeps it
# beside them, and tests compare it with the sources, so that no test runs against stale programs.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

find Cargo.toml Cargo.lock agent guest-image host-shim protocols tests/baseline tests/debian \
  -type f ! -path '*/tests/*' ! -name '*.md' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c -64
