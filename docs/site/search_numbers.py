"""A Sphinx extension: the search finds numbers. "502" is what readers look for here.

Sphinx leaves words of digits alone out of its index, and its script out of what is asked for.
"""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.search import languages
from sphinx.search.en import SearchEnglish

_SKIPS = r" || queryTerm.match(/^\d+$/)"


class WithNumbers(SearchEnglish):
    """English, with the numbers."""

    def word_filter(self, word: str) -> bool:
        """Return whether a word is in the index."""
        return word not in self.stopwords


def ask(app: Sphinx, exception: Exception | None) -> None:
    """Let the script of the built site ask for numbers."""
    if exception:
        return
    script = Path(app.outdir, "_static", "searchtools.js")
    text = script.read_text(encoding="utf-8")
    if text.count(_SKIPS) != 1:
        raise ExtensionError(f"Sphinx's {script.name} has changed: see docs/site/search_numbers.py")
    script.write_text(text.replace(_SKIPS, ""), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the extension."""
    languages["en"] = WithNumbers
    app.connect("build-finished", ask)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
