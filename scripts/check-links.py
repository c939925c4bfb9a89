#!/usr/bin/env python3
"""Finds dead links between files; links to other hosts are ignored.

    scripts/check-links.py          links and anchors of the tracked documents, and pages that docs/README.md doesn't list
    scripts/check-links.py FOLDER   links and anchors of the HTML pages in FOLDER
"""

import html.parser
import pathlib
import posixpath
import re
import subprocess
import sys
import urllib.parse

INDEX = "docs/README.md"
LINK = re.compile(r"\]\(([^()\s]*)\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")


class Document:
    """Links and anchors of a Markdown file, with the anchors that forges give to headings."""

    def __init__(self, text):
        text = FENCE.sub("", text)
        self.links = [a or b for a, b in LINK.findall(CODE.sub("", text))]
        self.anchors = set()
        for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            number = sum(re.fullmatch(re.escape(slug) + r"(-\d+)?", a) is not None for a in self.anchors)
            self.anchors.add(f"{slug}-{number}" if number else slug)


class Page(html.parser.HTMLParser):
    """Links and anchors of an HTML file."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name in ("id", "name") and value and tag != "meta":
                self.anchors.add(value)


def tracked():
    """Returns the paths of the documents, and those of all files and folders."""
    command = ["git", "ls-files", "-z"]
    files = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")[:-1]
    folders = {str(folder) for file in files for folder in pathlib.PurePath(file).parents}
    return [file for file in files if file.endswith(".md")], {*files, *folders}


def published(root):
    """Returns the paths of the pages below `root`, and those of all files and of the folders with a page."""
    files = [path.relative_to(root) for path in pathlib.Path(root).rglob("*") if path.is_file()]
    folders = {str(path.parent) for path in files if path.name == "index.html"}
    return [str(path) for path in files if path.suffix == ".html"], {*map(str, files), *folders}


def check(pages, existing):
    """Returns the number of links of `pages`, and a line for each dead one. `pages` has documents by their paths."""
    count, dead = 0, []
    for path, page in pages.items():
        for link in page.links:
            target = urllib.parse.urlsplit(link)
            if target.scheme or target.netloc:
                continue
            count += 1
            to = posixpath.normpath(posixpath.join(posixpath.dirname(path), urllib.parse.unquote(target.path))) if target.path else path
            anchor = urllib.parse.unquote(target.fragment)
            if to not in existing:
                dead.append(f"{path}: no file '{to}' for the link '{link}'")
            elif anchor and (to not in pages or anchor not in pages[to].anchors):
                dead.append(f"{path}: no anchor for the link '{link}'")
    return count, dead


def unlisted(pages):
    """Returns a line for each page of the folder of the index that the index doesn't link to."""
    folder = posixpath.dirname(INDEX)
    listed = {posixpath.normpath(posixpath.join(folder, link)) for link in pages[INDEX].links}
    return [f"{INDEX}: no link to {path}" for path in pages if path.startswith(folder + "/") and path not in {INDEX, *listed}]


def main():
    if len(sys.argv) > 2:
        sys.exit(f"usage: {sys.argv[0]} [FOLDER]")
    root = pathlib.Path(sys.argv[1] if sys.argv[1:] else ".")
    paths, existing = published(root) if sys.argv[1:] else tracked()
    kind = Page if sys.argv[1:] else Document
    pages = {path: kind((root / path).read_text()) for path in paths}
    count, dead = check(pages, existing)
    if not sys.argv[1:]:
        dead += unlisted(pages)
    if dead:
        sys.exit("\n".join(dead))
    print(f"{count} links in {len(pages)} files lead to a file and an anchor")


main()
