"""Run one command as a site's user in its sandbox, with the caller's terminal or pipes."""

import os
import secrets
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from sdactivate.errors import Error, UsageError
from sdactivate.operate import transient
from sdactivate.systemd import names
from sdactivate.systemd.journal import matches_of
from sdactivate.systemd.unitfile import Unit

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The signals that are passed on to the command."""

_PLAIN_TERMINAL = {"SYSTEMD_ADJUST_TERMINAL_TITLE": "0", "SYSTEMD_TINT_BACKGROUND": "0"}
"""systemd-run(1) leaves the terminal's title and colours alone; its title is the whole command."""

_NOT_STARTED = range(200, 246)
"""Exit codes that tell at which step systemd failed to start the command: systemd.exec(5)."""


def require_systemd() -> None:
    """Raise Error if no transient unit can be made: without systemd, or without root."""
    if not os.path.isdir("/run/systemd/system") or not shutil.which("systemd-run"):
        raise Error(
            "systemd does not run here, and only systemd can run a command in a site's sandbox. "
            "Without systemd use `sdactivate launch` with --run-as and --chdir"
        )
    if os.geteuid():
        raise Error("only root can run a command as a site: use sudo")


def run(
    unit: Unit,
    command: Sequence[str],
    *,
    network: bool = False,
    writable: Sequence[str] = (),
    more: Sequence[str] = (),
    watch: Callable[[str], None] | None = None,
    output: int | None = None,
    say: Callable[[str], None],
) -> int:
    """Run `command` with the environment and sandbox of the service `unit`; return its exit code.

    network: it may connect to other machines, even if the service may not. writable: absolute paths
    that it may write to besides those of the service. If standard input, output and error all are
    a terminal, it gets a terminal, otherwise the caller's streams. Signals that would end this
    process are passed on to it. `say` gets systemd's reason if it could not start the command.

    more: properties after those of the unit, NAME=VALUE. watch: called with the name of the
    command's own unit, whose processes wait until they are traced, up to 30 seconds; an exception
    that it raises stops the command. output: a descriptor for standard output instead of the
    caller's.

    Raises UsageError for a writable path that does not exist.
    """
    for path in writable:
        if not os.path.exists(path):
            raise UsageError(
                f"--writable {path!r}: there is no such path; create it first, owned by the site's "
                f"user{f' {user}' if (user := unit.value('User')) else ''}"
            )
    name = f"{_label(unit)}-run-{secrets.token_hex(4)}.service"
    terminal = output is None and all(_is_terminal(number) for number in (0, 1, 2))
    argv = transient.command_line(
        unit,
        command,
        name,
        more=[
            *(transient.with_need("network") if network else ()),
            *(f"ReadWritePaths={transient.quoted(path)}" for path in writable),
            *more,
        ],
        before=transient.UNTIL_TRACED if watch else (),
        terminal=terminal,
        description=f"{unit.name.removesuffix('.service')}: a command of sdactivate run",
    )
    given = [None if _is_given(number) else subprocess.DEVNULL for number in (0, 1, 2)]
    with _terminal_restored(terminal), _passed_on(name) as began:
        process = subprocess.Popen(  # noqa: S603 - built here, without a shell
            argv,
            stdin=given[0],
            stdout=given[1] if output is None else output,
            stderr=given[2],
            # In its own session, so that a ^C meant for the command does not end systemd-run.
            start_new_session=not terminal,
            env={**os.environ, **_PLAIN_TERMINAL} if terminal else None,
        )
        began(process)
        if watch:
            try:
                watch(name)
            except BaseException:
                _systemctl("stop", name)
                process.wait()
                raise
        code = process.wait()
    if code < 0:  # systemd-run itself was killed, so nothing waits for the command any more
        _systemctl("stop", name)
        return 128 - code
    if code in _NOT_STARTED:
        for line in _reasons(name):
            say(line)
    return code


def _label(unit: Unit) -> str:
    """The site's name as a prefix for another unit's name: mysite-one for mysite@one.service."""
    label = unit.name.removesuffix(".service").replace("@", "-")
    return label[: names.UNIT_NAME_MAX - len("-run-12345678.service")]


def _is_given(number: int) -> bool:
    """Whether this process inherited the descriptor: one that it opened is not inheritable."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:
        return False


@contextmanager
def _terminal_restored(terminal: bool) -> Iterator[None]:
    """Restore the terminal's settings at the end: a killed systemd-run leaves it in raw mode."""
    before = termios.tcgetattr(0) if terminal else None
    try:
        yield
    finally:
        if before is not None:
            with suppress(termios.error):  # it may be gone
                termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _passed_on(name: str) -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """Pass signals on to the unit `name`, or to the given process while the unit does not run."""
    waiting: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not _systemctl("kill", f"--signal={number}", name):
            for process in waiting:  # the unit has not begun, or has ended
                process.terminate()

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        yield waiting.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _systemctl(*words: str) -> bool:
    argv = ["systemctl", *words]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 - our own words and a unit's name
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False
        )
        return done.returncode == 0
    return False


def _reasons(name: str) -> list[str]:
    """Return the lines that say why systemd could not start the unit `name`; [] if it did."""
    argv = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        "--lines=20",
        *matches_of([name]),
    ]
    try:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["journalctl", "--sync"], timeout=10, check=False)  # noqa: S607
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode(errors="replace").splitlines()
    failed = [number for number, line in enumerate(lines) if "Failed at step" in line]
    if not failed:
        return []
    return [line for line in lines[: failed[-1] + 1] if "ailed" in line]
