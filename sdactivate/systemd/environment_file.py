"""Read the files of EnvironmentFile= as systemd does: systemd.exec(5)."""

import re

_ASSIGNMENT = re.compile(
    r"""
    ^[ \t\r]*(?:
        [#;](?:\\.|[^\\\n])*
        | (?P<name>[^\s#;=][^=\n]*?)[ \t]*=[ \t]*
          (?P<value>
            (?: "(?:\\.|[^"\\])*"[ \t]* | '[^']*'[ \t]* )*
            (?: \\. | [^\\\n] )*
          )
    )
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_PIECE = re.compile(
    r""" "(?P<double>(?:\\.|[^"\\])*)"[ \t]* | '(?P<single>[^']*)'[ \t]* | (?P<bare>.+) """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse(text: str) -> dict[str, str]:
    """Return the variables that a file sets, with their values. The last assignment of each counts.

    Quoted values may contain several lines. Lines that systemd ignores are left out.
    """
    found: dict[str, str] = {}
    for match in _ASSIGNMENT.finditer(text):
        if match["name"] and _NAME.fullmatch(match["name"]):
            found[match["name"]] = _value(match["value"])
    return found


def _value(written: str) -> str:
    held = ""
    for piece in _PIECE.finditer(written):
        if piece["double"] is not None:
            # As in a shell, a backslash escapes only these characters
            held += re.sub(r'\\(\n|["\\`$])', _escaped, piece["double"])
        elif piece["single"] is not None:
            held += piece["single"]
        else:
            held += re.sub(r"\\(.)", _escaped, piece["bare"].rstrip(), flags=re.DOTALL)
    return held


def _escaped(found: re.Match[str]) -> str:
    return "" if found[1] == "\n" else found[1]
