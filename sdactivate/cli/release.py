"""sdactivate release: build a release, check that it works, and switch the site to it."""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

from sdactivate.errors import Error, UsageError, option_value

SUMMARY = "build a release of a site, check that it works, and serve it"

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

A build user of its own builds the release in /srv/NAME/releases; then root owns it. It is imported,
checked and migrated in the site's sandbox, before the link /srv/NAME/current and the running
service are switched to it. If a step fails, the current release goes on serving.

The site's unit uses that link:
  sudo sdactivate install mysite --group www-data --app mysite.wsgi:application \\
      --chdir /srv/mysite/current --python /srv/mysite/current/.venv/bin/python
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate release`."""
    parser.add_argument(
        "name", metavar="NAME", help="the site's name, which its units are named after"
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a directory, a tar file, or - for a tar on standard input"
    )
    parser.add_argument(
        "--ref",
        default="",
        metavar="TEXT",
        help="name of the revision, to show (default: the commit that `git archive` recorded)",
    )
    parser.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a shell command for the build, before static files are collected; repeatable",
    )
    parser.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a shell command in the site's sandbox, after the migrations; repeatable",
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
        help="an environment variable for the build, in addition to the unit's; repeatable",
    )
    parser.add_argument(
        "--find-links",
        default="",
        metavar="DIR",
        help="also look for packages in DIR",
    )
    parser.add_argument(
        "--no-index",
        action="store_true",
        help="download no packages: take all from --find-links",
    )
    parser.add_argument(
        "--python",
        default=os.path.realpath(sys.executable),
        metavar="PATH",
        help="the interpreter to make the virtual environments with (default: this command's)",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build the virtual environment even if the requirements have not changed",
    )
    parser.add_argument(
        "--no-migrate", dest="migrate", action="store_false", help="run no migrations"
    )
    add_keep(parser)


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add --keep, the number of releases to keep."""
    parser.add_argument(
        "--keep",
        default="5",
        metavar="COUNT",
        help="releases to keep (default: 5); one in use is never removed",
    )


def site_name(text: str) -> str:
    """Return a site's name as typed. Raises UsageError if it can't be one."""
    from sdactivate.systemd.names import unit_name

    name = option_value("NAME", unit_name, text)
    if "\\" in name:
        raise UsageError(f"NAME {name!r}: a site with releases can't have '\\' in its name")
    return name


def require_root(what: str) -> None:
    """Raise Error unless root calls: only root can change releases."""
    if os.geteuid():
        raise Error(f"{what} needs root: use sudo")


def alone_with_signals() -> None:
    """Undo the work done so far when SIGINT, SIGTERM or SIGHUP arrives."""
    from sdactivate.cli.install import SIGNALS, interrupt

    for number in SIGNALS:
        signal.signal(number, interrupt)


def _path(option: str, text: str) -> str:
    from sdactivate.values import absolute_path

    return option_value(option, absolute_path, text)


def run(args: argparse.Namespace) -> int:
    """Build a release and switch to it, or leave everything unchanged."""
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
        raise UsageError("--no-index needs --find-links DIR, where the packages are")
    source = None
    if args.source != "-":
        source = Path(os.path.abspath(args.source))
        if not source.exists():
            raise UsageError(
                f"SOURCE {args.source!r}: no such file or directory; give a directory, a tar "
                "file, or - for standard input"
            )
    elif sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "SOURCE -: standard input is a terminal; pipe a tar into it: git archive HEAD |"
        )
    if len(args.ref) > 200 or not args.ref.isprintable():
        raise UsageError(f"--ref {args.ref[:80]!r}: write at most 200 printable characters")
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
