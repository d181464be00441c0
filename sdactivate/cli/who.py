"""sdactivate who: say who can connect to a socket, and why."""

import argparse
import json
from os.path import abspath

SUMMARY = "who can connect to a socket or read a file, and who can't"
EXAMPLES = """\
examples:
  sdactivate who /run/mysite.sock                      the accounts that matter on this host
  sdactivate who mysite                                the sockets of mysite.socket
  sdactivate who /run/mysite.sock --as www-data        one account; exit code 1 if it can't
  sdactivate who /run/mysite.sock --as :web            a user whose only group is web
  sudo sdactivate who /run/mysite.sock --prove         test by connecting as each of them
  sdactivate who /srv/mysite/staticfiles/a.css         who can read a file that a front serves
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate who`."""
    parser.add_argument("target", metavar="PATH|NAME", help="a socket or file, or a socket unit")
    parser.add_argument(
        "--as",
        dest="users",
        metavar="USER",
        action="append",
        default=[],
        help="ask about this account only: USER, USER:GROUP,… or :GROUP (repeat for several)",
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="test by connecting as each of them, in a child process",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Print who can connect. Return 1 if one of --as can't, or a test contradicts a verdict."""
    from sdactivate.access import who, who_report
    from sdactivate.access.accounts import asked, of_interest
    from sdactivate.access.processes import running
    from sdactivate.terminal import show

    addresses, service, site_user = _addresses(args.target)
    processes = [] if args.users else list(running())
    people = [asked(user) for user in args.users] or of_interest(processes, site_user)
    reports = [
        who.report(it, people, processes, proving=args.prove, own=service) for it in addresses
    ]
    if args.format == "json":
        print(json.dumps([who_report.as_json(report) for report in reports], indent=2))
    else:
        show("\n".join(map(who_report.as_text, reports)), end="")
    refused = args.users and any(
        answer.allowed is False for report in reports for _, answer in report.people
    )
    return 1 if refused or any(report.differs for report in reports) else 0


def _addresses(target: str) -> tuple[list[str], str, str]:
    """Return the addresses that the target names, their service and its user, if known."""
    from sdactivate.errors import Error, UsageError
    from sdactivate.systemd.systemctl import listed, listening, one, show

    if target[:1] in ("/", "@"):
        return [target], "", ""
    if "/" in target:
        raise UsageError(f"{target}: give the socket's absolute path: {abspath(target)}")
    if target.endswith(".service"):
        raise UsageError(
            f"{target}: give the name of a socket unit, since a service may have several"
        )
    unit = target if target.endswith(".socket") else f"{target}.socket"
    if not (addresses := list(listening(unit))):
        raise Error(f"{unit}: it accepts no connections, only datagrams, FIFOs or special files")
    triggers = listed(one(show(unit, "Triggers"), "Triggers"))
    service = triggers[0] if triggers else ""
    return addresses, service, one(show(service, "User"), "User") if service else ""
