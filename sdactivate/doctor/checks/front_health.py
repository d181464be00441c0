"""Checks on the running system: a front that has failed, or that takes the site for failed."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

from sdactivate.doctor.checks.front_requests import logged_since_change
from sdactivate.doctor.checks.front_ways import ways
from sdactivate.doctor.doors import holder
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import InstalledFront

_SECONDS = 20
_REASONS = re.compile(
    r"\[emerg\]|\[alert\]|\[ALERT\]|Syntax error|AH\d{5}: .*[Ii]nvalid|Invalid command|"
    r"\(configfile\.c|does not exist|failed \(98"
)
_STAMP = re.compile(r"^(?:nginx: |[\d/]+ [\d:]+ )|\b\d+#\d+: ")
_CERTIFICATE = re.compile(r"cannot load certificate(?: key)? \"(?P<path>[^\"]+)\".*No such file")
_PREFIX = re.compile(r"invalid URL prefix in (?P<file>[^:\s]+):(?P<line>\d+)")


def front_failed(case: Case) -> Iterator[Hit]:
    """A front that should serve the site, and whose unit has failed."""
    found = {it.installed.packaging.unit: it for it in ways(case)}
    if any(it.installed.workers for it in found.values()):
        return
    for unit, way in found.items():
        if case.running.property(unit, "ActiveState") != "failed":
            continue
        title = way.installed.front.title
        reason = _reason(case, way.installed)
        command = way.installed.packaging.tested or way.installed.front.check
        yield Hit(
            unit,
            f"{title} has failed, so that nothing serves the site: {reason or 'see its log'}",
            Advice(
                _fix(reason, partial(_get_free, case))
                or f"correct this, until `{command}` finds nothing"
            ),
            way.unit,
            then=f"systemctl start {unit}",
        )


def _reason(case: Case, installed: InstalledFront) -> str:
    """What a front's own check of its configuration says, or else its log."""
    unit, look = installed.packaging.unit, partial(_checked, installed)
    ran = not installed.front.checks_as_itself
    said = case.running.machine.once(("checked", unit), look) if ran else ""
    if said:
        return said
    why = case.running.why(unit)
    return why.said if why else ""


def _checked(installed: InstalledFront) -> str:
    argv = shlex.split(installed.packaging.tested or installed.front.check)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if not done.returncode:
        return ""
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    told = [place for place, line in enumerate(lines) if _REASONS.search(line)]
    if not told:
        return lines[-1].strip() if lines else ""
    first = _STAMP.sub("", lines[told[0]].strip())
    # Apache has the reason in the line after the place
    after = lines[told[0] + 1].strip() if first.endswith(":") and lines[told[0] + 1 :] else ""
    return f"{first} {after}".strip()


_IN_USE = re.compile(r"address already in use|could not bind|cannot bind", re.IGNORECASE)
_PORT = re.compile(r":(\d+)\b")


def _fix(reason: str, get_free: Callable[[int], str]) -> str:
    if _IN_USE.search(reason) and (ports := _PORT.findall(reason)):
        return get_free(int(ports[-1]))
    if found := _CERTIFICATE.search(reason):
        return f"create the certificate at {found['path']}, or correct its path"
    if found := _PREFIX.search(reason):
        return f"write http:// before the address in {found['file']}, line {found['line']}"
    return ""


def _get_free(case: Case, port: int) -> str:
    """Return how a port gets free that another program listens on; "" if it is not known."""
    process = holder(case.running, port)
    if process is None:
        return ""
    if process.unit in ("", "init.scope"):
        return f"stop the program that listens on port {port} (PID {process.pid}), or use another"
    return (
        f"{process.unit} listens on port {port}: stop it if it is not needed "
        f"(systemctl disable --now {process.unit}), or use another port"
    )


# -- health checks ---------------------------------------------------------------------------------

_DOWN = re.compile(
    r"Server (?P<name>\S+/\S+) is (?P<state>DOWN|UP)(?:, reason: (?P<reason>[^,]*))?"
)
_CODE = re.compile(r"code: (\d{3})")


def check_fails(case: Case) -> Iterator[Hit]:
    """HAProxy's check of a server that answers, but not as the check expects."""
    for way in ways(case):
        if way.front != "haproxy":
            continue
        lines = logged_since_change(case, way.installed)
        events = [(it, line) for line in lines if (it := _DOWN.search(line))]
        own = [(it, line) for it, line in events if it["name"] == way.upstream.server]
        if not own or own[-1][0]["state"] != "DOWN":
            continue
        last, line = own[-1]
        if not (last["reason"] or "").startswith("Layer7"):
            continue
        code = _CODE.search(line)
        answered = f" ({code[1]})" if code else ""
        yield Hit(
            way.installed.packaging.unit,
            f"HAProxy takes the server of {way.place} for down, and answers 503: its check was not "
            f"answered as it expects{answered}: {last['reason']}",
            Advice(
                f"have the check of {way.place} ask for a path that is answered with 2xx or 3xx, "
                "and by a name that the application serves: http-check send meth GET uri / hdr "
                "Host NAME below option httpchk (Django: a NAME of ALLOWED_HOSTS)"
            ),
            way.unit,
            then=way.renewed,
        )
