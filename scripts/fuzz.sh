#!/usr/bin/env bash
# Runs fuzz targets one after another and prints a summary; fails if one finds something. New inputs
# are kept in target/fuzz/corpus, findings in tests/fuzz/artifacts.
#   scripts/fuzz.sh [TARGET...]     FUZZ_SECONDS=60 for each
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS_EACH=${FUZZ_SECONDS:-60}
LOGS=target/fuzz/logs
mkdir -p "$LOGS"

# With LTO of the release profile, the linker lacks symbols of the coverage (__sancov_gen_).
export CARGO_PROFILE_RELEASE_LTO=off

# Some targets write a file per input.
scratch=$(mktemp -d /dev/shm/patchbay-fuzz.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch

# Longer inputs cost time without reaching more code.
max_len() {
  case $1 in
    small_texts | conntrack_words | ipvsadm_words) echo 512 ;;
    guest_image) echo 8192 ;;
    *) echo 4096 ;;
  esac
}

run() {
  local target=$1 new=target/fuzz/corpus/$1 options
  options=("-max_total_time=$SECONDS_EACH" "-max_len=$(max_len "$target")" -rss_limit_mb=2048
    -timeout=10 -print_final_stats=1 "-artifact_prefix=tests/fuzz/artifacts/$target/")
  [ ! -e "tests/fuzz/dict/$target.dict" ] || options+=("-dict=tests/fuzz/dict/$target.dict")
  mkdir -p "$new" "tests/fuzz/artifacts/$target"
  FUZZ_TARGET=$target cargo +nightly fuzz run --fuzz-dir tests/fuzz --features libfuzzer any "$new" "tests/fuzz/corpus/$target" -- \
    "${options[@]}" >"$LOGS/$target.log" 2>&1
}

stat() { sed -n "s/^stat::$2: *//p" "$LOGS/$1.log" | tail -1; }

if [ $# -eq 0 ]; then
  mapfile -t targets < <(ls tests/fuzz/corpus)
else
  targets=("$@")
fi
cargo +nightly fuzz build --fuzz-dir tests/fuzz --features libfuzzer

bad=0
table=()
for target in "${targets[@]}"; do
  printf 'fuzz: %s for %s s\n' "$target" "$SECONDS_EACH" >&2
  result=ok
  run "$target" || { result="FOUND: see $LOGS/$target.log"; bad=1; }
  table+=("$(printf '%-18s %12s %8s  %s' "$target" "$(stat "$target" number_of_executed_units)" \
    "$(stat "$target" average_exec_per_sec)" "$result")")
done
printf '%-18s %12s %8s  %s\n' target executions 'per s' result
printf '%s\n' "${table[@]}"
exit "$bad"
