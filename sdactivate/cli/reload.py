"""sdactivate reload: bring new code in without a pause, and wait for the outcome."""

import argparse
import os
import signal
import subprocess
import time

from sdactivate.errors import Error

SUMMARY = "bring a site's new code in without a pause"

EXAMPLES = """\
examples:
  after the new release is in place:
    systemctl reload mysite

  which runs, as ExecReload= of the service that `sdactivate gen` writes:
    sdactivate reload --main-pid 4711 mysite.service

A successor of the serving process imports the application. When it serves, the old process
finishes what it has accepted and leaves. If it can't be imported the old code serves on, and the
reload fails with the reason.
"""

_POLL = 0.05
_FAILED = "reload failed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("unit", help="the service: mysite or mysite.service")
    parser.add_argument("--main-pid", type=int, metavar="PID", help="default: systemd is asked")
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="give up waiting after so long (default: 120); the reload then goes on",
    )


def run(args: argparse.Namespace) -> int:
    """Send HUP to the main process and wait until another one serves."""
    unit = args.unit if "." in args.unit else f"{args.unit}.service"
    main_pid, before = _state(unit)
    pid = args.main_pid or main_pid
    if not pid:
        raise Error(f"{unit} has no process: start it by a request, or with systemctl start {unit}")
    try:
        os.kill(pid, signal.SIGHUP)
    except (ProcessLookupError, PermissionError) as error:
        raise Error(f"process {pid} of {unit} can't be told to reload: {error.strerror}") from None
    end = time.monotonic() + args.timeout
    while time.monotonic() < end:
        time.sleep(_POLL)
        main_pid, status = _state(unit)
        if main_pid and main_pid != pid:
            return 0
        if not main_pid:
            raise Error(f"{unit} has ended; journalctl -u {unit} tells why")
        # Every failure has its number, so that an old one is not taken for a new one
        if status.startswith(_FAILED) and _number(status) != _number(before):
            raise Error(f"{status}; the old code serves on. journalctl -u {unit} has it in full")
    raise Error(f"{unit} has not reloaded after {args.timeout:g} s; systemctl status {unit} tells")


def _number(status: str) -> str:
    return status.partition("(")[2].partition(")")[0] if status.startswith(_FAILED) else ""


def _state(unit: str) -> tuple[int, str]:
    """Return the unit's MainPID (0: none) and StatusText, as systemd knows them."""
    command = ["systemctl", "show", "--property=MainPID,StatusText", "--", unit]
    try:
        found = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError:
        raise Error("there is no systemctl here; send HUP to the serving process instead") from None
    if found.returncode:
        raise Error(f"systemctl show {unit}: {found.stderr.strip() or found.returncode}")
    values = dict(line.partition("=")[::2] for line in found.stdout.splitlines())
    return int(values.get("MainPID") or 0), values.get("StatusText", "")
