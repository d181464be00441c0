"""Read the name of an application: MODULE:NAME, MODULE:FACTORY(), or a file such as mod_wsgi's."""

import re
from typing import NamedTuple

from sdactivate.errors import UsageError

DEFAULT = "application"
"""What PEP 3333's own examples, Django and mod_wsgi call it."""

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
# A name without a slash would be a module's: mysite.wsgi
_FILE = re.compile(r"(?=[^:]*/)[^:\0-\x20\x7f]+\.(?:wsgi|py)")


class AppName(NamedTuple):
    """Where an application is.

    module: dotted; "" where it is in a file. file: its path; "" where it is in a module. attribute:
    dotted, what it is called there. is_factory: whether that returns it when it is called.
    """

    module: str
    file: str
    attribute: str
    is_factory: bool

    def __str__(self) -> str:
        """Return it in its longest form, with the attribute."""
        return f"{self.module or self.file}:{self.attribute}{'()' if self.is_factory else ''}"


def parse(text: str) -> AppName:
    """Return what `text` names.

    "mysite.wsgi:application"; "mysite.wsgi" for the same; "mysite:create_app()" for what a function
    returns when it is called without arguments; "/srv/mysite/mysite.wsgi", a file with a slash in
    its path, with or without a name behind a colon.

    Raises UsageError for anything else.
    """
    where, _, attribute = text.partition(":")
    name = attribute.removesuffix("()")
    is_module = _DOTTED.fullmatch(where)
    if (
        not (is_module or _FILE.fullmatch(where))
        or not _DOTTED.fullmatch(name or DEFAULT)
        or (text[len(where) :] and not name)
    ):
        raise UsageError(
            f"{text!r} names no application; write MODULE:NAME, such as mysite.wsgi:application, "
            "MODULE:FACTORY(), such as mysite:create_app(), or a file, such as "
            "/srv/mysite/mysite.wsgi"
        )
    module, file = (where, "") if is_module else ("", where)
    return AppName(module, file, name or DEFAULT, attribute != name)
