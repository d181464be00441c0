"""Write values as YAML, and as YAML in which `$` means something.

A scalar without quotes is what a reader makes of it: `no` is false, `1e3` a number, `12:30` to
some a number as well. So only what can be nothing but text stands bare, and all else in double
quotes, as JSON has it: every JSON string without control characters is one of YAML 1.1 and 1.2.

Compose replaces `$NAME` in every value, Kubernetes `$(NAME)` in commands and variables; to both
`$$` is a dollar.
"""

import json
import re
from collections.abc import Iterable

from sdactivate.systemd.escape import Escaped, printable

# Versions of YAML read more words as booleans and nulls than any other language
_BARE = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z/][a-z0-9/._-]*[a-z0-9/]", re.I)


def yaml(text: str) -> Escaped:
    """Return `text` as a YAML scalar that every reader takes for this string.

    Raises UsageError for control characters and what is not UTF-8.
    """
    if _BARE.fullmatch(text):
        return Escaped(text)
    return Escaped(json.dumps(printable(text), ensure_ascii=False))


def yaml_list(texts: Iterable[str]) -> Escaped:
    """Return `texts` as a YAML list of strings, on one line. Raises UsageError as `yaml` does."""
    return Escaped(json.dumps([printable(text) for text in texts], ensure_ascii=False))


def dollars(text: str) -> str:
    """Return `text` so that Compose and Kubernetes replace nothing in it."""
    return text.replace("$", "$$")


_LETTERS = {"K": "Ki", "M": "Mi", "G": "Gi", "T": "Ti"}


def quantity(limit: str) -> str:
    """Return `limit`, bytes with systemd's letters (M: 2**20), as Kubernetes writes it."""
    return limit[:-1] + _LETTERS[limit[-1]] if limit[-1] in _LETTERS else limit
