"""Write values as YAML, and as YAML for programs that expand `$`.

A YAML reader guesses the type of an unquoted scalar: `no` is false, `1e3` a number, and for some
readers `12:30` is a number too. So only text that can't be anything else is written without quotes,
and all other text as a JSON string: a JSON string without control characters is valid in YAML 1.1
and 1.2.

Compose expands `$NAME` in every value, Kubernetes `$(NAME)` in commands and variables; in both `$$`
is a dollar sign.
"""

import json
import re
from collections.abc import Iterable

from sdactivate.systemd.escape import Escaped, printable

# The versions of YAML read many words as booleans and nulls
_BARE = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z/][a-z0-9/._-]*[a-z0-9/]", re.I)


def yaml(text: str) -> Escaped:
    """Return `text` as a YAML scalar that every reader reads as this string.

    Raises UsageError for control characters and for text that is not valid UTF-8.
    """
    if _BARE.fullmatch(text):
        return Escaped(text)
    return Escaped(json.dumps(printable(text), ensure_ascii=False))


def yaml_list(texts: Iterable[str]) -> Escaped:
    """Return `texts` as a YAML list of strings, on one line. Raises UsageError as `yaml` does."""
    return Escaped(json.dumps([printable(text) for text in texts], ensure_ascii=False))


def dollars(text: str) -> str:
    """Return `text` escaped so that Compose and Kubernetes expand nothing in it."""
    return text.replace("$", "$$")


_LETTERS = {"K": "Ki", "M": "Mi", "G": "Gi", "T": "Ti"}


def quantity(limit: str) -> str:
    """Return `limit`, bytes with systemd's suffixes (M: 2**20), in Kubernetes' notation."""
    return limit[:-1] + _LETTERS[limit[-1]] if limit[-1] in _LETTERS else limit
