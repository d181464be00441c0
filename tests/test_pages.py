"""Every link of the repository's Markdown leads somewhere, and its words are spelt as usual."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from script import build_site, pages

FILES = frozenset(pages.files())
PAGES = pages.pages()


def text(page: str) -> str:
    return (pages.CHECKOUT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(it for it in FILES if it.endswith(".md")))
def test_every_link_leads_somewhere(page: str) -> None:
    assert list(pages.faults(page, text(page), FILES)) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("there.md", ""),
        ("there.md#a-heading-of-two-words", ""),
        ("there.md#a-heading-of-two-words-1", ""),
        ("there.md#sda001-socketmode-is-not-set", ""),
        ("there.md#by-hand", ""),
        ("#here", ""),
        ("../tests", ""),
        ("https://example.org/nothing.md#at-all", ""),
        ("there.md#a-heading-of-two-words-2", "no such heading"),
        ("there.md#in-a-block", "no such heading"),
        ("#there", "no such heading"),
        ("nowhere.md", "no such file"),
        ("../docs/nowhere/", "no such file"),
        ("../tests/test.py#L10", "only Markdown"),
        ("/docs/there.md", "not relative"),
        ("../../outside.md", "not relative"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str, fault: str) -> None:
    (tmp_path / "docs").mkdir()
    there = "# A heading of *two* `words`\n\n# A heading of two words\n\n"
    there += '## SDA001: SocketMode= is not set\n\n<a id="by-hand"></a>\n\n    # In a block\n'
    (tmp_path / "docs" / "there.md").write_text(there)
    here = f"# Here\n\n| a |\n|---|\n| [`b`]({link}) |\n\n    [c](in-a-block.md)\n"
    known = ("docs/here.md", "docs/there.md", "tests/test.py")
    found = list(pages.faults("docs/here.md", here, known, tmp_path))
    assert [fault in it for it in found] == [True] * bool(fault)
    assert all(it.startswith("docs/here.md:5: ") for it in found)


def test_every_page_of_the_documentation_is_linked() -> None:
    reached, ahead = set(), [pages.INDEX, pages.FIRST_PAGE]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        targets = {pages.inside(page, it.target) for it in pages.links(text(page))}
        ahead += [it for it in targets - reached if it in PAGES]
    assert {it for it in PAGES if it.startswith("docs/")} - reached == set()


def test_the_navigation_has_each_page_once() -> None:
    navigation = build_site.navigation(PAGES)
    named = [
        it.rpartition("<")[2].rstrip(">")
        for it in navigation.splitlines()
        if it and it[0] not in ":`"
    ]
    assert len(named) == len(set(named))
    beneath = [
        it for name in PAGES if name.endswith("/README.md") for it in build_site.below(name, PAGES)
    ]
    assert {f"{it}.md" for it in named} | set(beneath) == set(PAGES) - {pages.FIRST_PAGE}


def test_groups_are_the_headings_of_the_index() -> None:
    index = """
# Index

- [first](first.md)

## nginx says 502

- [look it up](cases.md#one), in [cases](cases.md), [its part](part.md#two)
- [another part of it](part.md#three)
- [first](first.md) again, [elsewhere](https://example.org/a.md), [a file](../a.py)
- [changes](../CHANGELOG.md)

## Nothing

No page.
"""
    assert pages.groups(index) == [
        pages.Group("Index", (("first", "docs/first.md"),)),
        pages.Group(
            "nginx says 502",
            (("cases", "docs/cases.md"), ("its part", "docs/part.md"), ("changes", "CHANGELOG.md")),
        ),
    ]


def test_the_first_page_reads_the_same_from_the_directory_above() -> None:
    text = "[a](a.md#x), ![b](images/b.png), [c](../c/d.md), [e](#e), [f](https://f.org/) [g](g.md)"
    rebased = build_site.rebased(text, "docs")
    assert rebased == (
        "[a](docs/a.md#x), ![b](docs/images/b.png), [c](c/d.md), [e](#e), [f](https://f.org/) "
        "[g](docs/g.md)"
    )


def test_the_repository_is_without_what_git_ignores(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("/build/\n/.venv*/\n*.so\n__pycache__/\n/examples/a*\n")
    kept = {"docs/build/page.md", "examples/b", ".gitignore", "a.py"}
    for name in (*kept, "build/x.md", ".venv-3/y.md", "p/_a.so", "p/__pycache__/z", "examples/ab"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name != ".gitignore":
            (tmp_path / name).touch()
    assert set(pages.files(tmp_path)) == kept


def test_words_are_spelt_as_usual() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "."],
        cwd=pages.CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


class Built(HTMLParser):
    """The ids of a page of the site, and what it loads or leads to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.ids.update(named[key] for key in ("id",) if key in named)
        if tag == "a" and "href" in named:
            self.targets.append(named["href"])
        if tag in ("img", "script", "iframe") and "src" in named:
            self.loads.append(named["src"])
        if tag == "link" and named.get("rel") == "stylesheet":
            self.loads.append(named["href"])


@pytest.mark.by_hand
def test_the_site_has_every_page_and_loads_nothing_from_elsewhere() -> None:
    subprocess.run([pages.CHECKOUT / "script" / "build-site"], check=True, timeout=900)
    site = pages.CHECKOUT / "build" / "site"
    built = {path: Built(path) for path in site.rglob("*.html")}
    for page in set(PAGES) - {pages.FIRST_PAGE}:
        assert site / page.replace(".md", ".html") in built
    dead = []
    for path, it in built.items():
        for target in [*it.targets, *it.loads]:
            if re.match("[a-z]+:|//", target):
                assert target not in it.loads, f"{path} loads {target}"
                continue
            file, _, anchor = unquote(target).partition("#")
            there = (path.parent / file.partition("?")[0]).resolve() if file else path
            is_there = there.exists() and (
                not anchor or there not in built or anchor in built[there].ids
            )
            dead += [] if is_there else [f"{path.relative_to(site)}: {target}"]
    assert dead == []
    assert "SocketMode" in (site / "docs" / "doctor.html").read_text(encoding="utf-8")
    assert "502" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert built[site / "repository" / "tests" / "test_house.py.html"].ids
