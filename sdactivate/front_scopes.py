"""Find which directives apply at a place in nginx's configuration; inner blocks override outer.

https://nginx.org/en/docs/beginners_guide.html#conf_structure. All are pure functions of a text.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

TOKENS = re.compile(
    r"""\#[^\n]*
    | (?P<end>[;{}])
    | (?P<word>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | (?:\\.|\$\{\w+\}|[^\s;{}\\])+)""",
    re.VERBOSE | re.DOTALL,
)
"""Matches words, what ends a directive or a block, and comments, which are neither."""
_DEEPEST = 4


class Directive(NamedTuple):
    """One directive: its words, and where it begins in the text; -1: in an included file."""

    words: tuple[str, ...]
    start: int


class Block(NamedTuple):
    """A block: the words before its brace (server, location /), and its immediate directives."""

    words: tuple[str, ...]
    directives: list[Directive]


def at(text: str, place: int, included: Callable[[str], str] = lambda _: "") -> list[Block]:
    """Return the blocks around `place`, the outermost first: the whole text, without words.

    included: returns the text that `include PATTERN;` stands for.
    """
    stack: list[tuple[Block, bool]] = [(Block((), []), True)]
    closed: list[Block] | None = None
    words: list[str] = []
    begin = 0
    for token in TOKENS.finditer(text):
        if token["word"]:
            begin = begin if words else token.start()
            words.append(token["word"].strip("\"'"))
        elif token["end"] == ";":
            if words:
                stack[-1][0].directives.extend(_with_included(tuple(words), begin, included))
            words = []
        elif token["end"] == "{":
            stack.append((Block(tuple(words), []), begin <= place))
            words = []
        elif token["end"] == "}":
            words = []
            if closed is None and token.start() >= place:
                closed = [it for it, _ in stack]
            if len(stack) > 1:
                stack.pop()
    return closed or [it for it, _ in stack]


def _with_included(
    words: tuple[str, ...], start: int, included: Callable[[str], str], depth: int = 0
) -> Iterator[Directive]:
    if words[0] != "include" or len(words) < 2:
        yield Directive(words, start)
        return
    text = included(words[1]) if depth < _DEEPEST else ""
    found: list[str] = []
    nested = 0
    for token in TOKENS.finditer(text):
        if token["word"]:
            found.append(token["word"].strip("\"'"))
        elif token["end"]:
            nested += {"{": 1, "}": -1}.get(token["end"], 0)
            if token["end"] == ";" and found and not nested:
                yield from _with_included(tuple(found), -1, included, depth + 1)
            found = []


def innermost(blocks: list[Block], name: str) -> list[Directive]:
    """Return the directives called `name` of the innermost block that has any."""
    for block in reversed(blocks):
        if found := [it for it in block.directives if it.words[0] == name]:
            return found
    return []
