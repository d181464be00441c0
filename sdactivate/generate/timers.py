"""Timers and services for commands of manage.py, in the site's sandbox."""

import sys

from sdactivate.errors import UsageError
from sdactivate.generate import warnings
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.generate.schedule import is_span
from sdactivate.generate.units import surroundings
from sdactivate.site import Site
from sdactivate.systemd import escape

Commands = tuple[tuple[str, ...], ...]


def service(
    site: Site,
    target: Target,
    *,
    command: Commands = (),
    by_hand: Commands = (),
    every: str = "",
    once_on: str = "",
) -> Output:
    """Return NAME-COMMAND.service for each command, which runs once and exits.

    Those in `by_hand` have no timer; an administrator starts them. Raises UsageError without a
    command, or without the directory of manage.py.
    """
    if not command + by_hand:
        raise UsageError(
            "--kind timer-service needs --by-hand or --command, such as --by-hand migrate"
        )
    stems = _stems(site, command + by_hand)
    if not site.chdir:
        raise UsageError("--kind timer-service needs --chdir, the directory of manage.py")
    python = site.python or sys.executable
    files = [
        File(
            f"{stem}.service",
            render(
                "command.j2",
                target.comments,
                site=site,
                stem=stem,
                command=words[0],
                timed=words in command,
                start=escape.command([python, "manage.py", *words]),
                **surroundings(site, target, listens=True),
            ),
        )
        for stem, words in zip(stems, command + by_hand, strict=True)
    ]
    return Output(tuple(files), warnings.of_service(site, python, target.own))


def timer(
    site: Site,
    target: Target,
    *,
    command: Commands = (),
    every: str = "daily",
    once_on: str = "",
) -> Output:
    """Return NAME-COMMAND.timer for each command, which starts the service of the same name.

    With `once_on` it does so only on the machine with that host name (systemd.unit(5),
    ConditionHost=). Raises UsageError without a command.
    """
    if not command:
        raise UsageError("--kind timer needs --command, such as --command clearsessions")
    files = [
        File(
            f"{stem}.timer",
            render(
                "timer.j2",
                target.comments,
                site=site,
                stem=stem,
                command=words[0],
                every=every,
                span=is_span(every),
                once_on=once_on,
            ),
        )
        for stem, words in zip(_stems(site, command), command, strict=True)
    ]
    return Output(tuple(files), warnings.of_timers(site, command, once_on))


def _stems(site: Site, commands: Commands) -> list[str]:
    stems = [f"{site.name}-{words[0]}" for words in commands]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise UsageError(
            f"--command, --by-hand: two commands would both be called {min(twice)}; remove one"
        )
    return stems
