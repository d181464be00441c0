"""Units of a site's background workers, in the site's sandbox: Celery, RQ, a manage.py loop."""

import os
import posixpath
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from sdactivate.errors import UsageError
from sdactivate.generate import warnings
from sdactivate.generate.background import Worker
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.generate.units import INSTANCE, surroundings
from sdactivate.site import Site
from sdactivate.systemd import escape


def service(site: Site, target: Target, *, worker: tuple[Worker, ...] = ()) -> Output:
    """Return NAME-WORKER@.service for each background worker, with its instances.

    "{instance}" in its command stands for the instance's number. Raises UsageError without a
    background worker, or if two have the same name.
    """
    if not worker:
        raise UsageError("--kind worker needs --worker, such as --worker mail='celery -A mysite …'")
    given = [one.name for one in worker]
    if twice := {name for name in given if given.count(name) > 1}:
        raise UsageError(f"--worker {min(twice)}: two background workers have this name")
    files = tuple(_service(site, target, one) for one in worker)
    python = site.python or sys.executable
    told = chain(warnings.of_service(site, python, target.own), _missing(site, python, worker))
    return Output(files, told)


def _missing(site: Site, python: str, workers: tuple[Worker, ...]) -> Iterator[str]:
    for worker in workers:
        program = _start(site, worker)[0]
        if os.path.exists(python) and not os.path.exists(program):
            yield (
                f"--worker {worker.name}: there is no {program}; install it beside {python}, or "
                "give the program's absolute path"
            )


def _service(site: Site, target: Target, worker: Worker) -> File:
    stem = f"{site.name}-{worker.name}"
    socket = f"{next(iter(site.socket_units))}.socket"
    own = replace(
        site,
        settings={},  # only the server reads them
        env=tuple({**dict(site.env), **dict(worker.env)}.items()),
        network=site.network if worker.network is None else worker.network,
        memory_max=worker.memory_max or site.memory_max,
    )
    text = render(
        "worker.j2",
        target.comments,
        site=own,
        worker=worker,
        stem=stem,
        socket=socket,
        version=target.systemd,
        start=escape.command(_start(site, worker)),
        **surroundings(own, target, listens=True),
    )
    # Every value has been escaped by now, and no escape touches a brace.
    return File(
        f"{stem}@.service",
        text.replace(INSTANCE, "%i"),
        instances=tuple(map(str, range(1, worker.instances + 1))),
        wanted_by=socket,
    )


def _start(site: Site, worker: Worker) -> list[str]:
    python = site.python or sys.executable
    first, *rest = worker.command
    if first == "python":
        return [python, *rest]
    return [posixpath.join(posixpath.dirname(python), first), *rest]
