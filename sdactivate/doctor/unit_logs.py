"""Read what units have logged, by journalctl(1); for many units in one pass.

A call of journalctl takes about 30 ms even if it finds nothing. So for hundreds of units one call
reads what all processes have logged, and the lines are sorted here. The call has no unit names as
arguments: journalctl would search the journal once for each (500 names: eight times as long). It
has no slices either: journald does not know the slice of a process that exited before it looked.

The length of a pass is limited (`MOST_ENTRIES`), because otherwise the unit that logs the most
would determine it. A unit for which the pass found too little is read by a call of its own. If
there are only a few units, each is read that way from the start.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Timer
from typing import Any

from sdactivate.doctor import text_file
from sdactivate.doctor.last_start import MOST_LINES, Line
from sdactivate.systemd.journal import matters

MOST_ENTRIES = 100_000
"""The number of journal entries that one pass reads at most: about three seconds."""
FEW = 8
"""Up to this many units are read one by one."""
_MOST = 2 * MOST_LINES
_SECONDS = 30
_OF_PROCESSES = tuple(f"_TRANSPORT={it}" for it in ("stdout", "journal", "syslog"))
_FIELDS = "MESSAGE,UNIT,INVOCATION_ID,_SYSTEMD_INVOCATION_ID,_SYSTEMD_UNIT,_PID,_UID,_COMM"


def journalctl(*options: str) -> list[str]:
    """Return the lines that journalctl prints; none without a journal or an answer."""
    argv = ["journalctl", *options]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return text_file.lines(done.stdout)


def of_unit(unit: str, since: float = 0) -> list[Line]:
    """Return the newest lines of one unit, in the order of time.

    since: the earliest time, in seconds since the epoch; 0 for all.
    """
    # Not by --unit: journald does not know the unit of a child that exited before it looked.
    which = (f"_SYSTEMD_UNIT={unit}", "+", f"UNIT={unit}", "_UID=0")
    # With --since, --lines are the first ones, unless the order is reversed.
    return newest_lines(journalctl(*_options(since), f"--lines={_MOST}", *which), _MOST)


def of_units(since: Mapping[str, float]) -> dict[str, list[Line]]:
    """Return the newest lines of many units, in the order of time.

    since: the earliest time for each unit, in seconds since the epoch. A unit whose lines could
    not all be read is left out.
    """
    found: dict[str, list[Mapping[str, Any]]] = {unit: [] for unit in since}
    options = _options(min(since.values(), default=0))
    left = MOST_ENTRIES
    oldest = float("inf")
    for entry in map(_parsed, _entries(*options, f"--lines={left}", *_OF_PROCESSES)):
        left -= 1
        oldest = _when(entry) or oldest
        for unit in _units(entry):
            if unit in found and len(found[unit]) < _MOST and oldest >= since[unit]:
                found[unit].append(entry)
    whole = left > 0
    return {
        unit: _newest(entries, _MOST)
        for unit, entries in found.items()
        if whole or len(entries) >= _MOST or oldest < since[unit]
    }


def _options(since: float) -> tuple[str, ...]:
    begin = (f"--since=@{since:.6f}",) if since else ()
    return (
        "--no-pager",
        "--quiet",
        "--output=json",
        f"--output-fields={_FIELDS}",
        "--reverse",
        *begin,
    )


def _entries(*options: str) -> Iterator[str]:
    """Yield the lines that journalctl prints as they arrive."""
    argv = ["journalctl", *options]
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603
    except OSError:
        return
    timer = Timer(_SECONDS, process.kill)
    timer.start()
    with process:
        try:
            assert process.stdout
            for line in process.stdout:
                yield line.decode(errors="replace")
        finally:
            timer.cancel()
            process.kill()


def _units(entry: Mapping[str, Any]) -> set[str]:
    """Return the units of an entry: the unit of its process, or the one that root named in UNIT."""
    named = {entry.get("_SYSTEMD_UNIT")}
    if entry.get("_UID") == "0":
        named.add(entry.get("UNIT"))
    return {it for it in named if isinstance(it, str)}


def _when(entry: Mapping[str, Any]) -> float:
    """Return when an entry was written, in seconds since the epoch; 0 if unknown."""
    with suppress(TypeError, ValueError):
        return int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6
    return 0


def newest_lines(entries: Iterable[str], most: int) -> list[Line]:
    """Return the lines of `entries` in the order of time. The entries are sorted newest first.

    If there are more than `most`, the older ones are left out.
    """
    return _newest(map(_parsed, entries), most)


def _newest(entries: Iterable[Mapping[str, Any]], most: int) -> list[Line]:
    found: list[Line] = []
    for entry in entries:
        found += reversed(_lines(entry))
        if len(found) >= most:
            break
    return found[:most][::-1]


def _parsed(written: str) -> dict[str, Any]:
    try:
        entry = json.loads(written)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_systemds(entry: Mapping[str, Any]) -> bool:
    """Return whether systemd logged an entry: PID 1, or its child before it executes the program.

    UNIT alone proves nothing: any process that writes to the journal can set it. The child reports
    which step failed, but by then has the user and the control group of the service. It is
    recognized by its name, which systemd puts in parentheses. Only a process that gives itself such
    a name on purpose can be mistaken for it.
    """
    if "UNIT" not in entry:
        return False
    name = entry.get("_COMM", "()")  # journald does not know it if the process has exited by then
    is_child = isinstance(name, str) and name.startswith("(") and name.endswith(")")
    return entry.get("_PID") == "1" or is_child


def _lines(entry: Mapping[str, Any]) -> list[Line]:
    """Return the last lines of a journal entry (systemd.journal-fields(7)), at most MOST_LINES.

    A message that is not text is a list of bytes; one that is too long is null.
    """
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        is_bytes = all(isinstance(it, int) and 0 <= it < 256 for it in message)
        message = bytes(message).decode(errors="replace") if is_bytes else None
    start = entry.get("INVOCATION_ID") or entry.get("_SYSTEMD_INVOCATION_ID") or ""
    if not isinstance(message, str) or not isinstance(start, str):
        return []
    by_systemd = _is_systemds(entry)
    texts = message.splitlines()[-MOST_LINES:]
    return [Line(it, by_systemd, start) for it in texts if not by_systemd or matters(it)]
