"""Read units with their drop-ins: from files, or as systemd has loaded them."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdactivate.errors import Error, UsageError
from sdactivate.systemd.systemctl import Snapshot, listed, load_state, one, show
from sdactivate.systemd.unitfile import Parsed, Unit, parse

_NULL = os.makedev(1, 3)
_MOST = 1 << 20  # bytes; systemd's limit for a line (LONG_LINE_MAX), used here for a whole file


def loaded(name: str) -> Unit:
    """Return the one unit `name`, of any type, with its drop-ins, as systemd has loaded it.

    Raises Error if there is no such unit, or systemd can't be asked; UsageError for a template.
    """
    if "@." in name:
        raise UsageError(f"{name}: a template; name an instance of it, or the path of its file")
    if not is_loaded(name):
        raise Error(not_loaded(name))
    return read_loaded(name)


def read_loaded(
    name: str, troubles: list[str] | None = None, known: Snapshot | None = None
) -> Unit:
    """Return the unit `name`, which systemd has loaded, with its drop-ins.

    Raises Error if one of its files can't be read; for `troubles` see `read`. known: what systemd
    has said already.
    """
    properties = known.show(name) if known else show(name, "FragmentPath", "DropInPaths")
    paths = [one(properties, "FragmentPath"), *listed(one(properties, "DropInPaths"))]
    return read(name, [Path(path) for path in paths if path], troubles)


def is_loaded(name: str) -> bool:
    """Return whether systemd has loaded the unit `name`; False for ""."""
    return bool(name) and load_state(name) == "loaded"


def not_loaded(name: str) -> str:
    """Return the error message for a unit `name` that is not loaded: not-found, masked …"""
    return f"{name}: systemd has not loaded it ({load_state(name)})"


def read(name: str, files: Iterable[Path], troubles: list[str] | None = None) -> Unit:
    """Return the unit `name` made of `files`: its own first, then its drop-ins.

    Raises Error for a file that can't be read. If `troubles` is given, a drop-in that can't be read
    is skipped, and the error is appended to `troubles`.
    """
    parts: list[Parsed] = []
    have: list[str] = []
    for number, file in enumerate(files):
        with tolerated(troubles if number else None):
            parts.append(_parsed(file))
            have.append(str(file))
    return Unit(name, parts, have)


@contextmanager
def tolerated(troubles: list[str] | None) -> Iterator[None]:
    """Append an Error to `troubles`, if there is such a list; UsageError is always raised."""
    try:
        yield
    except UsageError:
        raise
    except Error as error:
        if troubles is None:
            raise
        troubles.append(str(error))


def _parsed(file: Path) -> Parsed:
    try:
        return parse(_text(file), str(file))
    except OSError as error:
        raise Error(f"{file}: can't be read: {error.strerror}") from None


def _text(file: Path) -> str:
    """The text of a unit file, "" for /dev/null (a mask). Raises Error for other kinds of file."""
    # O_NONBLOCK: opening a FIFO without a writer would block.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        status = os.fstat(opened.fileno())
        if status.st_rdev != _NULL and not stat.S_ISREG(status.st_mode):
            raise Error(f"{file}: not a regular file")
        raw = opened.read(_MOST + 1)
    if len(raw) > _MOST:
        raise Error(f"{file}: larger than {_MOST >> 20} MiB, the limit for a unit file")
    return raw.decode("utf-8", "replace")
