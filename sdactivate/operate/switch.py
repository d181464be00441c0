"""Let another release be served: the link first, then the service, which has to answer for it.

`systemctl reload` lets a successor import the new release, and with --health answer a request,
while the old one serves; if it can't, the reload fails, the old process serves on, and the link is
put back. A service that does not run is started, to see that it can.
"""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack

from sdactivate.errors import Error
from sdactivate.operate.layout import Layout
from sdactivate.operate.progress import note, step
from sdactivate.systemd.journal import that_matter
from sdactivate.systemd.systemctl import ask, one, show, show_all

RUNNING = ("active", "reloading", "activating")
"""States in which a service has processes."""


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
    for unit in show_all("*.service", *wanted):
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
    """Let `current` lead to a release, and let `services` serve it; return what was served before.

    Raises Error where a service can't; then the link and the services are as they were.
    """
    before = layout.linked()
    for service in services:
        if (now := serving(layout, service)) and now != before:
            note(f"{layout.current} led to {before or 'nothing'}, but {service} serves {now}")
            before = now
            break
    with ExitStack() as undo:
        undo.callback(_told(layout.link), before)
        with step(f"switch {layout.current} to {identity}"):
            layout.link(identity)
        for service in services:
            with step(f"let {service} serve it"):
                _bring(service, undo, layout, before)
        undo.pop_all()
    return before


def _told(act: Callable[[str], None]) -> Callable[[str], None]:
    """Return `act` as something that is undone: what goes wrong is told, and the rest goes on."""

    def undo(argument: str) -> None:
        try:
            act(argument)
        except (Error, OSError) as error:
            note(f"could not be undone: {error}")

    return undo


def _bring(service: str, undo: ExitStack, layout: Layout, before: str) -> None:
    shown = show(service, "ActiveState", "CanReload")
    if (state := one(shown, "ActiveState")) not in RUNNING:
        verb = "start"
    else:  # what is still starting can't be reloaded
        can = one(shown, "CanReload") == "yes" and state != "activating"
        verb = "reload" if can else "restart"
    changed = [service]

    def back(unit: str) -> None:
        if changed and verb == "start":
            _systemctl("stop", unit)
        elif changed:
            layout.link(before)  # before the service looks
            _systemctl(verb, unit)

    undo.callback(_told(back), service)
    try:
        _systemctl(verb, service)
    except Error:
        if verb == "reload" and serving(layout, service) == before and not _reloads(service):
            changed.clear()  # the old process serves on
        raise


def _reloads(service: str) -> bool:
    return "reloading" in one(show(service, "StatusText"), "StatusText")


def _systemctl(verb: str, unit: str) -> None:
    """Run a command of systemctl(1) for a unit. Raises Error with the reason that it has told.

    How long it may take is the unit's to say: TimeoutStartSec=, TimeoutStopSec=.
    """
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["systemctl", verb, "--", unit],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        status = one(show(unit, "StatusText"), "StatusText")
        journal = ["journalctl", "-q", f"--unit={unit}", "-n", "40", "-o", "cat"]
        last = "\n".join(that_matter(ask(journal).splitlines())[-20:])
        raise Error(f"`systemctl {verb} {unit}` failed: {status or done.stderr.strip()}\n{last}")
