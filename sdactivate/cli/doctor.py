"""sdactivate doctor: find what is wrong with a deployment, why, and what fixes it."""

import argparse
import gc
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdactivate.doctor.asking import Visit
    from sdactivate.doctor.finding import Case, Finding

SUMMARY = "what is wrong with a deployment, why, and what fixes it"
EXAMPLES = """\
examples:
  sudo sdactivate doctor mysite                       the running system
  sudo sdactivate doctor mysite --fix                 fix what is safe to fix; ask each time
  sudo sdactivate doctor gunicorn.socket --html a.html
  sudo sdactivate doctor mysite --url https://www.example.com/login/
                                                      ask for a page that fails, and say where
  sdactivate doctor --offline units/                  examine unit files only, for CI
  sdactivate doctor --offline web.socket web.service --format sarif
  sdactivate doctor --offline web.socket --ignore SDA006
  sdactivate doctor --explain SDA102                  what a rule finds, and its symptoms
  sudo sdactivate doctor mysite --learn --while 'python manage.py test'
                                                      show what the sandbox refuses this command
  sudo sdactivate doctor mysite --learn --while 'python manage.py thumbnails' --apply
                                                      and allow it; ask each time
  sudo sdactivate doctor mysite --learn 30            watch the running site for 30 s; this slows it

A comment in a unit turns a rule off for that unit:
  # sdactivate: ignore=SDA006 only PHP of our own runs on this host
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate doctor`."""
    parser.add_argument(
        "targets",
        metavar="NAME|FILE",
        nargs="*",
        help="units of this system; with --offline: unit files",
    )
    parser.add_argument(
        "--offline", action="store_true", help="read unit files, with the drop-ins beside them"
    )
    parser.add_argument("--format", choices=("text", "json", "sarif"), default="text")
    parser.add_argument(
        "--ignore",
        metavar="RULE",
        action="append",
        default=[],
        help="do not report this rule: SDA006 (repeat, or separate by commas)",
    )
    parser.add_argument(
        "--explain", metavar="RULE", help="print what a rule finds and its symptoms: SDA102"
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="a page that fails: ask for it at the front and at the application, and compare",
    )
    parser.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="with --url: a header field to send (repeat): 'Accept-Language: de'",
    )
    parser.add_argument(
        "--fix", action="store_true", help="fix what is safe to fix; ask before each change"
    )
    parser.add_argument("--yes", action="store_true", help="with --fix, --learn: don't ask")
    parser.add_argument(
        "--html", metavar="FILE", help="write an HTML page with a drawing of a request's path"
    )
    learning = parser.add_argument_group("learn what the sandbox refuses the site: docs/learn.md")
    learning.add_argument(
        "--learn",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=60.0,
        help="watch the running site for this long (default 60), which slows it",
    )
    learning.add_argument(
        "--while",
        dest="command",
        metavar="COMMAND",
        help="watch this command instead, as the site's user in the site's sandbox",
    )
    learning.add_argument(
        "--apply",
        action="store_true",
        help="change the site's options so that the sandbox allows what it refused; ask first",
    )
    learning.add_argument(
        "--from",
        dest="sites",
        metavar="FILE",
        help="the sites file that --apply changes (default: the one in /etc/sdactivate)",
    )


def _seconds(text: str) -> float:
    from sdactivate import settings
    from sdactivate.errors import UsageError

    try:
        found = settings.seconds(text)
    except (UsageError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}; NAME goes before --learn") from None
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span of more than 0")
    return found


