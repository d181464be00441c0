"""Fill in templates. A value that is not escaped is refused."""

import os
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sdactivate.generate import yaml_text
from sdactivate.systemd import escape
from sdactivate.systemd.escape import Escaped


def _only_escaped(value: object) -> object:
    """Refuse what has not passed through a function of `escape`'s: the way injections come in."""
    if not isinstance(value, Escaped | int):
        raise TypeError(f"{value!r} reached a template without being escaped")
    return value


@cache
def environment() -> Environment:
    """Return the environment that every template of the kit is compiled in.

    Its `finalize` refuses any value that is neither a number nor `Escaped`: each expression in a
    template goes through `plain`, `word` or a grammar of its own.
    """
    jinja = Environment(
        loader=FileSystemLoader(os.path.join(os.path.dirname(__file__), "templates")),
        undefined=StrictUndefined,
        finalize=_only_escaped,
        autoescape=False,  # noqa: S701 - the text is no HTML; see finalize
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        optimized=False,  # most templates are filled in once, and compiling them is what takes time
    )
    jinja.filters.update(plain=escape.plain, literal=escape.literal, word=escape.word)
    jinja.filters.update(
        yaml=yaml_text.yaml,
        yaml_list=yaml_text.yaml_list,
        dollars=yaml_text.dollars,
        quantity=yaml_text.quantity,
    )
    return jinja


SIGNATURE = "written by sdactivate"
"""In the first line of every file: how a later run knows its own."""


# What a later run looks for, and what silences a rule of the doctor's
_KEPT = (SIGNATURE, "# sdactivate: ignore=")


def render(template: str, comments: bool, **values: Any) -> str:
    """Return the text of `template`; without `comments` only those that programs read are left."""
    text = environment().get_template(template).render(values)
    if comments:
        return text
    first, *rest = text.splitlines(keepends=True)
    kept = (
        line
        for line in rest
        if not line.lstrip(" ").startswith(("#", ";")) or any(word in line for word in _KEPT)
    )
    return "".join([first, *kept])
