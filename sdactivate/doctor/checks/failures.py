"""Checks on the running system: what failed to start or keeps exiting, with the logged reason."""

import glob
import os
import time
from collections.abc import Iterator

from sdactivate.doctor import advice, refusals
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.bytecode import of_script
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit
from sdactivate.doctor.host_state import HostState
from sdactivate.doctor.last_start import Cause
from sdactivate.doctor.steps import STEPS
from sdactivate.doctor.units import services
from sdactivate.systemd.systemctl import one, show_all
from sdactivate.systemd.unitfile import Entry, Unit

_RESULTS = {
    "exit-code": "it failed with exit code",
    "signal": "it was killed by signal",
    "core-dump": "it crashed with signal",
    "timeout": "it was not ready, or did not stop, in time (TimeoutStartSec=, TimeoutStopSec=)",
    "watchdog": "it stopped sending WATCHDOG=1 (WatchdogSec=)",
    "oom-kill": "the kernel killed it because memory ran out (MemoryMax=)",
    "protocol": "it exited before it reported that it was ready (Type=)",
    "start-limit-hit": "it was started too often within the limit's interval (StartLimitBurst=)",
    "resources": "systemd couldn't start it",
}
# How often a service that is being restarted is checked, and the seconds between
_LOOKS, _BETWEEN_LOOKS = 40, 0.03
ANOTHER_COMMAND = "a command other than ExecStart= failed (ExecStartPre=, ExecStartPost=)"
_SAYS = "it says: "
_NOTIFYING = ("notify", "notify-reload")
_READ_BEFORE = ("EnvironmentFile", "LoadCredential", "LoadCredentialEncrypted")
_MOST_NAMED = 3  # lines of a unit that are quoted


