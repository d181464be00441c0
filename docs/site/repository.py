"""A Sphinx extension: links to files of the repository lead to pages that show them.

On a Git host a link to a test or an example shows the file. On the site it does the same: each
file that a page links to becomes a page, and each directory a list of its files.
"""

import html
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.osutil import relative_uri

from script import pages

_HOME = "repository"
_LARGEST = 256 * 1024
"""Bytes of a file that a page shows. Larger are results of measurements."""

_FILES = pages.files()


class FileLinks(SphinxPostTransform):
    """Turn links to files that are no pages into links to those that show them."""

    default_priority = 5  # before MyST looks for a page

    def run(self, **kwargs: Any) -> None:
        """Turn them, in one document."""
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") != "myst" or node.get("refdomain"):
                continue
            path = pages.inside(f"{node['refdoc']}.md", node["reftarget"])
            page = path and _page(path)
            if not page:
                continue
            uri = self.app.builder.get_relative_uri(self.env.docname, page)
            node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _page(path: str) -> str | None:
    """Return the name of the page that shows a path of the repository. None: it has no such."""
    if path in _FILES:
        return f"{_HOME}/{path}"
    directory = f"{path}/"
    if f"{directory}README.md" in _FILES:
        return f"{directory}README"
    if any(it.startswith(directory) for it in _FILES):
        return f"{_HOME}/{directory}index"
    return None


def _linked() -> Iterator[str]:
    """Yield the paths that need a page: those that are linked, and what lies in directories."""
    for page in pages.pages():
        for link in pages.links((pages.CHECKOUT / page).read_text(encoding="utf-8")):
            path = pages.inside(page, link.target)
            if not path or link.is_image or path.endswith(".md"):
                continue
            yield path
            if path not in _FILES:
                yield from _within(path)


def _within(directory: str) -> list[str]:
    return [it for it in _FILES if it.startswith(f"{directory}/")]


def shown(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the pages of files and directories, as Sphinx takes them."""
    for path in sorted(set(_linked())):
        page = _page(path)
        if page and page.startswith(f"{_HOME}/"):
            body = _file(path) if path in _FILES else _directory(page, path)
            title = f"<h1><code>{html.escape(path)}</code></h1>"
            yield page, {"title": html.escape(path), "body": title + body}, "page.html"


def _directory(page: str, path: str) -> str:
    items = []
    for name in _within(path):
        target = _page(name) if not name.endswith(".md") else name.removesuffix(".md")
        link = relative_uri(f"{page}.html", f"{target}.html")
        items.append(f'<li><a href="{link}">{html.escape(posixpath.relpath(name, path))}</a></li>')
    return f"<ul>{''.join(items)}</ul>"


def _file(path: str) -> str:
    content = (Path(pages.CHECKOUT) / path).read_bytes()
    if len(content) > _LARGEST:
        return f"<p>{len(content)} bytes: too long for a page. It is in a checkout.</p>"
    text = content.decode(errors="replace")
    try:
        lexer = get_lexer_for_filename(path, text)
    except ClassNotFound:
        lexer = TextLexer()
    shown: str = highlight(text, lexer, HtmlFormatter(cssclass="highlight", wrapcode=True))
    return shown


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the extension."""
    app.add_post_transform(FileLinks)
    app.connect("html-collect-pages", shown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
