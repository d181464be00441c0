"""Parse the name of an application: MODULE:NAME, MODULE:FACTORY(), or a file as for mod_wsgi."""

import re
from typing import NamedTuple

from sdactivate.errors import UsageError

DEFAULT = "application"
"""The attribute's usual name, in PEP 3333's examples, Django and mod_wsgi."""

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
# Without a slash it would be a module: mysite.wsgi
_FILE = re.compile(r"(?=[^:]*/)[^:\0-\x20\x7f]+\.(?:wsgi|py)")


class AppName(NamedTuple):
    """Where an application is found.

    module: the dotted module name; "" if it is in a file. file: the path; "" if it is in a module.
    attribute: the dotted name in there. is_factory: whether calling the attribute returns the
    application.
    """

    module: str
    file: str
    attribute: str
    is_factory: bool

    def __str__(self) -> str:
        """Return the name in its full form, with the attribute."""
        return f"{self.module or self.file}:{self.attribute}{'()' if self.is_factory else ''}"


def parse(text: str) -> AppName:
    """Return the application that `text` names.

    text: "mysite.wsgi:application", or "mysite.wsgi" for the same; or "mysite:create_app()", which
    calls a function without arguments and serves what it returns; or a file, whose path has a
    slash: "/srv/mysite/mysite.wsgi", with or without :NAME at the end.

    Raises UsageError for any other form.
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
            f"{text!r} is not the name of an application; write MODULE:NAME, such as "
            "mysite.wsgi:application, MODULE:FACTORY(), such as mysite:create_app(), or a file, "
            "such as /srv/mysite/mysite.wsgi"
        )
    module, file = (where, "") if is_module else ("", where)
    return AppName(module, file, name or DEFAULT, attribute != name)
