#!/usr/bin/env python3
"""Write the map of docs/architecture.md: every module, with the first line of its docstring.

python script/map.py            write it
python script/map.py --check    exit 1 if the page differs from the code
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from script import generated  # noqa: E402

PACKAGE = CHECKOUT / "sdactivate"
DOCUMENT = CHECKOUT / "docs" / "architecture.md"
BEGIN, END = "## The map\n", "## The path of a request\n"


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, "" if it has none."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def lines() -> Iterator[str]:
    """Yield the section's lines: a table for each directory."""
    yield from (BEGIN, "Each module, by the first line of its docstring.\n")
    for directory in sorted({path.parent for path in PACKAGE.rglob("*.py")}):
        modules = [path for path in sorted(directory.glob("*.py")) if summary(path)]
        if not modules:
            continue
        yield f"### {directory.relative_to(CHECKOUT)}/\n"
        yield "| module | what it holds |\n|---|---|"
        for path in modules:
            yield f"| `{path.name}` | {summary(path).replace('|', chr(92) + '|')} |"
        yield ""
    templates = sorted(path.name for path in PACKAGE.rglob("*.j2"))
    yield "### sdactivate/generate/templates/\n"
    yield ", ".join(f"`{name}`" for name in templates)
    yield ""


def whole(text: str) -> str:
    """Return the document `text` with the map of the current code."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + "\n".join(lines()) + "\n" + END + after


if __name__ == "__main__":
    sys.exit(generated.main(DOCUMENT, whole(DOCUMENT.read_text(encoding="utf-8"))))
