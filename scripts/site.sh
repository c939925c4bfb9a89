#!/usr/bin/env bash
# Makes a site of the documents in target/site, with the chapters of docs/README.md.
# mdBook reads one folder, and documents link to files of the whole repository. So its folder is a copy of the documents and of the
# files that they link to, under the same paths. Manual pages are converted by mandoc.
set -euo pipefail
cd "$(dirname "$0")/.."
book=target/book

# Prints the description of a manual page: the text behind the dash in its section NAME.
summary() {
  sed -n '/^\.SH NAME/,/^\.SH [^N]/{/^\.SH/!p}' "$1" | tr '\n' ' ' |
    sed -e 's/^.* \\- //' -e 's/\\-/-/g' -e "s/\\\\(aq/'/g" -e 's/ $//'
}

manual_pages() {
  local page name
  mkdir -p "$book/docs/man"
  {
    printf '# Manual pages\n\n'
    for page in docs/man/*.[18]; do
      name=$(basename "$page")
      mandoc -T html "$page" >"$book/$page.html"
      printf -- '- [%s](%s.html): %s.\n' "$name" "$name" "$(summary "$page")"
    done
  } >"$book/docs/man/README.md"
}

# Prints the files that a document links to, other than documents.
linked_files() {
  local target
  grep -oP '\]\(\K[^():#\s]+(?=\))' "$1" | grep -v '\.md$' | while read -r target; do
    target=$(realpath --relative-to=. "$(dirname "$1")/$target")
    [ ! -f "$target" ] || echo "$target"
  done
}

rm -rf "$book" target/site
mkdir -p "$book"
git ls-files '*.md' | while read -r document; do
  { linked_files "$document" || true; echo "$document"; } | xargs cp --parents -t "$book"
done
manual_pages
# Pages have no lists of folders.
sed -i 's,](man),](man/README.md),' "$book/docs/README.md"
{
  printf '# Summary\n\n[patchbay](README.md)\n[Documentation](docs/README.md)\n'
  sed -n -e 's/^## \(.*\)/\n# \1\n/p' -e 's,^- \[\([0-9]*\)\](\(.*\)): \(.*\)\.$,- [\1: \3](docs/\2),p;t' \
    -e 's,^- \(\[.*\]\)(\(.*\)): .*,- \1(docs/\2),p' "$book/docs/README.md" | sed 's,(docs/\.\./,(,'
} >"$book/SUMMARY.md"

mdbook build
scripts/check-links.py target/site