def service_failed(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        reason = _failure(case.running, service.name) if "@." not in service.name else ""
        if reason:
            yield _failed(case.running, service, reason)


def missing_files(case: Case) -> Iterator[Hit]:
    """Files that systemd reads before it starts a service. SDA110 covers services that failed."""
    host = case.running
    for service in common.services(case.service):
        if "@." in service.name or _failure(host, service.name):
            continue
        runs = host.property(service.name, "ActiveState") == "active"
        when = (
            "the service is running, but can't be started again"
            if runs
            else "the service can't be started"
        )
        for entry in _missing(service, *_READ_BEFORE):
            fix = "environment" if entry.key == "EnvironmentFile" else "CREDENTIALS"
            yield Hit(
                entry,
                f"a file that this line names is missing: {when}",
                _fix(service, Cause("", fix, "")) or Advice("create the file"),
            )


def background_worker(case: Case) -> Iterator[Hit]:
    """Background workers: units with PartOf= the site's socket unit."""
    host = case.running
    for socket in case.sockets:
        if "@." in socket.name or host.property(socket.name, "ActiveState") != "active":
            continue
        for name in services(host.property(socket.name, "ConsistsOf")):
            if case.service and name == case.service.name:
                continue
            if reason := _failure(host, name):
                hit = _failed(host, Unit(name, [], []), reason)
                yield hit._replace(because=f"{name}: {hit.because}")
            elif host.property(name, "ActiveState") == "inactive" and (
                host.property(name, "UnitFileState") in ("enabled", "generated")
            ):
                yield Hit(
                    name,
                    f"{name} is enabled, but not running",
                    Command(("systemctl", "start", name)),
                )


def command_failed(case: Case) -> Iterator[Hit]:
    """Commands of the site, run by hand or by a timer: NAME-COMMAND.service."""
    host = case.running
    for name in host.machine.once("failed commands", _failed_commands):
        if name.startswith(f"{case.deployment.name}-") and (reason := _failure(host, name)):
            hit = _failed(host, Unit(name, [], []), reason)
            yield hit._replace(because=f"{name}: {hit.because}")


def _failed_commands() -> list[str]:
    """Return the failed services of Type=oneshot that no socket starts."""
    wanted = ("Id", "Type", "ActiveState", "TriggeredBy")
    return [
        one(it, "Id")
        for it in show_all(["*.service"], *wanted)
        if (one(it, "Type"), one(it, "ActiveState")) == ("oneshot", "failed")
        and ".socket" not in one(it, "TriggeredBy")
    ]


def _failed(host: HostState, service: Unit, reason: str) -> Hit:
    cause = host.why(service.name)
    fix: Fix = Command(("journalctl", "--unit", service.name, "--lines=50"))
    if cause is None:  # systemd knows the reason, but the journal does not have it yet
        return Hit(service.name, reason, advice.fix(reason, service) or fix)
    named = _named(service, cause)
    if cause.kind == "not-ready":
        said = f"; {common.server(service) or 'the program'} has not reported that it is ready"
    elif cause.kind:
        said = f"; the reason: {cause.said}{f' ({named})' if named else ''}"
    else:
        is_known = not cause.said or reason.startswith(_SAYS)
        said = "" if is_known else f"; its last log line: {cause.said}"
    known = advice.fix(cause.said, service) or advice.fix(reason, service)
    fix = _fix(service, cause) or known or fix
    return Hit(service.name, reason + said, fix, path=cause.path)


def _named(service: Unit, cause: Cause) -> str:
    """Return the unit's lines that a cause is about, if they add information."""
    entries: list[Entry] = []
    if cause.kind == "environment":
        entries = _missing(service, "EnvironmentFile")
    elif cause.kind == "CREDENTIALS":
        entries = _missing(service, *_READ_BEFORE[1:])
    elif cause.kind == "EXEC" and (interpreter := _missing_interpreter(cause.path)):
        return f"its first line names {interpreter}, which doesn't exist"
    elif refused := refusals.refusal(cause.said, service):
        return f"{refused.directive}= refuses {refused.what}"
    elif step := next((it for it in STEPS.values() if it.name == cause.kind), None):
        held = [service.entries_of(key) for key in step.directives]
        if cause.path:
            entries = [it for lines in held for it in lines if cause.path in it.value]
        else:
            entries = [lines[-1] for lines in held if lines]
    return ", ".join(map(str, entries[:_MOST_NAMED]))


def _missing(service: Unit, *keys: str) -> list[Entry]:
    """Return the lines that name a missing file."""
    found = []
    for entry in (it for key in keys for it in service.entries_of(key)):
        name = entry.value if entry.key == "EnvironmentFile" else entry.value.partition(":")[2]
        path = common.resolve(name, service)
        if path.startswith("/") and not glob.glob(path):  # with "-" before it, the file is optional
            found.append(entry)
    return found


def _missing_interpreter(program: str) -> str:
    """Return the interpreter of a script if it is missing and the script exists."""
    named = of_script(program)
    return named if named and not os.path.exists(named) else ""


def _fix(service: Unit, cause: Cause) -> Fix | None:
    if cause.kind == "not-ready" and service.value("Type") in _NOTIFYING:
        return Advice(
            "set Type=exec if the program does not tell systemd when it is ready (sd_notify(3)); "
            f"else find out what it waits for: journalctl --unit {service.name}"
        )
    if refused := refusals.refusal(cause.said, service):
        return refused.fix
    if cause.kind == "environment":
        return Advice('create the file, or put "-" before its path to make it optional')
    if step := next((it for it in STEPS.values() if it.name == cause.kind), None):
        return Advice(step.fix)
    return None


def _failure(host: HostState, service: str) -> str:
    """Return why a service failed the last time, "" if it did not. Several rules use this."""
    return host.machine.once(("failure", service), lambda: _look_for_failure(host, service))


def _look_for_failure(host: HostState, service: str) -> str:
    # While systemd restarts it there is no result. The start fails within milliseconds and is
    # repeated after 0.1 s; in between there is a result with the reason.
    for _ in range(_LOOKS):
        result = host.property(service, "Result")
        if result not in ("success", "") or not _has_restarted(host, service):
            break
        time.sleep(_BETWEEN_LOOKS)
        host.look_again(service)
    status = host.property(service, "ExecMainStatus")
    if result not in ("success", ""):
        if result == "exit-code" and status in STEPS:
            return f"status={status}/{STEPS[status].name}: {STEPS[status].what}"
        if result == "exit-code" and status == "0":
            return ANOTHER_COMMAND
        if result == "timeout" and host.property(service, "Type") in _NOTIFYING:
            return "it was not ready, or did not stop, in time (Type=notify, TimeoutStartSec=)"
        said = _RESULTS.get(result, result)
        return f"{said} {status}" if said.endswith((" code", " signal")) else said
    if host.property(service, "StatusErrno") not in ("0", ""):  # sd_notify(3): ERRNO=
        return f"{_SAYS}{host.property(service, 'StatusText')}"
    if _is_restarting(host, service):
        restarts = host.property(service, "NRestarts")
        return f"it keeps exiting: systemd has restarted it {restarts} times"
    return ""


def _has_restarted(host: HostState, service: str) -> bool:
    """Return whether systemd is restarting a service, or has done so a moment ago.

    The journal may not have the lines yet that tell why.
    """
    restarts = host.property(service, "NRestarts")
    is_new = time.time() - host.began(service) < _LOOKS * _BETWEEN_LOOKS
    return _is_restarting(host, service) or (restarts not in ("0", "") and is_new)


def _is_restarting(host: HostState, service: str) -> bool:
    """Return whether systemd is restarting a service that has failed before.

    With Type=simple the service is active meanwhile, because it counts as ready at once.
    """
    if host.property(service, "NRestarts") in ("0", ""):
        return False
    state = host.property(service, "ActiveState")
    return state == "activating" or (state == "active" and host.keeps_failing(service))
