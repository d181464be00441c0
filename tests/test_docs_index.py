"""docs/README.md: each page of the documentation, once, by what the reader wants to do."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
INDEX = re.sub("<!--.*?-->", "", (DOCS / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
LINKS = re.findall(r"\[[^]]+\]\(([^)#]+)(#[^)]+)?\)", INDEX)


def test_the_index_lists_each_page_once() -> None:
    """A link to a place in a page is beside that: a page may answer several questions."""
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md", "index.md"}  # the site's door
    listed = [path for path, place in LINKS if not place and "/" not in path]
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize(("path", "place"), LINKS, ids="".join)
def test_each_link_leads_somewhere(path: str, place: str) -> None:
    text = (DOCS / path).read_text(encoding="utf-8")
    places = {anchor(line) for line in re.findall(r"^#+ (.*)", text, re.MULTILINE)}
    assert not place or place in places


def anchor(heading: str) -> str:
    """The link to a heading, as GitHub makes it."""
    words = re.sub(r"[^\w\- ]", "", heading.lower())
    return "#" + words.replace(" ", "-")
