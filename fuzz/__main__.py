"""python -m fuzz [PARSER ...] [--seconds N]: search for bytes that break a parser."""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import TARGETS, cut
from fuzz.twins import TWINS, target


def main(argv: list[str] | None = None) -> int:
    """Search, or replay one input. 0: nothing is broken; 1: something is; 2: misuse."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    known = (*TARGETS, *TWINS)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=int, default=10, help="for each parser (default: 10)")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run one input that was found, and no search"
    )
    parser.add_argument("--grow", type=Path, metavar="DIR", help="keep what reaches new code there")
    args = parser.parse_args(argv)
    names = args.parsers or list(TARGETS)
    if unknown := set(names).difference(known):
        parser.error(f"there is no parser {min(unknown)}; there are {', '.join(known)}")
    if args.replay:
        if len(names) != 1:
            parser.error("--replay wants the name of the one parser whose input it is")
        target(names[0])(cut(args.replay.read_bytes()))
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not here: pip install -e '.[fuzz]' (x86-64, CPython, glibc)")
    broken = [name for name in names if search(name, args.seconds, args.grow)]
    if broken:
        print(f"fuzz: broken: {', '.join(broken)}. README.md says what next", file=sys.stderr)
    return 1 if broken else 0


def search(name: str, seconds: int, grow: Path | None) -> int:
    """Search in a process of its own; its exit status."""
    with tempfile.TemporaryDirectory(prefix="sdactivate-fuzz-") as scratch:
        grown = grow / name if grow else Path(scratch)
        grown.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.search", name, str(seconds), str(grown)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
