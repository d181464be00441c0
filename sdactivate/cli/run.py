"""sdactivate run: run a command with a site's user, sandbox, environment and working directory."""

import argparse

from sdactivate.errors import UsageError, option_value

SUMMARY = "run a command as the site: its user, sandbox, environment"

USAGE = "sdactivate run NAME [--network] [--writable PATH]... -- COMMAND..."

EXAMPLES = """\
examples:
  sudo sdactivate run mysite -- python manage.py createsuperuser
  sudo sdactivate run mysite -- python manage.py shell
  sudo sdactivate run mysite -- python manage.py migrate
  sudo sdactivate run mysite -- python manage.py dumpdata --all > dump.json
  sudo sdactivate run mysite@one -- python manage.py check --deploy
  sudo sdactivate run mysite --network -- python manage.py fetch_rates
  sudo sdactivate run mysite --writable /srv/export -- python manage.py export

`python` is the interpreter that the service runs with. A program that is installed beside it
(django-admin, celery) is found by its name. For pipes and variables inside COMMAND, use `sh -c
'...'`. The exit code is the command's, or 128 + N if signal N ended it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate run`."""
    parser.add_argument(
        "name", metavar="NAME", help="the site, such as mysite or a template's mysite@one"
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="allow connections to other machines, even if the site's sandbox does not",
    )
    parser.add_argument(
        "--writable",
        metavar="PATH",
        action="append",
        default=[],
        help="a path that the command may write to, in addition to the site's own (repeat for "
        "several)",
    )
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="the command to run, with its arguments"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from sdactivate.operate import run, transient
    from sdactivate.terminal import tell
    from sdactivate.values import absolute_path

    writable = [option_value("--writable", absolute_path, path) for path in args.writable]
    if not args.command[0]:
        raise UsageError("COMMAND '' is empty: name a program, such as `python`")
    run.require_systemd()
    return run.run(
        transient.service_of(args.name),
        args.command,
        network=args.network,
        writable=writable,
        say=lambda line: tell(f"sdactivate run: {line}"),
    )
