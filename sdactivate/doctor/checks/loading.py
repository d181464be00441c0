"""Checks on the running system: units that systemd refuses, and services that nothing starts."""

import re
import subprocess
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit, Lines
from sdactivate.doctor.units import UNUSABLE
from sdactivate.systemd.unitfile import Entry, Unit, split

_SECONDS = 20
_AT = re.compile(r"(?P<file>/[^:]+):(?P<line>\d+): (?P<said>.+)")
# Messages that give no reason, and messages about lines that systemd ignores
_NO_REASON = re.compile(r"bad unit file setting|fatal error, unit will not|failed to load properly")
_PASSED_OVER = re.compile(r"[Ii]gnoring\.?$|, ignoring: ")
_QUOTES = "Unbalanced quoting"


def refused(case: Case) -> Iterator[Hit]:
    """Units that have a file but that systemd refuses to start."""
    host = case.running
    for unit in case.deployment.units:
        if host.property(unit.name, "LoadState") not in UNUSABLE:
            continue
        reason, fix = _reason(unit)
        started = case.sockets[0].name if case.sockets else unit.name
        yield Hit(
            unit,
            f"systemd refuses {unit.name}: {reason}",
            fix,
            then=f"systemctl daemon-reload && systemctl restart {started}",
        )


def _reason(unit: Unit) -> tuple[str, Fix]:
    lines = _verified(unit.name)
    placed = [it for it in map(_AT.match, lines) if it and it["file"] in unit.files]
    refusals = [it for it in placed if _QUOTES in it["said"] or not _PASSED_OVER.search(it["said"])]
    if refusals:
        last = refusals[-1]
        where = f"{last['file']}, line {last['line']}"
        return f"{last['said']} ({where})", Advice(f"correct {where}")
    own = [it.partition(": ")[2] for it in lines if it.startswith(f"{unit.name}: ")]
    said = [it.removesuffix(" Refusing.") for it in own if not _NO_REASON.search(it)]
    passed = "; ".join(f"{it['said']} (line {it['line']})" for it in placed)
    if said:
        more = f"; it has also ignored: {passed}" if passed else ""
        what = f"correct it in {unit.files[0] if unit.files else unit.name}"
        return said[-1] + more, Advice(what)
    command = ("systemd-analyze", "verify", unit.name)
    return passed or "systemd can't read it", Command(command)


def _verified(name: str) -> list[str]:
    """Return what `systemd-analyze verify` says about a unit; nothing if it isn't installed."""
    argv = ["systemd-analyze", "verify", "--man=no", name]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stderr.decode(errors="replace").splitlines()


def not_running(case: Case) -> Iterator[Hit]:
    """A service without a socket unit that was never started, or was stopped."""
    host = case.running
    for service in common.services(case.service):
        name = service.name
        if case.sockets or "@." in name or service.value("Type") == "oneshot":
            continue
        state, result = (host.property(name, it) for it in ("ActiveState", "Result"))
        if state != "inactive" or result not in ("success", "") or not common.server(service):
            continue
        if host.property(name, "LoadState") in UNUSABLE:
            continue
        yield _stopped(case, service)


_TOGETHER = 15  # seconds between the stops of units that stop together, at most
_STOPS_WITH = ("Requires", "BindsTo", "PartOf")


def _taken_along(case: Case, service: Unit) -> Entry | None:
    """Return the line because of which a service stopped together with another unit."""
    host, stopped = case.running, "InactiveEnterTimestampMonotonic"
    at = int(host.property(service.name, stopped) or 0)
    for entry in (it for key in _STOPS_WITH for it in service.entries_of(key, "Unit")):
        for other in split(entry.value.replace("\\", "\\\\")):
            when = int(host.property(other, stopped) or 0) if "%" not in other else 0
            if at and when and abs(when - at) <= _TOGETHER * 1_000_000:
                return entry
    return None


def _stopped(case: Case, service: Unit) -> Hit:
    if line := _taken_along(case, service):
        return Hit(
            line,
            f"it is not running: {line} stopped it together with that unit, and nothing has "
            "started it since",
            Advice(
                f"write Wants= instead of {line.key}= ({line.file}, line {line.line}): then the "
                "service keeps running when that unit restarts"
            ),
            then=f"systemctl daemon-reload && systemctl start {service.name}",
        )
    name, state = service.name, case.running.property(service.name, "UnitFileState")
    if state == "static":
        return Hit(
            service,
            "it is not running, and has no [Install] section: systemctl enable can't make it "
            "start at boot",
            Lines(name, "Install", ("WantedBy=multi-user.target",)),
            then=f"systemctl daemon-reload && systemctl enable --now {name}",
        )
    if state == "disabled":
        because = "it is not running, and is not enabled: nothing starts it at boot"
        return Hit(service, because, Command(("systemctl", "enable", "--now", name), True))
    return Hit(
        service,
        "it is not running: it was stopped, or it exited by itself",
        Command(("systemctl", "start", name), True),
    )
