"""What runs the image with Docker: NAME.compose.yaml on one machine, NAME.stack.yaml on several.

Both are the same services in dialects of one grammar (compose-spec.io; the Compose file version 3
that `docker stack deploy` reads). Compose is one machine: files of the host, its own ports. A swarm
is several: what it needs comes by name, and it replaces tasks one by one.
"""

from itertools import chain
from typing import Any

from sdactivate.errors import UsageError
from sdactivate.generate import containers
from sdactivate.generate.background import Worker
from sdactivate.generate.containers import Container
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.generate.timers import Commands
from sdactivate.site import Site


def compose(
    site: Site,
    target: Target,
    *,
    image: str = "",
    worker: tuple[Worker, ...] = (),
    command: Commands = (),
    by_hand: Commands = (),
    every: str = "",
) -> Output:
    """Return NAME.compose.yaml: the site, its background workers, and its commands by hand.

    Raises UsageError for what containers can't be, and for encrypted credentials, which only
    systemd can read.
    """
    kind = "--kind compose"
    containers.check_name(site.name, f"{kind}: NAME")
    if site.encrypted_credential:
        raise UsageError(
            f"--encrypted-credential {site.encrypted_credential[0][0]}: {kind}: only systemd can "
            "decrypt it; use --credential with a file that user "
            f"{containers.USER} can read"
        )
    made = containers.container(site, kind)
    workers, commands = containers.parts(made, worker, command + by_hand, kind)
    text = render(
        "compose.yaml.j2",
        target.comments,
        build=True,
        published=[f"{port.outside}:{port.number}:{port.number}" for port in made.ports],
        writable=list(dict.fromkeys((*site.writable, *site.uploads))),
        secret_files=site.credential,
        parts=[made.web, *workers, *commands],
        commands=commands,
        **_shared(
            made,
            image or f"localhost/{site.name}:latest",
            [(name, name) for name, _ in site.credential],
        ),
    )
    told = chain(
        containers.told(made, worker),
        (
            f"--command {words[0]}: Compose has no timers; let one of the host's run `docker "
            f"compose run --rm {part.name}`"
            for words, part in zip(command, commands, strict=False)
        ),
        (
            f"--credential {name}: Compose shows {path} as it is; let user {containers.USER} read "
            "it, and nobody else"
            for name, path in site.credential
        ),
    )
    return Output((File(f"{site.name}.compose.yaml", text),), told)


def stack(
    site: Site,
    target: Target,
    *,
    image: str = "",
    replicas: int = containers.REPLICAS,
    worker: tuple[Worker, ...] = (),
    command: Commands = (),
    by_hand: Commands = (),
    every: str = "",
) -> Output:
    """Return NAME.stack.yaml, for `docker stack deploy`: rolling updates that take themselves back.

    Each command of manage.py is in a file of its own, NAME-COMMAND.stack.yaml, and runs when that
    is deployed. `replicas`: how many tasks serve. Raises UsageError without --image, which every
    machine pulls.
    """
    kind = "--kind stack"
    containers.check_name(site.name, f"{kind}: NAME")
    containers.needs_image(image, kind)
    made = containers.of_fleet(site, kind)
    workers, commands = containers.parts(made, worker, command + by_hand, kind)
    secrets = containers.secrets(site)
    shared = {
        "build": False,
        "ports": [port.number for port in made.public],
        "created": [(name, f"{site.name}_{name}", path) for name, path in secrets],
        # An unhealthy task is seen by then: after three checks
        "monitor": 30,
        **_shared(made, image, [(name, f"{site.name}_{name}") for name, _ in secrets]),
    }
    served = [made.web._replace(copies=replicas), *workers]
    files = []
    for name, parts, once in (
        (site.name, served, ""),
        *((part.full, [part], part.name) for part in commands),
    ):
        file = f"{name}.stack.yaml"
        values = {"file": file, "parts": parts, "once": once, **shared}
        files.append(File(file, render("stack.yaml.j2", target.comments, **values)))
    told = chain(
        containers.told(made, worker),
        (
            f"--command {words[0]}: a swarm has no timers; let one of a manager's run the commands "
            f"at the top of {part.full}.stack.yaml"
            for words, part in zip(command, commands, strict=False)
        ),
        containers.alone(site, "task"),
    )
    return Output(tuple(files), told)


def _shared(made: Container, image: str, secrets: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what every service is told; `secrets`: by which name it sees each, and whose it is."""
    return {
        "site": made.site,
        "made": made,
        "image": image,
        "user": containers.USER,
        "secrets": secrets,
        "env_files": made.site.env_file,
        "start": made.start,
        "cpus": f"{made.cpu_percent / 100:g}" if made.cpu_percent else "",
    }
