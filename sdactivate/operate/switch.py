"""Switch to another release: change the link, then reload the service, which must answer.

On `systemctl reload`, a new process imports the new release, and with --health answers a request,
while the old one serves. If it can't, the reload fails, the old process goes on serving, and the
link is restored. A stopped service is started, as a test.
"""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from sdactivate.errors import Error
from sdactivate.operate.layout import Layout
from sdactivate.operate.progress import note, step
from sdactivate.systemd.journal import matches_of, that_matter
from sdactivate.systemd.systemctl import RUNNING, ask, one, show, show_all

_Argument = TypeVar("_Argument")


def serving(layout: Layout, service: str) -> str:
    """Return the ID of the release whose directory the service's main process runs in; or ""."""
    pid = one(show(service, "MainPID"), "MainPID")
    return "" if pid in ("", "0") else layout.run_by(pid)


def others(layout: Layout) -> list[str]:
    """Return the other services that run in the site's release: background workers, instances.

    Services that run once (Type=oneshot) end by themselves.
    """
    found = []
    wanted = ("Id", "ActiveState", "Type", "WorkingDirectory")
    for unit in show_all(["*.service"], *wanted):
        directory = one(unit, "WorkingDirectory").lstrip("!")
        if (
            f"{directory}/".startswith(f"{layout.current}/")
            and one(unit, "Type") != "oneshot"
            and one(unit, "ActiveState") in RUNNING
            and one(unit, "Id") != f"{layout.name}.service"
        ):
            found.append(one(unit, "Id"))
    return sorted(found)


def switch(layout: Layout, identity: str, services: list[str]) -> str:
    """Make `current` lead to a release and `services` serve it; return the previous release.

    Raises Error if a service can't; then the link and the services are as before.
    """
    before = layout.linked()
    now = serving(layout, services[0]) if services else ""
    if now not in ("", before):
        note(f"{layout.current} led to {before or 'nothing'}, but {services[0]} serves {now}")
        before = now
    with ExitStack() as undo:
        undo.callback(_told(layout.link), before)
        with step(f"switch {layout.current} to {identity}"):
            layout.link(identity)
        # The site must answer before anything else stops; background workers finish their tasks
        # concurrently.
        for units in (services[:1], services[1:]):
            for verb, some in _by_verb(units).items():
                with step(f"{verb} {', '.join(some)}"):
                    _bring(verb, some, undo, layout, before)
        undo.pop_all()
    return before


def _told(act: Callable[[_Argument], None]) -> Callable[[_Argument], None]:
    """Wrap `act` for an undo: errors are reported, and the undo goes on."""

    def undo(argument: _Argument) -> None:
        try:
            act(argument)
        except (Error, OSError) as error:
            note(f"could not be undone: {error}")

    return undo


def _by_verb(services: list[str]) -> dict[str, list[str]]:
    """Group `services` by the systemctl(1) verb that makes each use a release."""
    found: dict[str, list[str]] = {}
    for service in services:
        shown = show(service, "ActiveState", "CanReload")
        state = one(shown, "ActiveState")
        if state not in RUNNING:
            verb = "start"
        else:  # a service that is still starting can't be reloaded
            can = one(shown, "CanReload") == "yes" and state != "activating"
            verb = "reload" if can else "restart"
        found.setdefault(verb, []).append(service)
    return found


def _bring(verb: str, services: list[str], undo: ExitStack, layout: Layout, before: str) -> None:
    changed = list(services)

    def back(units: list[str]) -> None:
        if units and verb == "start":
            systemctl("stop", units)
        elif units:
            layout.link(before)  # before they look
            systemctl(verb, units)

    undo.callback(_told(back), changed)
    try:
        systemctl(verb, services)
    except Error:
        if verb == "reload":  # nothing to undo if the old process still serves
            changed[:] = [
                unit for unit in changed if serving(layout, unit) != before or _reloads(unit)
            ]
        raise


def _reloads(service: str) -> bool:
    return "reloading" in one(show(service, "StatusText"), "StatusText")


def reload(service: str) -> None:
    """Reload a service, after a start that is under way. Raises Error as `systemctl` does.

    systemd merges a reload into a start and drops it, so the service would go on with the code
    that it has imported so far.
    """
    if one(show(service, "ActiveState"), "ActiveState") == "activating":
        systemctl("start", [service])  # joins the start, and waits for its end
    systemctl("reload", [service])


def systemctl(verb: str, units: list[str]) -> None:
    """Run a systemctl(1) command for units. Raises Error with the reason from their StatusText.

    The units limit how long it may take: TimeoutStartSec=, TimeoutStopSec=.
    """
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["systemctl", verb, "--", *units],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        told = (one(show(unit, "StatusText"), "StatusText") for unit in units)
        reason = "; ".join(filter(None, told)) or done.stderr.strip()
        journal = ["journalctl", "-q", "-n", "40", *matches_of(units)]
        last = "\n".join(that_matter(ask([*journal, "-o", "cat"]).splitlines())[-20:])
        raise Error(f"`systemctl {verb} {' '.join(units)}` failed: {reason}\n{last}")
