"""Templates, filled in with nothing but escaped values."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sdactivate import systemd
from sdactivate.systemd import Escaped


def _only_escaped(value: object) -> object:
    """Refuse what has not passed through a grammar's own function: the way injections come in."""
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
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        finalize=_only_escaped,
        autoescape=False,  # noqa: S701 - the text is no HTML; see finalize
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(plain=systemd.plain, word=systemd.word)
    return jinja


def render(template: str, comments: bool, **values: Any) -> str:
    """Return the text of `template`; without `comments` no line of it begins with "#"."""
    text = environment().get_template(template).render(values)
    if comments:
        return text
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    return "".join(lines).lstrip("\n")
