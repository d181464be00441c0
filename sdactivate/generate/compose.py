"""Files for Docker: NAME.compose.yaml for one machine, NAME.stack.yaml for several.

Both describe the same services in dialects of one format (compose-spec.io; the Compose file version
3 that `docker stack deploy` reads). Compose runs on one machine and uses that host's files and
ports. A swarm runs on several: it refers to images, secrets and volumes by name, and replaces tasks
one by one.
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

    Raises UsageError for options that can't work in containers, and for encrypted credentials,
    which only systemd can read.
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
            f"--command {words[0]}: Compose has no timers; let a timer of the host run `docker "
            f"compose run --rm {part.name}`"
            for words, part in zip(command, commands, strict=False)
        ),
        (
            f"--credential {name}: Compose mounts {path} with its mode; make it readable for user "
            f"{containers.USER}, and for nobody else"
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
    """Return NAME.stack.yaml, for `docker stack deploy`, with rolling updates and rollback.

    Each command of manage.py is in a file of its own, NAME-COMMAND.stack.yaml, and runs when that
    is deployed. `replicas`: the number of tasks that serve. Raises UsageError without --image,
    which every machine pulls.
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
        # By then an unhealthy task has failed three checks
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
            f"--command {words[0]}: a swarm has no timers; let a timer on a manager node run the "
            f"commands at the top of {part.full}.stack.yaml"
            for words, part in zip(command, commands, strict=False)
        ),
        containers.alone(site, "task"),
    )
    return Output(tuple(files), told)


def _shared(made: Container, image: str, secrets: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of every service; `secrets`: the name and owner of each secret."""
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
