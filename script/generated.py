"""Common code of the scripts that generate a page of docs/: write it, or check it."""

import sys
from pathlib import Path


def main(document: Path, wanted: str) -> int:
    """Write `wanted` into `document`; with --check only return 1 if its text differs."""
    if "--check" in sys.argv[1:]:
        return int(document.read_text(encoding="utf-8") != wanted)
    document.write_text(wanted, encoding="utf-8")
    return 0
