#!/usr/bin/env bash
# Finds wording that CONTRIBUTING's style page excludes, in the comments of Rust and protobuf files
# and in documents. A line that has to quote such a word goes into scripts/allowed-words.txt.
set -euo pipefail

patterns=(
  '\b(tells?|told|telling)\b'
  '\b(said|says)\b'
  '\bstands?\b'
  '\bshall\b'
  '\b([Ww]ho|[Ww]hoever) (has|is|takes|asks|needs|may|looks|only|does|finds|reads|waits|holds)\b'
  '(?<![Tt]here )\b(is|are) no [a-z]+\b'
  '\bof (ours|its own|his|others)\b'
  '\bpassed over\b'
  '\b(leads?|go(es)?) back\b|\bby then\b'
  '\b(aright|wholly|beneath|alike|whither|hurr(y|ied|ies))\b'
)
any=$(IFS='|' && printf '%s' "${patterns[*]}")
# A sentence that opens with "What" and isn't a question.
what='What\b(?!.*\?)'

found=$(
  {
    git ls-files '*.rs' '*.proto' | xargs grep -nPH "(^|\s)//[/!]? *($what|.*($any))" || true
    git ls-files '*.md' | xargs grep -nPH "^[#*>| -]*$what|$any" || true
  } | grep -vFf scripts/allowed-words.txt || true
)
if [ -n "$found" ]; then
  printf 'wording to avoid (see CONTRIBUTING):\n%s\n' "$found" >&2
  exit 1
fi
