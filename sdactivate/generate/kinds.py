"""The table of kinds (`gen --kind`): the function that writes each, and the options it reads.

To add a kind, write a function and add a row to KINDS. The function is

    def nginx(site: Site, target: Target, *, server_name: tuple[str, ...] = ()) -> Output

It gets the site, the target system (`generate.output.Target`), and as keywords those of its own
options that were given ("server-name" arrives as `server_name`). It returns files and warnings,
writes and prints nothing, and raises UsageError if it can't write the files. `gen` prints the
files; `gen --out` and `install` write them.

The row names the function as "module:function", so that a module is imported, and its templates are
compiled, only when the kind is asked for. Options that describe the site itself are rows of
`generate.options.SITE` and fields of `Site`. Options that only some kinds read are rows (see
`generate.options.Option`) in a module that imports quickly (no Jinja2), given here as `options`;
several kinds may share one tuple. An option's name means the same for all kinds: `--protocol` is
the runtime's setting, and a front reads it from `site.settings`.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from sdactivate.errors import UsageError
from sdactivate.fronts import FRONTS
from sdactivate.generate.fronts.options import FRONT
from sdactivate.generate.options import BY_HAND, SITE, SYSUSERS, TIMER, WORKER, Option
from sdactivate.generate.output import Output
from sdactivate.settings import TABLE as SETTINGS


class Kind(NamedTuple):
    """One row."""

    name: str
    function: str
    """ "module:function"."""
    summary: str
    """A short description for the help."""
    options: tuple[Option, ...] = ()
    """The options that only this kind, or a few kinds, read."""
    reads: frozenset[str] | None = None
    """The options of SITE that it reads besides `name`; None: all of them."""
    when: tuple[str, ...] | None = None
    """`--kind all` includes it if one of these options is given; (): always; None: never, except
    for the configuration of the front that --front names."""
    units: bool = False
    """Whether its files are units; the systemd generator writes only these."""
    folder: str = ""
    """The directory of its files below /etc and below --out, such as tmpfiles.d. Units have "",
    which is /etc/systemd/system, or --out itself."""

    def load(self) -> Callable[..., Output]:
        """Import and return the function."""
        module, _, name = self.function.partition(":")
        function: Callable[..., Output] = getattr(import_module(module), name)
        return function


def _image(text: str) -> str:
    """Return `text` if it can name an image. Raises UsageError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", text):
        raise UsageError(f"{text!r}: an image is [REGISTRY/]NAME[:TAG][@DIGEST]")
    return text


