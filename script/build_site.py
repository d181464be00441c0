"""Build the documentation's site with Sphinx, in build/site or the given directory."""

import os
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from script import pages  # noqa: E402

CONFIGURATION = CHECKOUT / "docs" / "site"
PROJECT = "The project"
"""The group of pages that the index does not name."""


def main() -> int:
    """Build the site, and return Sphinx's exit code."""
    from sphinx.cmd.build import main as sphinx

    site = Path(sys.argv[1] if sys.argv[1:] else CHECKOUT / "build" / "site")
    source = site.with_name(f"{site.name}-source")
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(site, ignore_errors=True)
    stage(source)
    doctrees = source / ".doctrees"
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env"]
    code: int = sphinx(
        [*options, "-c", str(CONFIGURATION), "-d", str(doctrees), str(source), str(site)]
    )
    if not code:
        print(site / "index.html")
    return code


def stage(source: Path) -> None:
    """Copy the pages and their images to `source`, with the same paths as in the repository.

    The first page alone is moved: it is the site's index.html, and has the navigation.
    """
    names = pages.pages()
    texts = {name: (CHECKOUT / name).read_text(encoding="utf-8") for name in names}
    images = {
        pages.inside(name, link.target)
        for name, text in texts.items()
        for link in pages.links(text)
        if link.is_image
    }
    for name in {*names, *filter(None, images)} - {pages.FIRST_PAGE}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, source / name)
    first = rebased(texts[pages.FIRST_PAGE], "docs")
    (source / "index.md").write_text(f"{first}\n{navigation(names)}", encoding="utf-8")
    for name in names:
        if name.endswith("/README.md") and (beside := below(name, names)):
            with (source / name).open("a", encoding="utf-8") as file:
                file.write(
                    f"\n{toctree([os.path.relpath(it, Path(name).parent) for it in beside])}"
                )


def rebased(text: str, directory: str) -> str:
    """Return a page's text with its links changed for a copy one directory higher."""
    for target in sorted({link.target for link in pages.links(text)}, key=len, reverse=True):
        path = pages.inside(f"{directory}/index.md", target)
        if path and not target.startswith("#"):
            anchor = target[len(target.partition("#")[0]) :]
            text = text.replace(f"]({target})", f"]({path}{anchor})")
    return text


def navigation(names: list[str]) -> str:
    """Return the navigation: the index's groups, then the pages that it does not name."""
    text = (CHECKOUT / pages.INDEX).read_text(encoding="utf-8")
    groups = [(it.title, [path for _, path in it.pages]) for it in pages.groups(text)]
    shown = {path for _, paths in groups for path in paths}
    shown.update(it for name in names if name.endswith("/README.md") for it in below(name, names))
    rest = [it for it in names if it not in (*shown, pages.FIRST_PAGE, pages.INDEX)]
    groups.append((PROJECT, [pages.INDEX, *rest]))
    return "\n".join(toctree(paths, title) for title, paths in groups if paths)


def below(name: str, names: list[str]) -> list[str]:
    """Return the pages that are shown beneath the README.md of their directory."""
    home = name.removesuffix("README.md")
    if home == "docs/":
        return []
    return [it for it in names if it != name and it.startswith(home)]


def toctree(paths: list[str], caption: str = "") -> str:
    """Return a toctree of pages, by their titles; README's is the site's own."""
    lines = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    for path in paths:
        page = path.removesuffix(".md")
        lines.append(f"{page} <{page}>" if page == "README" else page)
    return "\n".join(["```{toctree}", *lines, "```", ""])


if __name__ == "__main__":
    sys.exit(main())
