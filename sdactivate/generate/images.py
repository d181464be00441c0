"""A site's container image and podman's quadlet for it: Dockerfile, NAME.container.

`compose` and `kubernetes` write files for other engines; `containers` has what they share.
"""

import json
import re
import shlex
import sys
from itertools import chain

from sdactivate import external_servers
from sdactivate.generate import containers, units, warnings
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped, word


def dockerfile(site: Site, target: Target, *, base_image: str = "") -> Output:
    """Return a Dockerfile: two stages, no compiler in the result, and a user that is not root.

    `base_image`: the image that it is built from; "": Docker's official image of this Python.
    """
    made = containers.container(site, "--kind dockerfile")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    package = site.backend.package
    own = made.site
    text = render(
        "Dockerfile.j2",
        target.comments,
        site=own,
        base=Escaped(base_image or f"python:{version}-slim"),
        packages=Escaped(" ".join(["./sdactivate-*.whl", *([package] if package else [])])),
        user=containers.USER,
        directory=Escaped(_docker(site.chdir or f"/srv/{site.name}")),
        state=Escaped(shlex.quote(made.state)),
        cache=Escaped(shlex.quote(made.cache)),
        environment=[Escaped(_docker_variable(v)) for v in units.environment(own)],
        ports=[port.number for port in made.ports],
        health=Escaped(json.dumps(made.health)) if made.probe else None,
        start=containers.start_seconds(own),
        entry=Escaped(json.dumps([containers.PYTHON, "-m", "sdactivate"])),
        command=Escaped(json.dumps(made.arguments)),
    )
    spoken = chain.from_iterable(warnings.of_protocol(site, address) for address in own.listen)
    return Output((File("Dockerfile", text),), chain(made.left_out, spoken))


def quadlet(site: Site, target: Target, *, image: str = "") -> Output:
    """Return NAME.socket and NAME.container: a container without a network inherits the socket."""
    host = external_servers.SERVERS.get(site.backend.name)
    text = render(
        "quadlet.container.j2",
        target.comments,
        site=site,
        sockets=list(site.socket_units),
        # podman's generator copies it to ExecStart=
        app=Escaped(word(containers.application(site, "--kind quadlet")).replace("$", "$$")),
        image=Escaped(image or f"localhost/{site.name}:latest"),
        user=containers.USER,
        notify=host is None or host.notifies,
        # podman's generator copies them to ExecStart=, where systemd would expand $WORD
        environment=[Escaped(word(v).replace("$", "$$")) for v in units.environment(site)],
        stop=units.stop_timeout(site),
    )
    sockets = units.socket(site, target)
    return sockets._replace(files=(*sockets.files, File(f"{site.name}.container", text)))


def _docker(text: str) -> str:
    """Return a word for a Dockerfile, quoted if needed, with `$` escaped."""
    if re.fullmatch("[A-Za-z0-9/._@:+-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _docker_variable(variable: str) -> str:
    name, _, value = variable.partition("=")
    return f"{name}={_docker(value)}"
