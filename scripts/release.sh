#!/usr/bin/env bash
# Prepares a release in this checkout; the push stays with the maintainer.
#   scripts/release.sh VERSION
# Writes the version, dates the changelog, commits, runs the whole tests, makes packages, bill of materials and notes
# in target/packages, and tags the commit. A step that fails leaves the commit without a tag and names the command that restores the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?usage: $0 VERSION}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "VERSION=$version is not MAJOR.MINOR.PATCH" >&2; exit 2; }

fail() { echo "release: $*" >&2; exit 1; }

current=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -z "$(git status --porcelain)" ] || fail "the checkout has changes that are not committed"
! git rev-parse -q --verify "v$version" >/dev/null || fail "the tag v$version exists"
latest=$(printf '%s\n' "$current" "$version" | sort -V | tail -1)
if [ "$latest" != "$version" ] || [ "$current" = "$version" ]; then fail "$version is not later than $current"; fi
notes=$(sed '1,/^## Unreleased$/d;/^## /,$d' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || fail "CHANGELOG.md has nothing below Unreleased"

before=$(git rev-parse HEAD)
trap 'echo "release: not finished; restore the checkout by: git reset --hard $before" >&2' ERR

sed -i "/^\[workspace.package\]/,/^\[/s/^version = .*/version = \"$version\"/" Cargo.toml
sed -i "s/^## Unreleased$/## Unreleased\n\n## $version - $(date -u +%F)/" CHANGELOG.md
sed -i "s/newTag: .*/newTag: $version/" deploy/kubernetes/install/kustomization.yaml
sed -i "s/patchbay:$current/patchbay:$version/" deploy/Containerfile docs/kubernetes.md
sed -i "1s/\"patchbay $current\"/\"patchbay $version\"/" docs/man/*.8
sed -i "s/_${current}_amd64/_${version}_amd64/" README.md
cargo update --workspace --quiet
make man
git commit -qam "build: release $version" -m "CHANGELOG.md lists the changes since $current."

make audit ${ADVISORY_DB:+ADVISORY_DB=$ADVISORY_DB}
make msrv
make test-full
make test-arm64
rm -rf target/packages
for arch in amd64 arm64; do make check-packages ARCH=$arch; done
make sbom
printf '%s\n' "$notes" >target/packages/NOTES.md
# The bill of materials and the notes too.
(cd target/packages && rm SHA256SUMS && sha256sum -- * >"$OLDPWD/target/SHA256SUMS" && mv "$OLDPWD/target/SHA256SUMS" .)
git tag -a "v$version" -m "patchbay $version"
trap - ERR
echo "release: v$version is ready: git push origin HEAD v$version, and publish target/packages"
