"""sdactivate uninstall: remove what install wrote."""

import argparse

from sdactivate.cli.gen import checked_name
from sdactivate.cli.install import add_root

SUMMARY = "remove the files that install wrote, and nothing else"

EXAMPLES = """\
examples:
  sudo sdactivate uninstall mysite
  sdactivate uninstall mysite --root image
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate uninstall`."""
    parser.add_argument(
        "name", metavar="NAME", help="the site's name, which its units are named after"
    )
    parser.add_argument("--force", action="store_true", help="also remove files that were changed")
    parser.add_argument(
        "--user-manager",
        action="store_true",
        help="uninstall from the calling user's service manager",
    )
    add_root(parser, "the root directory of the image that was given to install")


def run(args: argparse.Namespace) -> int:
    """Stop and disable the units, remove the files, and print what was removed."""
    from sdactivate.cli.install import say
    from sdactivate.install.image import refuse_missing
    from sdactivate.install.install import uninstall
    from sdactivate.install.manager import Manager

    refuse_missing(args.root)
    manager = Manager(args.root.resolve(), args.user_manager)
    manager.require_root()
    name = checked_name(args.name)
    with manager.alone(say):
        removed = uninstall(manager, name, args.force, say)
    for path in removed:
        print(path)
    return 0
