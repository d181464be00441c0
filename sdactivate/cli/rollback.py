"""sdactivate rollback: switch a site back to an earlier release."""

import argparse

from sdactivate.cli.release import alone_with_signals, require_root, site_name

SUMMARY = "serve an earlier release of a site again"

EXAMPLES = """\
examples:
  sudo sdactivate rollback mysite                     to the previous release
  sudo sdactivate rollback mysite 20261128-101530     to one that `sdactivate releases mysite` lists

As with a new release, the service must answer with it; otherwise nothing changes. Migrations of
later releases stay in the database.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sdactivate rollback`."""
    parser.add_argument(
        "name", metavar="NAME", help="the site's name, which its units are named after"
    )
    parser.add_argument(
        "id", metavar="ID", nargs="?", default="", help="a release (default: the previous one)"
    )


def run(args: argparse.Namespace) -> int:
    """Switch to an earlier release, or leave everything unchanged."""
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
