#!/usr/bin/env bash
# Checks the manifests of deploy/kubernetes, with the overlays as kubectl builds them, against the schemas
# of Kubernetes. Networks are of a kind without a schema; tests/e2e/cni_links.rs runs the examples.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSIONS=(1.28 1.37)
tools=target/kubernetes/bin
dir=deploy/kubernetes

built=$(mktemp -d)
trap 'rm -r "$built"' EXIT
for overlay in install uninstall; do
  "$tools/kubectl" kustomize "$dir/$overlay" >"$built/$overlay.yaml"
done
for version in "${VERSIONS[@]}"; do
  "$tools/kubernetes-validate" --strict --quiet --no-warn --kubernetes-version "$version" \
    "$built/install.yaml" "$built/uninstall.yaml" "$dir/examples/pod.yaml"
done
