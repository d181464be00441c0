"""The state of sites: what systemd knows of their units, and what their processes publish.

The processes are not contacted: `status_record` says what they publish and how root reads it. An
application can write anything there, so all values are bounded, and escaped when they are shown.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from sdactivate import status_record
from sdactivate.access import sock_diag
from sdactivate.errors import Error, UsageError
from sdactivate.status_record import BUCKETS, Record, percentile, utc
from sdactivate.systemd import cgroup
from sdactivate.systemd.systemctl import (
    Properties,
    addresses,
    listed,
    one,
    show,
    show_all,
    since_epoch,
)

_LINK = f"/memfd:{status_record.NAME} (deleted)"
_DESCRIPTORS = 8192  # the most that are examined of a process
_SERVES = re.compile(r"[ /]sdactivate(\.__main__)? serve ")
_UNSET = ("", "[not set]", "infinity", str(2**64 - 1))


class Helper(NamedTuple):
    """A unit beside the site's own: a background worker, a command, a timer."""

    unit: str
    state: str
    last: str = ""
    """For a timer: when it last ran, as systemctl shows it; empty: never."""
    next: str = ""
    """For a timer: when it runs next; empty: not scheduled, or unknown."""


class Status(NamedTuple):
    """One site. None or an empty value: unknown, or there is none."""

    name: str
    state: str
    """systemd's word: active, inactive, failed, activating …"""
    since: float | None = None
    """When the service started, in seconds of the epoch."""
    release: str | None = None
    """The directory that its main process runs in."""
    linked: str | None = None
    """Where the link in WorkingDirectory= leads, if that is another directory."""
    processes: int = 0
    workers: int | None = None
    threads: int | None = None
    busy: int | None = None
    requests: int | None = None
    failed: int | None = None
    failed_last_minute: int | None = None
    failed_last_hour: int | None = None
    p50: float | None = None
    p99: float | None = None
    measured: int = 0
    """The number of latest requests that p50 and p99 are computed from."""
    backlog: int | None = None
    backlog_limit: int | None = None
    reloaded: float | None = None
    """When the main process took over the service in a reload, in seconds of the epoch."""
    failed_reloads: int | None = None
    """The number of reloads that have failed since."""
    reason: str = ""
    """Why the last of these failed."""
    memory: int | None = None
    memory_limit: int | None = None
    background: tuple[Helper, ...] = ()
    timers: tuple[Helper, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        helpers = {
            "background": [each._asdict() for each in self.background],
            "timers": [each._asdict() for each in self.timers],
        }
        return {**self._asdict(), **helpers}


def status(name: str) -> Status:
    """Return the status of the site `name`.

    Raises Error if systemd has no such service, UsageError for a pattern of names.
    """
    if any(letter in name for letter in "*?["):
        raise UsageError(f"NAME {name!r} is a pattern; name one site")
    unit = f"{name}.service"
    found = show(unit, *_PROPERTIES)
    if one(found, "LoadState") != "loaded":
        raise Error(
            f"{name}: systemd has no {unit} ({one(found, 'LoadState')}); `sdactivate status` lists "
            "the existing sites"
        )
    background, timers = _beside(name)
    return _of(found)._replace(background=background, timers=timers)


def every() -> list[Status]:
    """Return all sites that sdactivate serves and systemd has loaded, without their helpers."""
    loaded = show_all(["*.service"], *_PROPERTIES)
    return [_of(found) for found in loaded if _SERVES.search(one(found, "ExecStart"))]


_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "ExecStart", "MainPID", "ControlGroup"),
    *("WorkingDirectory", "InactiveExitTimestampMonotonic", "MemoryCurrent", "MemoryMax"),
    "TriggeredBy",
)


def _number(found: Properties, name: str) -> int | None:
    text = one(found, name)
    return int(text) if text.isdecimal() and text not in _UNSET else None


