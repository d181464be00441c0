"""sdactivate reload: load new code into a site, and say whether it serves."""

import argparse
import re

from sdactivate.errors import Error, UsageError, option_value

SUMMARY = "load new code into a running site, and say whether it works"

EXAMPLES = """\
examples:
  after new code is in place:
    sudo sdactivate reload mysite

  which runs `systemctl reload mysite.service`. ExecReload= of a service that `sdactivate gen`
  writes, and the run scripts of other supervisors, give the PID of the main process instead:
    sdactivate reload 4711          ($MAINPID)

A new process imports the application. When it is ready and serves, the old process finishes the
requests that it has accepted and exits. If the application can't be imported, the old code goes on
serving, and the reload fails and prints the reason.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("site", metavar="NAME", help="the site, or the PID of its main process")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        help="with a PID: stop waiting after this long (default: 80 s); the reload itself goes on",
    )


def run(args: argparse.Namespace) -> int:
    """Reload, and wait for the outcome."""
    if re.fullmatch("-?[0-9]+", args.site, re.ASCII):
        _process(args.site, args.timeout or "80")
    elif args.timeout is not None:
        raise UsageError("--timeout is only for a PID; for a site set TimeoutStartSec= in its unit")
    else:
        _site(args.site)
    return 0


def _site(name: str) -> None:
    from sdactivate.operate import switch
    from sdactivate.systemd.names import unit_name

    site = option_value("NAME", unit_name, name.removesuffix(".service"))
    switch.reload(f"{site}.service")


def _process(number: str, timeout: str) -> None:
    from sdactivate.runtime.reload_result import ask
    from sdactivate.settings import seconds

    # To kill(2), 0 and negative numbers mean process groups or all processes
    if not re.fullmatch("0*[1-9][0-9]{0,8}", number):
        raise UsageError(f"{number}: not a process's PID or a site's name")
    pid = int(number)
    try:
        patience = seconds(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout {timeout!r} {error}") from None
    try:
        succeeded = ask(pid, patience)
    except ProcessLookupError:
        raise Error(f"there is no process {pid}, or it has exited") from None
    except PermissionError:
        raise Error(
            f"process {pid} belongs to another user: use `sdactivate reload NAME` as root. "
            f"Without systemd, reload it by `kill -HUP {pid}` and read the result in its log"
        ) from None
    if succeeded is None:
        raise Error(
            f"process {pid} did not answer within {patience:g} s; the reload may still succeed: "
            "see `systemctl status`"
        )
    if not succeeded:
        raise Error(
            "the new code failed, and the old code still serves; see `systemctl status` for the "
            "reason"
        )
