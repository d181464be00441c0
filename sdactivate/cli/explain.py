"""sdactivate explain: explain each line of a unit."""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sdactivate.errors import Error

if TYPE_CHECKING:
    from sdactivate.systemd.unitfile import Unit

SUMMARY = "what each line of a unit is for, and what leaving it out costs"

EXAMPLES = """\
examples:
  sdactivate explain mysite                          its service and its sockets, as loaded
  sdactivate explain ./mysite.service                a file, with the drop-ins beside it
  sdactivate explain gunicorn.service --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate explain`."""
    parser.add_argument(
        "unit", metavar="UNIT", help="a unit's name, a site's name, or the path of a unit file"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Print the unit, or the units of the site, line by line."""
    from sdactivate.doctor import explain
    from sdactivate.terminal import show

    explained = [explain.explain(unit) for unit in _units(args.unit)]
    if args.format == "json":
        print(json.dumps([explain.as_json(one) for one in explained], indent=2))
    else:
        show("\n".join(explain.as_text(one) for one in explained), end="")
    return 0


_TYPES = (".service", ".socket", ".timer", ".target", ".path", ".mount", ".slice", ".scope")


def _units(asked: str) -> Iterable["Unit"]:
    """Return the units that `asked` names: a unit file, a loaded unit, or a site's units.

    A name without a slash is looked up as a unit's name first. Raises Error if there is no such
    unit, file or site.
    """
    from sdactivate.doctor import units
    from sdactivate.systemd.loaded import loaded

    if "/" in asked:
        return [_file(Path(asked))]
    if asked.endswith(_TYPES):
        try:
            return [loaded(asked)]
        except Error:
            if not os.path.isfile(asked):
                raise
            return [_file(Path(asked))]
    site = units.live(asked)
    return [*site.units, *units.background(site)]


def _file(path: Path) -> "Unit":
    from sdactivate.systemd.loaded import read

    unit = read(path.name, [path, *sorted(Path(f"{path}.d").glob("*.conf"))])
    if not unit.entries:
        raise Error(
            f"{path}: not a unit file: it has no section such as [Service] with a line in it"
        )
    return unit