def run(args: argparse.Namespace) -> int:
    """Print the findings. Return 0 for none, 1 for some or if not all could be examined."""
    from sdactivate.doctor import report
    from sdactivate.doctor.examine import check_ids, misnamed
    from sdactivate.errors import Error, UsageError
    from sdactivate.terminal import show, tell

    if args.explain:
        from sdactivate.doctor import explain_rule

        show(explain_rule.as_text(explain_rule.find(args.explain)), end="")
        return 0
    if not args.targets:
        raise UsageError("NAME of a unit, or FILE with --offline, is missing; see --help")
    if args.learn is not None:
        from sdactivate.cli.doctor_learn import learn

        return learn(args)
    for name in ("command", "apply", "sites"):
        if getattr(args, name):
            option = {"command": "--while", "sites": "--from"}.get(name, f"--{name}")
            raise UsageError(f"{option} needs --learn")
    ignored = {rule for text in args.ignore for rule in text.replace(",", " ").split()}
    check_ids(ignored)
    if args.offline and args.fix:
        raise UsageError(
            "--fix changes the running system, which --offline doesn't examine: leave one out"
        )
    if args.url and (args.offline or len(args.targets) > 1):
        raise UsageError("--url asks the running site: give one NAME, and leave --offline out")
    if args.header and not args.url:
        raise UsageError("--header needs --url")
    if args.yes and not args.fix:
        raise UsageError("--yes needs --fix or --learn --apply")
    troubles: list[str] = []  # What could not be examined; the rest is examined all the same
    examined = _examined(args, ignored, troubles)
    cases = [case for case, _ in examined]
    unseen = [line for case in cases if case.host for line in case.host.unseen.values()]
    mistakes = [line for case in cases for line in misnamed(case)]
    for line in dict.fromkeys([*mistakes, *troubles, *unseen]):
        tell(f"sdactivate doctor: {line}")
    if not cases:
        return 1
    findings = [finding for _, found in examined for finding in found]
    if args.html:
        from sdactivate.doctor.html_page import write

        write(args.html, examined)
        tell(f"sdactivate doctor: wrote {args.html}")
    if args.format == "text":
        show(report.as_text(findings), end="")
    else:
        as_data = report.as_json if args.format == "json" else report.as_sarif
        print(json.dumps(as_data(findings), indent=2))
    if args.fix and findings:
        from sdactivate.doctor.fix import apply, asker

        def look() -> "list[Finding]":
            unexamined: list[str] = []
            again = _examined(args, ignored, unexamined)
            if new := [it for it in unexamined if it not in troubles]:
                raise Error(f"can't say which findings are fixed: {'; '.join(new)}")
            return [finding for _, found in again for finding in found]

        gone = apply(findings, asker(yes=args.yes), look)
        tell(f"sdactivate doctor: fixed {gone} of {len(findings)}")
    return 1 if findings or troubles else 0


def _examined(
    args: argparse.Namespace, ignored: "set[str]", troubles: list[str]
) -> "list[tuple[Case, list[Finding]]]":
    """Each requested deployment, with its current findings."""
    from sdactivate.doctor import units
    from sdactivate.doctor.examine import examine
    from sdactivate.doctor.finding import Case
    from sdactivate.doctor.host_state import HostState, Machine
    from sdactivate.systemd.loaded import tolerated

    if args.offline:
        cases = [Case(deployment) for deployment in units.offline(args.targets, troubles)]
    else:
        visit = _visited(args.url, args.header) if args.url else None  # before logs are read
        machine = Machine()
        units.prepare(args.targets, machine.units)
        found: dict[units.Deployment, None] = {}
        for name in args.targets:
            with tolerated(troubles):
                found[units.live(name, troubles, machine.units)] = None
        cases = [Case(deployment, HostState(deployment, machine), visit) for deployment in found]
    # All data read is kept until the end, so garbage collection finds nothing; with hundreds of
    # sites it takes a sixth of the time.
    gc.disable()
    try:
        return [(case, examine(case, ignored, troubles)) for case in cases]
    finally:
        gc.enable()


def _visited(url: str, fields: list[str]) -> "Visit":
    """Ask for the page of --url, and tell what came."""
    from sdactivate.doctor import asking
    from sdactivate.terminal import tell

    visit = asking.visit(asking.page(url, fields))
    for page, answer in visit.steps:
        tell(f"sdactivate doctor: GET {page}: {answer}")
    return visit
