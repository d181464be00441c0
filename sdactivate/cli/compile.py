"""sdactivate compile: write a site's .pyc files without running its code."""

import argparse
import sys
from pathlib import Path

from sdactivate.errors import Error, option_value
from sdactivate.terminal import escape, tell

SUMMARY = "compile a site's code, without running it as root"

EXAMPLES = """\
examples:
  sudo sdactivate compile /srv/mysite
  sudo sdactivate compile /srv/mysite --python /srv/mysite/.venv/bin/python
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate compile`."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="directory of the code")
    parser.add_argument(
        "--python",
        metavar="PATH",
        default=sys.executable,
        help="the interpreter that will run the code (default: the one that runs this command)",
    )


def run(args: argparse.Namespace) -> int:
    """Compile sources whose .pyc file is missing or outdated. Return 1 if one can't be written."""
    from sdactivate.install.bytecode import compile_tree
    from sdactivate.values import absolute_path

    python = option_value("--python", absolute_path, args.python)
    if not args.directory.is_dir():
        raise Error(f"{args.directory}: there is no such directory")
    directory = args.directory.absolute()
    result = compile_tree(directory, str(directory), python)
    for source in result.invalid:
        tell(f"{escape(source)}: skipped: not valid in this version of Python")
    for source, why in result.failed.items():
        tell(f"{escape(source)}: {why}")
    return 1 if result.failed else 0
