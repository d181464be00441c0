"""Fill in templates, and refuse values that were not escaped."""

import os
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sdactivate.generate import yaml_text
from sdactivate.systemd import escape
from sdactivate.systemd.escape import Escaped


def _only_escaped(value: object) -> object:
    """Raise for a value that no function of `escape` has escaped, to prevent injection."""
    if not isinstance(value, Escaped | int):
        raise TypeError(f"{value!r} reached a template without being escaped")
    return value


@cache
def environment() -> Environment:
    """Return the Jinja2 environment in which every template is compiled.

    Its `finalize` refuses values that are neither a number nor `Escaped`: each expression in a
    template goes through `plain`, `word` or a parser of its own.
    """
    jinja = Environment(
        loader=FileSystemLoader(os.path.join(os.path.dirname(__file__), "templates")),
        undefined=StrictUndefined,
        finalize=_only_escaped,
        autoescape=False,  # noqa: S701 - the text is not HTML; see finalize
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        optimized=False,  # compiling takes most of the time, and most are used once
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
"""In the first line of every file, so that a later run recognizes its own files."""


# The line that a later run looks for, and the lines that turn off doctor rules
_KEPT = (SIGNATURE, "# sdactivate: ignore=")


def render(template: str, comments: bool, **values: Any) -> str:
    """Return the text of `template`; without `comments`, keep only those that programs read."""
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
