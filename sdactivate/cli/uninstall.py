"""sdactivate uninstall: remove what install wrote."""

import argparse

from sdactivate.cli.gen import checked_name
from sdactivate.cli.install import add_root

SUMMARY = "remove what install wrote, and nothing else"

EXAMPLES = """\
examples:
  sudo sdactivate uninstall mysite
  sdactivate uninstall mysite --root image
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate uninstall`."""
    parser.add_argument("name", metavar="NAME", help="what the site's units are called")
    parser.add_argument("--force", action="store_true", help="remove changed files, too")
    parser.add_argument(
        "--user-manager", action="store_true", help="from the calling user's own manager"
    )
    add_root(parser, "an image's root, as it was given to install")


def run(args: argparse.Namespace) -> int:
    """Stop, disable, remove; print what was removed."""
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
