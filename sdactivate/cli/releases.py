"""sdactivate releases: list a site's releases, and say which one serves."""

import argparse
import json

from sdactivate.cli.release import site_name

SUMMARY = "list a site's releases: date, author, revision, which one serves"

EXAMPLES = """\
examples:
  sdactivate releases mysite
  sdactivate releases mysite --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sdactivate releases`."""
    parser.add_argument(
        "name", metavar="NAME", help="the site's name, which its units are named after"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="output format (default: text)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the releases, the newest first."""
    from sdactivate.operate.releases import listed
    from sdactivate.terminal import escape, show

    rows = listed(site_name(args.name))
    if args.format == "json":
        show(json.dumps({"releases": rows}, indent=2))
        return 0
    head = {name: name.upper() for name in ("id", "state", "made", "by", "ref")}
    table = [head, *rows]
    shown = [[escape(row[name] or "-") for name in head] for row in table]
    widths = [max(len(line[column]) for line in shown) for column in range(len(head))]
    for line in shown:
        show(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    return 0