def _of(found: Properties) -> Status:
    name = one(found, "Id").removesuffix(".service")
    made = Status(name, one(found, "ActiveState"))
    waiting, limit = _backlog(listed(one(found, "TriggeredBy")))
    made = made._replace(backlog=waiting, backlog_limit=limit)
    main = _number(found, "MainPID")
    if not main:
        return made
    directory = one(found, "WorkingDirectory").removeprefix("!")
    release, linked = _release(main, directory)
    pids = cgroup.processes(one(found, "ControlGroup"))
    made = made._replace(
        since=since_epoch(one(found, "InactiveExitTimestampMonotonic")),
        release=release,
        linked=linked,
        processes=len(pids),
        memory=_number(found, "MemoryCurrent"),
        memory_limit=_number(found, "MemoryMax"),
    )
    records = {pid: record for pid in pids if (record := read(pid)) is not None}
    return _published(made, records, main)


def _published(made: Status, records: dict[int, Record], main: int) -> Status:
    """Return `made` with what the main process publishes, and with sums over the workers."""
    if (own := records.get(main)) is None:
        return made
    counted = [own, *(record for record in records.values() if record.is_worker)]
    durations = tuple(sum(each.durations[number] for each in counted) for number in range(BUCKETS))
    now = int(time.monotonic())
    return made._replace(
        workers=own.workers,
        threads=own.threads,
        busy=own.busy,
        requests=own.requests,
        failed=own.errors,
        failed_last_minute=sum(each.seconds.since(now - 59) for each in counted),
        failed_last_hour=sum(each.minutes.since(now // 60 - 59) for each in counted),
        p50=percentile(durations, 0.5),
        p99=percentile(durations, 0.99),
        measured=sum(durations),
        reloaded=own.reloaded or None,
        failed_reloads=own.failed_reloads,
        reason=own.reason,
        backlog=made.backlog if made.backlog is not None else own.backlog,
    )


def _release(main: int, directory: str) -> tuple[str | None, str | None]:
    """Return where the main process runs, and where WorkingDirectory= leads if elsewhere."""
    try:
        runs = os.readlink(f"/proc/{main}/cwd")
    except OSError:
        return None, None
    leads = os.path.realpath(directory) if directory.startswith("/") else runs
    return runs, leads if leads != runs else None


def read(pid: int) -> Record | None:
    """Return what process `pid` publishes; None if it publishes nothing, or can't be read."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")[:_DESCRIPTORS]
    except OSError:
        return None
    for number in numbers:
        path = f"/proc/{pid}/fd/{number}"
        with suppress(OSError):
            if os.readlink(path) == _LINK and (record := _read(path)) is not None:
                return record
    return None


def _read(path: str) -> Record | None:
    """Return the record in the file behind a descriptor of another process."""
    # O_PATH first, which does not really open the file: opening a FIFO would block
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size != status_record.SIZE:
            return None
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)
    try:
        for _ in range(10):  # a write may be in progress
            if record := status_record.unpack(os.pread(fd, status_record.SIZE, 0)):
                return record
            time.sleep(0.001)
    finally:
        os.close(fd)
    return None


def _backlog(units: list[str]) -> tuple[int | None, int | None]:
    """Return how many connections wait in the unix sockets of these units, and how many can."""
    sockets = [unit for unit in units if unit.endswith(".socket")]
    if not sockets:
        return None, None
    with suppress(Error):
        shown = show_all(sockets, "Listen")
        paths = [path for each in shown for path in addresses(each) if path.startswith("/")]
        every = sock_diag.listeners()
        behind = [it for path in paths if (it := sock_diag.behind(path, every)) is not None]
        if behind:
            return sum(it.waiting for it in behind), sum(it.backlog for it in behind)
    return None, None


def _beside(name: str) -> tuple[tuple[Helper, ...], tuple[Helper, ...]]:
    """Return the background workers and timers of a site: units whose names begin with NAME-."""
    properties = (
        *("Id", "ActiveState", "SubState", "Type", "LastTriggerUSec", "NextElapseUSecRealtime"),
        *("NextElapseUSecMonotonic", "TriggeredBy"),
    )
    literal = name.replace("\\", "\\\\")  # glob(7)
    background, timers = [], []
    for found in show_all([f"{literal}-*.service", f"{literal}-*.timer"], *properties):
        unit = one(found, "Id")
        state = one(found, "ActiveState")
        if unit.endswith(".timer"):
            timers.append(
                Helper(
                    unit,
                    state,
                    _moment(one(found, "LastTriggerUSec")),
                    _moment(one(found, "NextElapseUSecRealtime"))
                    or _elapse(one(found, "NextElapseUSecMonotonic")),
                )
            )
        elif unit and one(found, "Type") != "oneshot" and not _is_site(found):
            background.append(Helper(unit, f"{state} ({one(found, 'SubState')})"))
    return tuple(background), tuple(timers)


def _is_site(found: Properties) -> bool:
    """Whether a service has its own socket: then it is another site with the same prefix."""
    return any(unit.endswith(".socket") for unit in listed(one(found, "TriggeredBy")))


def _moment(text: str) -> str:
    """Return a time that systemctl shows; "" for none."""
    return "" if text in ("n/a", "0") else text


_UNITS = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 0.001, "us": 1e-6}


def _elapse(text: str) -> str:
    """Return the time for a span since boot, as systemctl shows the span; "" for none."""
    parts = re.findall(r"([0-9.]+)(min|ms|us|w|d|h|s)\b", text)
    if not parts:
        return ""
    since_boot = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return utc(time.time() - time.monotonic() + since_boot)


def rows(sites: list[Status]) -> Iterator[dict[str, str]]:
    """Yield each site as the cells of a table."""
    for site in sites:
        yield {
            "name": site.name,
            "state": site.state,
            "since": utc(site.since) if site.since is not None else "",
            "requests": _shown(site.requests),
            "5xx/min": _shown(site.failed_last_minute),
            "5xx/h": _shown(site.failed_last_hour),
            "p50": duration(site.p50),
            "p99": duration(site.p99),
            "memory": size(site.memory),
            "release": site.release or "",
        }


def _shown(value: int | None) -> str:
    return "" if value is None else str(value)


def duration(seconds: float | None) -> str:
    """Return a duration with two significant digits."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else f"{seconds:.2f} s"


def size(value: int | None) -> str:
    """Return bytes as MiB."""
    return "" if value is None else f"{value / (1 << 20):.0f} MiB"


def _why_no_figures(site: Status) -> str:
    if os.geteuid():
        return "what they publish can't be read: use sudo"
    if site.state == "activating":
        return "no figures before the service has started"
    return "no figures: its server publishes none"


def text(site: Status) -> Iterator[str]:
    """Yield the lines about one site; they are not escaped."""
    began = f" since {utc(site.since)}" if site.since is not None else ""
    yield f"{site.name}: {site.state}{began}"
    if site.release:
        other = f" (WorkingDirectory= leads to {site.linked}: reload)" if site.linked else ""
        yield f"  release     {site.release}{other}"
    if site.workers is not None:
        yield (
            f"  processes   {site.processes}: {site.workers} serve, {site.threads} threads, "
            f"{site.busy} busy"
        )
        yield (
            f"  requests    {site.requests} since the last start or reload, {site.failed} failed; "
            f"5xx: {site.failed_last_minute} in the last minute, {site.failed_last_hour} in the "
            "last hour"
        )
        if site.measured:
            yield (
                f"  duration    p50 {duration(site.p50)}, p99 {duration(site.p99)} "
                f"(of the latest {site.measured} requests)"
            )
    elif site.processes:
        yield f"  processes   {site.processes}; {_why_no_figures(site)}"
    if site.backlog is not None:
        of = f" of {site.backlog_limit}" if site.backlog_limit is not None else ""
        yield f"  backlog     {site.backlog}{of}"
    if site.workers is not None:
        yield f"  reload      {_reload(site)}"
    if site.memory is not None:
        limit = f" of {size(site.memory_limit)}" if site.memory_limit is not None else ""
        yield f"  memory      {size(site.memory)}{limit}"
    for helper in site.background:
        yield f"  background  {helper.unit}: {helper.state}"
    for helper in site.timers:
        yield f"  timer       {helper.unit}: last {helper.last or '-'}, next {helper.next or '-'}"


def _reload(site: Status) -> str:
    done = f"at {utc(site.reloaded)}" if site.reloaded else "none since the start"
    if not site.failed_reloads:
        return done
    return f"{done}; {site.failed_reloads} failed since, the last one: {site.reason}"
