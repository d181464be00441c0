"""sdactivate release: build a release, let it prove itself, and switch the site to it."""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

from sdactivate.errors import Error, UsageError, option_value

SUMMARY = "build a release of a site, prove that it works, and serve it"

USAGE = """\
sdactivate release NAME SOURCE [--ref TEXT] [--before COMMAND] [--after COMMAND]
                          [--find-links DIR] [--no-index] [--keep COUNT] …"""

EXAMPLES = """\
examples:
  git archive HEAD | sudo sdactivate release mysite -
  git archive v1.4 | sudo sdactivate release mysite - --ref v1.4
  sudo sdactivate release mysite /home/alice/mysite
  sudo sdactivate release mysite mysite-1.4.tar.gz --find-links /srv/wheels --no-index
  sudo sdactivate release mysite . --before 'npm run build' --network

The release is built in /srv/NAME/releases by a user of its own, and belongs to root then. It is
imported, checked and migrated in the site's sandbox, before the link /srv/NAME/current and the
running service are switched to it. If anything fails, the release that was served goes on serving.

The site's unit runs in that link:
  sudo sdactivate install mysite --group www-data --app mysite.wsgi:application \\
      --chdir /srv/mysite/current --python /srv/mysite/current/.venv/bin/python
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate release`."""
    parser.add_argument("name", metavar="NAME", help="what the site's units are called")
    parser.add_argument(
        "source", metavar="SOURCE", help="a directory, a tar, or - for a tar on standard input"
    )
    parser.add_argument(
        "--ref",
        default="",
        metavar="TEXT",
        help="what the release was made of (default: the commit that `git archive` has noted)",
    )
    parser.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a line of shell for the build, before static files are collected; repeatable",
    )
    parser.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a line of shell in the site's sandbox, after the migrations; repeatable",
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="let --before and collectstatic reach other machines",
    )
    parser.add_argument(
        "--build-env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for the build, besides those of the unit; repeatable",
    )
    parser.add_argument(
        "--find-links",
        default="",
        metavar="DIR",
        help="look for packages in DIR, too",
    )
    parser.add_argument(
        "--no-index",
        action="store_true",
        help="fetch no package: --find-links has them all",
    )
    parser.add_argument(
        "--python",
        default=os.path.realpath(sys.executable),
        metavar="PATH",
        help="the interpreter for the environments (default: this command's)",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build the environment even if its requirements have not changed",
    )
    parser.add_argument(
        "--no-migrate", dest="migrate", action="store_false", help="run no migrations"
    )
    add_keep(parser)


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add the option that says how many releases are kept."""
    parser.add_argument(
        "--keep",
        default="5",
        metavar="COUNT",
        help="releases to keep (default: 5); one in use is never removed",
    )


def site_name(text: str) -> str:
    """Return a site's name, as typed. Raises UsageError for what can't be one."""
    from sdactivate.systemd.names import unit_name

    name = option_value("NAME", unit_name, text)
    if "\\" in name:
        raise UsageError(f"NAME {name!r}: a site that has releases has no '\\' in its name")
    return name


def require_root(what: str) -> None:
    """Raise Error for another user: releases are root's."""
    if os.geteuid():
        raise Error(f"{what} takes root, whose the releases are: use sudo")


def alone_with_signals() -> None:
    """Undo what was done where SIGINT, SIGTERM or SIGHUP comes."""
    from sdactivate.cli.install import SIGNALS, interrupt

    for number in SIGNALS:
        signal.signal(number, interrupt)


def _path(option: str, text: str) -> str:
    from sdactivate.values import absolute_path

    return option_value(option, absolute_path, text)


def run(args: argparse.Namespace) -> int:
    """Make a release and switch to it, or leave everything as it was."""
    from sdactivate.operate.environment import find_uv
    from sdactivate.operate.release import Asked, release
    from sdactivate.values import variable

    name = site_name(args.name)
    if not re.fullmatch("[1-9][0-9]{0,3}", args.keep, re.ASCII):
        raise UsageError(f"--keep {args.keep!r} is not a whole number of at least 1")
    environ = [option_value("--build-env", variable, text) for text in args.build_env]
    python = _path("--python", args.python)
    wheels = ""
    if args.find_links:
        wheels = _path("--find-links", os.path.abspath(args.find_links))
        if not os.path.isdir(wheels):
            raise UsageError(f"--find-links {args.find_links!r} is not a directory")
        if not re.fullmatch("[^:\\s\\\\\"']+", wheels):
            raise UsageError(f"--find-links {wheels!r}: remove ':', quotes or spaces from the path")
    elif args.no_index:
        raise UsageError("--no-index: say by --find-links DIR where the packages are")
    source = None
    if args.source != "-":
        source = Path(os.path.abspath(args.source))
        if not source.exists():
            raise UsageError(
                f"SOURCE {args.source!r}: not there; a directory, a tar, or - for standard input"
            )
    elif sys.stdin is None or sys.stdin.isatty():
        raise UsageError("SOURCE -: standard input is a terminal; pipe a tar: git archive HEAD |")
    if len(args.ref) > 200 or not args.ref.isprintable():
        raise UsageError(f"--ref {args.ref[:80]!r} is not at most 200 printable characters")
    require_root("a release")
    alone_with_signals()
    release(
        Asked(
            name,
            source,
            python,
            ref=args.ref,
            find_links=wheels,
            no_index=args.no_index,
            uv=find_uv(),
            before=tuple(args.before),
            after=tuple(args.after),
            build_env=tuple(environ),
            network=args.network,
            migrate=args.migrate,
            rebuild=args.rebuild,
            keep=int(args.keep),
        )
    )
    return 0
