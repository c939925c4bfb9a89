#!/usr/bin/env python3
"""Prints name, version, license and license texts of every crate in the programs."""

import json
import pathlib
import subprocess

PROGRAMS = {"patchbay", "patchbay-agent", "patchbay-sandbox", "patchbay-init"}
NAMES = ("license", "licence", "copying", "notice", "unlicense")


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(data):
    """Returns the ids of the crates that the programs are linked with."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    left = [p["id"] for p in data["packages"] if p["name"] in PROGRAMS and p["source"] is None]
    found = set()
    while left:
        one = left.pop()
        if one in found:
            continue
        found.add(one)
        for dependency in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                left.append(dependency["pkg"])
    return found


def main():
    data = metadata()
    ids = linked(data)
    texts = {}
    packages = sorted(data["packages"], key=lambda package: (package["name"], package["version"]))
    for package in packages:
        if package["id"] not in ids or package["source"] is None:
            continue
        folder = pathlib.Path(package["manifest_path"]).parent
        print(f"{package['name']} {package['version']}: {package['license'] or 'see its text'}")
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.lower().startswith(NAMES):
                text = path.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, users in texts.items():
        print(f"\n{'-' * 78}\n{', '.join(users)}\n\n{text}")


main()
