"""sdactivate status: print the state of a site, or of all sites, a line each."""

import argparse
import json

SUMMARY = "the state of a site: release, requests, 5xx, durations, memory"

EXAMPLES = """\
examples:
  sudo sdactivate status                          a line for each site
  sudo sdactivate status mysite                   all details of one site
  sudo sdactivate status mysite --format json     for programs

Without root, it shows only what systemd tells every user. It does not query the site's processes:
they publish the figures about once a second while they handle requests.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sdactivate status`."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default="",
        help="the site's name, which its units are named after",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="output format (default: text)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the state. Raises Error for a site that systemd does not know."""
    from sdactivate.operate import status
    from sdactivate.terminal import escape, show

    if args.name:
        site = status.status(args.name.removesuffix(".service"))
        if args.format == "json":
            show(json.dumps(site.as_json(), indent=2))
        else:
            for each in status.text(site):
                show(escape(each))
        return 0
    sites = status.every()
    if args.format == "json":
        show(json.dumps({"sites": [site.as_json() for site in sites]}, indent=2))
        return 0
    table = list(status.rows(sites))
    if not table:
        show("no site is loaded; install one with `sdactivate install`")
        return 0
    lines = [[name.upper() for name in table[0]]]
    lines += [[escape(cell) or "-" for cell in row.values()] for row in table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        show("  ".join(cells).rstrip())
    return 0
