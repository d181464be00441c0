"""sdactivate reload: send HUP to a serving process, and wait for the outcome."""

import argparse
import re

from sdactivate.errors import Error, UsageError

SUMMARY = "let a serving process bring new code in, and wait for it"

EXAMPLES = """\
examples:
  after the new release is in place:
    systemctl reload mysite

  which runs, as ExecReload= of the service that `sdactivate gen` writes, and as its user:
    sdactivate reload 4711          ($MAINPID)

A successor of the serving process imports the application. When it serves, the old process
finishes what it has accepted and leaves. If it can't be imported the old code serves on, and the
reload fails; `systemctl status` and the journal have the reason.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("pid", help="the main process of the service")
    parser.add_argument(
        "--timeout",
        default="80",
        metavar="SECONDS",
        help="give up waiting after so long (default: 80); the reload then goes on",
    )


def run(args: argparse.Namespace) -> int:
    """Send HUP to the process and wait for its answer."""
    from sdactivate.runtime.reload_result import ask
    from sdactivate.settings import seconds

    # kill(2) takes 0 and negative numbers for groups of processes, or for all
    if not re.fullmatch("0*[1-9][0-9]{0,8}", args.pid, re.ASCII):
        raise UsageError(f"PID {args.pid!r}: not the number of a process")
    pid = int(args.pid)
    try:
        patience = seconds(args.timeout)
    except ValueError as error:
        raise UsageError(f"--timeout {args.timeout!r}: {error}") from None
    try:
        succeeded = ask(pid, patience)
    except ProcessLookupError:
        raise Error(f"there is no process {pid} (any more)") from None
    except PermissionError:
        raise Error(
            f"process {pid} is another user's: use `systemctl reload`, which runs this "
            f"command as the right one. Without systemd `kill -HUP {pid}` lets it reload, and its "
            "log tells how that went"
        ) from None
    if succeeded is None:
        raise Error(
            f"process {pid} has not answered within {patience:g} s; the reload may still "
            "come about: systemctl status tells"
        )
    if not succeeded:
        raise Error("the new code does not serve, the old code does; systemctl status tells why")
    return 0
