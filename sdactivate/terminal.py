"""Escape untrusted text before it is shown: control characters, bidi marks, line breaks.

File names, process names, log lines, request targets and exceptions may come from untrusted
sources. A control character in them could control the reader's terminal or forge a line. A
bidirectional control could change the displayed order of a line. An invisible character could make
two names look the same. All of these are shown as escapes: \\x1b, \\u202e.
"""

import re
import sys

_UNSAFE = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: they control terminals and end lines
    "\xad\u061c\u180e\u200b\u200e\u200f"  # soft hyphen, zero-width space, directional marks
    "\u2028-\u202e\u2060-\u206f"  # line and paragraph separator, embeddings, isolates, joiners
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # byte order mark, annotations, tags
    "\ud800-\udfff"  # surrogates: bytes that are not UTF-8 (os.fsdecode)
)
# Compiled by `re` at the first use: that takes a millisecond, which a server that starts saves
_ANY = f"[{_UNSAFE}]"
_BUT_NEWLINES = f"(?!\n)[{_UNSAFE}]"


def escape(text: object) -> str:
    r"""Return `text` as one line that is safe to show: a newline becomes \n."""
    line = str(text)
    return line if line.isprintable() else re.sub(_ANY, _escaped, line)


def escape_lines(text: object) -> str:
    """Return `text` made safe to show; its newlines stay."""
    lines = str(text)
    is_safe = lines.replace("\n", "").isprintable()
    return lines if is_safe else re.sub(_BUT_NEWLINES, _escaped, lines)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x0A:
        return "\\n"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode represents it
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show(text: str, end: str = "\n") -> None:
    """Print `text` to standard output; characters that its encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end=end)


def tell(text: object) -> None:
    """Print `text`, of one line or several, to standard error, made safe to show."""
    print(escape_lines(text), file=sys.stderr, flush=True)