def _replicas(text: str) -> int:
    """Return the number that `text` is. Raises UsageError otherwise."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_REPLICAS:
        return int(text)
    raise UsageError(f"{text!r} is not a whole number from 1 to {MOST_REPLICAS}")


MOST_REPLICAS = 10_000
_SOCKET = frozenset({"listen", "front", "distribution", "user", "group", "mode"})
_UPLOADS = frozenset({"front", "distribution", "group", "run-as", "writable"})
_FRONT = frozenset(
    {
        *("app", "listen", "protocol", "server"),
        *("stream", "trust-headers", "body-bytes", "header-bytes"),
    }
)
_SETTINGS = frozenset(setting.option.removeprefix("--") for setting in SETTINGS)
_IMAGE = _SETTINGS | {"listen", "app", "chdir", "env"}
_CONTAINER = _IMAGE | {
    *("env-file", "credential", "encrypted-credential", "writable"),
    *("memory-max", "cpu-quota"),
}
_LAUNCHED = _SETTINGS | _SOCKET | {"app", "chdir", "python", "run-as", "env"}

ON_DEMAND = Option(
    "on-demand",
    bool,
    "hold the sockets, and start the site at the first connection",
    topic="without systemd",
    flag=True,
)
IMAGE = Option(
    "image",
    _image,
    "the container's image (default localhost/NAME; required for several machines)",
    "IMAGE",
    "containers",
)
BASE_IMAGE = Option(
    "base-image",
    _image,
    "the base image: Debian with Python and venv, best with its digest (default python:X.Y-slim "
    "for the version of this Python)",
    "IMAGE",
    "containers",
)
REPLICAS = Option(
    "replicas",
    _replicas,
    f"how many containers serve the site, 1 to {MOST_REPLICAS} (default 2)",
    "NUMBER",
    "containers",
    types=(str, int),
)
_PARTS = (IMAGE, *TIMER, BY_HAND, WORKER)
_FLEET = (*_PARTS, REPLICAS)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "socket",
            "sdactivate.generate.units:socket",
            "the socket unit: NAME.socket",
            reads=_SOCKET,
            when=(),
            units=True,
        ),
        Kind(
            "service",
            "sdactivate.generate.units:service",
            "the service unit: NAME.service",
            when=("app",),
            units=True,
        ),
        Kind(
            "template",
            "sdactivate.generate.units:template",
            "NAME@.socket and NAME@.service, for many instances",
            units=True,
        ),
        Kind(
            "timer",
            "sdactivate.generate.timers:timer",
            "NAME-COMMAND.timer, which starts NAME-COMMAND.service",
            options=TIMER,
            reads=frozenset(),
            when=("command",),
            units=True,
        ),
        Kind(
            "timer-service",
            "sdactivate.generate.timers:service",
            "NAME-COMMAND.service, a command of manage.py",
            options=(*TIMER, BY_HAND),
            when=("command", "by-hand"),
            units=True,
        ),
        Kind(
            "worker",
            "sdactivate.generate.workers:service",
            "NAME-WORKER@.service, a background worker",
            options=(WORKER,),
            when=("worker",),
            units=True,
        ),
        Kind(
            "tmpfiles",
            "sdactivate.generate.accounts:tmpfiles",
            "directories, for tmpfiles.d",
            reads=frozenset({"listen", "run-as", "writable"}),
            when=("listen", "writable"),
            folder="tmpfiles.d",
        ),
        Kind(
            "uploads",
            "sdactivate.generate.uploads:directories",
            "directories of uploads, for tmpfiles.d",
            reads=_UPLOADS,
            when=("media", "protected"),
            folder="tmpfiles.d",
        ),
        Kind(
            "uploads-group",
            "sdactivate.generate.uploads:account",
            "the group that lets a dynamic user write uploads, for sysusers.d",
            reads=_UPLOADS,
            when=("media", "protected"),
            folder="sysusers.d",
        ),
        Kind(
            "sysusers",
            "sdactivate.generate.accounts:sysusers",
            "group and user, for sysusers.d",
            options=SYSUSERS,
            reads=frozenset({"group", "run-as"}),
            when=("member",),
            folder="sysusers.d",
        ),
        *(
            Kind(
                front.name,
                f"sdactivate.generate.fronts.render:{front.name}",
                f"{front.title}'s configuration",
                FRONT,
                _FRONT,
            )
            for front in FRONTS.values()
        ),
        Kind(
            "certbot-hook",
            "sdactivate.generate.fronts.certificates:hook",
            "with --tls auto: certbot's hook that reloads the front after a renewal",
            (*FRONT, next(option for option in SITE if option.name == "front")),
            _FRONT,
            when=("tls",),
            folder="letsencrypt/renewal-hooks/deploy",
        ),
        *(
            Kind(
                name,
                f"sdactivate.generate.supervisors:{name}",
                f"the launcher under {title}",
                () if name == "circus" else (ON_DEMAND,),
                _LAUNCHED,
            )
            for name, title in (
                ("daemontools", "daemontools"),
                ("runit", "runit"),
                ("s6", "s6"),
                ("supervisord", "supervisord"),
                ("circus", "circus"),
                ("openrc", "OpenRC"),
            )
        ),
        Kind(
            "dockerfile",
            "sdactivate.generate.images:dockerfile",
            "a Dockerfile for an image that runs without root: two stages, no compiler",
            (BASE_IMAGE,),
            _IMAGE,
        ),
        Kind(
            "quadlet",
            "sdactivate.generate.images:quadlet",
            "a podman container with its socket unit",
            (IMAGE,),
            _SOCKET | _IMAGE,
        ),
        Kind(
            "compose",
            "sdactivate.generate.compose:compose",
            "containers on one machine: Docker Compose",
            _PARTS,
            _CONTAINER | {"tasks-max"},
        ),
        Kind(
            "stack",
            "sdactivate.generate.compose:stack",
            "containers on several: Docker Swarm",
            _FLEET,
            _CONTAINER | {"tasks-max"},
        ),
        Kind(
            "kubernetes",
            "sdactivate.generate.kubernetes:kubernetes",
            "containers on a cluster: Kubernetes",
            _FLEET,
            _CONTAINER,
        ),
    )
}
