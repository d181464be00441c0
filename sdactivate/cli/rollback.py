"""sdactivate rollback: switch a site back to an earlier release."""

import argparse

from sdactivate.cli.release import alone_with_signals, require_root, site_name

SUMMARY = "serve an earlier release of a site again"

EXAMPLES = """\
examples:
  sudo sdactivate rollback mysite                     to the release before
  sudo sdactivate rollback mysite 20261128-101530     to another, of `sdactivate releases mysite`

The service has to answer with it, as with a new release; if it can't, nothing changes. The database
keeps the migrations of later releases.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sdactivate rollback`."""
    parser.add_argument("name", metavar="NAME", help="what the site's units are called")
    parser.add_argument(
        "id", metavar="ID", nargs="?", default="", help="a release (default: the one before)"
    )


def run(args: argparse.Namespace) -> int:
    """Switch to an earlier release, or leave everything as it was."""
    from sdactivate.operate.progress import note
    from sdactivate.operate.rollback import rollback

    name = site_name(args.name)
    require_root("a rollback")
    alone_with_signals()
    now, migrations = rollback(name, args.id)
    note(f"{name} serves release {now}")
    if migrations:
        note(f"migrations of later releases are not undone: {', '.join(migrations)}")
    return 0
