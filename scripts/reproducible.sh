#!/usr/bin/env bash
# Builds the packages of the last commit in two folders with names of different length, and compares them.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for folder in "$work/first" "$work/second/longer-name"; do
  git clone --quiet . "$folder"
  make -C "$folder" --no-print-directory packages
done
cd "$work"
if ! diff first/target/packages/SHA256SUMS second/longer-name/target/packages/SHA256SUMS; then
  echo "reproducible: the files above differ between two builds of the same commit" >&2
  exit 1
fi
echo "reproducible: $(wc -l <first/target/packages/SHA256SUMS) files have the same bytes in two builds"
