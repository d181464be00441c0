"""The repository's Markdown: what it links to, which anchors it has, how the pages are grouped.

The site (script/build_site.py) and its tests read it by this one module. Anchors are GitHub's, so
that a link means the same on a Git host and on the site.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

CHECKOUT = Path(__file__).resolve().parent.parent
INDEX = "docs/README.md"
FIRST_PAGE = "docs/index.md"
NOT_PAGES = (".github/",)
"""Directories whose Markdown is only for a Git host."""

_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_ID = re.compile(r"""<\w+[^>]*\s(?:id|name)=["']([^"']+)["']""")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


class Link(NamedTuple):
    """A link or an image in a page."""

    line: int
    target: str
    text: str
    is_image: bool


class Group(NamedTuple):
    """A heading of the index, with the pages that are linked there first."""

    title: str
    pages: tuple[tuple[str, str], ...]
    """The text of each link, and the page's path in the repository."""


def files(root: Path = CHECKOUT) -> list[str]:
    """Return the paths of the repository's files: all but those that .gitignore names."""
    ignored = [".git/", *(root / ".gitignore").read_text(encoding="utf-8").split()]
    found: list[str] = []
    for directory, below, names in os.walk(root):
        home = os.path.relpath(directory, root)
        paths = {it: os.path.normpath(os.path.join(home, it)) for it in (*below, *names)}
        below[:] = [it for it in below if not _is_ignored(f"{paths[it]}/", ignored)]
        found += [paths[it] for it in names if not _is_ignored(paths[it], ignored)]
    return sorted(found)


def _is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a line of .gitignore names a path; a directory's ends with a slash."""
    name = path[path.rstrip("/").rfind("/") + 1 :]
    return any(
        fnmatch(path, it[1:]) if it.startswith("/") else fnmatch(name, it) for it in patterns
    )


def pages(root: Path = CHECKOUT) -> list[str]:
    """Return the paths of the Markdown that becomes the site."""
    return [it for it in files(root) if it.endswith(".md") and not it.startswith(NOT_PAGES)]


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@cache
def anchors(text: str) -> frozenset[str]:
    """Return the anchors of a page: its headings' and those written as HTML."""
    found: set[str] = set()
    tokens = _parsed(text)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            wanted = anchor = slug(_plain(following.children or []))
            count = 0
            while anchor in found:
                count += 1
                anchor = f"{wanted}-{count}"
            found.add(anchor)
    for token in tokens:
        for part in (token, *(token.children or ())):
            if part.type in ("html_block", "html_inline"):
                found.update(_ID.findall(part.content))
    return frozenset(found)


def links(text: str) -> list[Link]:
    """Return the links and images of a page, in their order."""
    return [link for token in _parsed(text) for link in _links(token)]


def groups(text: str) -> list[Group]:
    """Return an index's headings with the links beneath each, as its text has them.

    A page is in the group that names it first. A link to a part of a page does not name it, unless
    there is no other link to it.
    """
    found: list[tuple[str, list[tuple[str, str]]]] = []
    named = {it.target for it in links(text)}
    seen: set[str] = set()
    for before, token in pairwise(_parsed(text)):
        if before.type == "heading_open":
            found.append((_plain(token.children or []), []))
        for link in _links(token):
            path = inside(INDEX, link.target)
            file, is_part, _ = link.target.partition("#")
            if link.is_image or not path or not path.endswith(".md") or path in seen:
                continue
            if (is_part and file in named) or not found:
                continue
            seen.add(path)
            found[-1][1].append((link.text, path))
    return [Group(title, tuple(pages)) for title, pages in found if pages]


def inside(page: str, target: str) -> str | None:
    """Return the path in the repository that a link of `page` leads to.

    None: it leads elsewhere. A path that leaves the repository begins with "..".
    """
    if _ELSEWHERE.match(target):
        return None
    path = target.partition("#")[0]
    if not path:
        return page
    parts: list[str] = []
    for part in [*page.split("/")[:-1], *path.split("/")]:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def faults(page: str, text: str, known: Collection[str], root: Path = CHECKOUT) -> Iterator[str]:
    """Yield a sentence for each broken link of a page.

    known: the repository's files.
    """
    directories = {str(parent) for name in known for parent in Path(name).parents}
    for link in links(text):
        path = inside(page, link.target)
        if path is None:
            continue
        place = f"{page}:{link.line}: {link.target}"
        anchor = link.target.partition("#")[2]
        if link.target.startswith("/") or path.startswith(".."):
            yield f"{place} is not relative to the repository"
        elif path not in known and path not in directories:
            yield f"{place}: the repository has no such file"
        elif anchor and not path.endswith(".md"):
            yield f"{place}: only Markdown has anchors"
        elif anchor:
            there = text if path == page else (root / path).read_text(encoding="utf-8")
            if anchor not in anchors(there):
                yield f"{place}: {path} has no such heading"


@cache
def _parsed(text: str) -> Sequence[Token]:
    return _PARSER.parse(text)


def _links(token: Token) -> Iterator[Link]:
    line = (token.map or [0])[0] + 1
    children = token.children or []
    for number, child in enumerate(children):
        if child.type == "link_open":
            rest = children[number + 1 :]
            depth = next(n for n, it in enumerate(rest) if it.type == "link_close")
            yield Link(line, str(child.attrGet("href")), _plain(rest[:depth]), False)
        elif child.type == "image":
            yield Link(line, str(child.attrGet("src")), child.content, True)


def _plain(children: list[Token]) -> str:
    """Return the text of inline tokens, without their markup."""
    return "".join(it.content if it.type != "softbreak" else " " for it in children)
