"""A Sphinx extension: what the theme's HTML lacks for readers with a screen reader.

Each of these was found by axe-core on the built site. One that finds nothing to replace any more
is an error: the theme has changed.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

_REPLACED = {
    # A caption of the navigation is a heading without a level
    r'<p class="caption" role="heading">': r'<p class="caption" role="heading" aria-level="2">',
    # Two complementary landmarks without a name
    r'<aside class="sidebar-drawer">': r'<aside class="sidebar-drawer" aria-label="Site">',
    r'<aside class="toc-drawer': r'<aside aria-label="On this page" class="toc-drawer',
    # A table's corner is no heading
    r'<th class="head[^"]*"><p></p></th>': r"<td></td>",
}


def replace(app: Sphinx, exception: Exception | None) -> None:
    """Replace them in every page that was built."""
    if exception:
        return
    found = dict.fromkeys(_REPLACED, 0)
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for old, new in _REPLACED.items():
            text, count = re.subn(old, new, text)
            found[old] += count
        path.write_text(text, encoding="utf-8")
    if missing := [old for old, count in found.items() if not count]:
        raise ExtensionError(f"no page has {missing} any more: see docs/site/accessible.py")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the extension."""
    app.connect("build-finished", replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
