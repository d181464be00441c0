"""Plain manifests for Kubernetes: NAME.yaml, and NAME-COMMAND.yaml for commands run by hand.

NAME.yaml has everything that runs by itself: a Service, a Deployment for the site and one for each
background worker, a CronJob for each timer. A Job runs as soon as it is created, so each is in a
file of its own. All pods meet the restricted standard of pod security. There is no chart and no
operator: kustomize patches plain manifests.

The API's fields: kubernetes.io/docs/reference/kubernetes-api. The tests validate the files against
the published schemas of three versions.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import chain
from typing import Any

from sdactivate.errors import UsageError
from sdactivate.generate import containers, cron
from sdactivate.generate.background import Worker
from sdactivate.generate.containers import Container, Port
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.generate.timers import Commands
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped

_LABEL = re.compile("[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")


def kubernetes(
    site: Site,
    target: Target,
    *,
    image: str = "",
    replicas: int = containers.REPLICAS,
    worker: tuple[Worker, ...] = (),
    command: Commands = (),
    by_hand: Commands = (),
    every: str = "daily",
) -> Output:
    """Return NAME.yaml, and NAME-COMMAND.yaml for each command by hand.

    `replicas`: the number of pods that serve. Raises UsageError without --image or --trust (the
    kubelet connects from the node's address), for a name that is not valid for an object, and for a
    schedule that cron can't express.
    """
    kind = "--kind kubernetes"
    containers.check_name(site.name, f"{kind}: NAME")
    containers.needs_image(image, kind)
    made = containers.of_fleet(site, kind, asks_inside=False)
    workers, commands = containers.parts(made, worker, command + by_hand, kind)
    try:
        schedule = cron.schedule(every)
    except UsageError as error:
        raise UsageError(f"--every {error}") from None
    shared = _shared(made, image)
    timed, jobs = commands[: len(command)], commands[len(command) :]
    name = f"{site.name}.yaml"
    text = render(
        "kubernetes.yaml.j2",
        target.comments,
        file=name,
        created=_created(made),
        public=made.public,
        parts=[made.web._replace(copies=replicas), *workers],
        timed=[(part, schedule) for part in timed],
        every=every,
        **shared,
    )
    files = [File(name, text)]
    for job in jobs:
        name = f"{job.full}.yaml"
        text = render("job.yaml.j2", target.comments, file=name, part=job, **shared)
        files.append(File(name, text))
    told = chain(
        containers.told(made, worker),
        containers.alone(site, "pod"),
        _of_image(image),
        _of_time(every, schedule.zone) if timed else (),
    )
    return Output(tuple(files), told)


def _shared(made: Container, image: str) -> dict[str, Any]:
    """Return the values that every pod of the site shares, for pod.yaml.j2."""
    return {
        "made": made,
        "name": made.site.name,
        "image": image,
        "user": containers.USER,
        "ports": _labelled(made.ports),
        "secrets": containers.secrets(made.site),
        "secrets_directory": containers.SECRETS,
        "env_secrets": _env_secrets(made),
        "start": made.start,
        "cpus": f"{made.cpu_percent * 10}m" if made.cpu_percent else "",
    }


def _labelled(ports: tuple[Port, ...]) -> list[tuple[Port, str]]:
    """Give each port a name: that of its descriptor if it is a valid port name (RFC 6335)."""
    named: list[tuple[Port, str]] = []
    for port in ports:
        wanted = port.name or "http"
        fits = _LABEL.fullmatch(wanted) and any(map(str.isalpha, wanted)) and "--" not in wanted
        taken = wanted in {label for _, label in named}
        named.append((port, wanted if fits and not taken else f"port-{port.number}"))
    return named


def _env_secrets(made: Container) -> list[tuple[str, str]]:
    """Return the secrets that replace environment files, each with the file's path."""
    name = f"{made.site.name}-env"
    return [
        (name if number == 1 else f"{name}-{number}", path)
        for number, path in enumerate(made.site.env_file, 1)
    ]


def _created(made: Container) -> list[tuple[str, Escaped]]:
    """Return the secrets that must exist, with the arguments of `kubectl create` for each."""
    found = [
        (name, Escaped(f"--from-env-file={shlex.quote(path)}")) for name, path in _env_secrets(made)
    ]
    files = " ".join(
        shlex.quote(f"--from-file={name}={path}") for name, path in containers.secrets(made.site)
    )
    return [*([(made.site.name, Escaped(files))] if files else []), *found]


def _of_image(image: str) -> Iterator[str]:
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@" not in image and tag in ("", "latest"):
        yield (
            f"--image {image}: nodes may have different images under this name, and a rollback "
            "has no older one; give each release a tag of its own"
        )


def _of_time(every: str, zone: str) -> Iterator[str]:
    if not zone:
        yield (
            f"--every {every}: the cluster's controller decides the time zone, usually UTC; give "
            "one, such as '04:00 Europe/Berlin'"
        )
