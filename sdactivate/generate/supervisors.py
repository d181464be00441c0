"""Files for other supervisors and containers: runit, s6, supervisord, Dockerfile, quadlet …

All of them start the same command, `sdactivate launch`, as root: it makes the sockets, becomes
the application's user and then the server. What differs is how a file quotes it, and what else
the supervisor can be told: readiness (s6), logs, how long a stop may take.
"""

import json
import re
import shlex
import sys
from dataclasses import replace
from itertools import chain

from sdactivate import external_servers
from sdactivate.errors import UsageError
from sdactivate.generate import units, warnings
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.settings import resolve
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped, word
from sdactivate.values import parse_listen

READY_FD = 9
"""The descriptor that s6 listens on for readiness: one that no socket is placed on."""
CONTAINER_USER = 10001
"""Who the image runs as: no account of the host's, and not root."""
CONTAINER_PORT = "0.0.0.0:8000"


def daemontools(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of daemontools: run, log/run."""
    return _service_directory(site, target, "daemontools", _launch(site, on_demand=on_demand))


def runit(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of runit: run, log/run."""
    return _service_directory(site, target, "runit", _launch(site, on_demand=on_demand))


def s6(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of s6: run, log/run and, for readiness, notification-fd.

    An activator that waits for connections (`on_demand`) has no readiness to tell of, and a
    server that is a program of its own does not know how.
    """
    if on_demand or not site.backend.in_process:
        return _service_directory(site, target, "s6", _launch(site, on_demand=on_demand))
    command = _launch(site, keep=READY_FD)
    output = _service_directory(site, target, "s6", command)
    ready = File(f"{site.name}/notification-fd", f"{READY_FD}\n")
    return output._replace(files=(*output.files, ready))


def supervisord(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return NAME.conf, a [program:x] section for supervisord."""
    command = _in_lines(_launch(site, on_demand=on_demand), "\n    ").replace("%", "%%")
    if any(mark in command for mark in (" ;", " #", "\t;", "\t#")):
        raise UsageError(
            f"{command!r}: supervisord takes what follows ' ;' or ' #' for a comment; leave it out"
        )
    text = render(
        "supervisord.conf.j2",
        target.comments,
        site=site,
        command=Escaped(command),
        stop=units.stop_timeout(site),
    )
    return Output((File(f"{site.name}.conf", text),))


def circus(site: Site, target: Target) -> Output:
    """Return NAME.ini for a circusd that the launcher has started, and that holds the sockets."""
    if site.settings.get("metrics"):
        raise UsageError(
            "--metrics: circus passes descriptors without their names, and the socket of the "
            "figures is known by its own; choose another supervisor"
        )
    start, launch = f"/etc/circus/{site.name}.ini", _launch(site, command=["circusd"])
    launch[-1].append(start)
    last = 3 + len(site.addresses)
    fds = ",".join(map(str, range(3, last)))
    command = shlex.join([*_serve(site), "--fd", fds])
    if "$(" in command or "#" in command:
        raise UsageError(f"{command!r}: circus would replace '$(' and cut at '#'; leave it out")
    text = render(
        "circus.ini.j2",
        target.comments,
        site=site,
        launch=Escaped(_in_lines(launch, " \\\n#     ")),
        command=Escaped(command.replace("%", "%%")),
        environment=[Escaped(_circus_variable(v)) for v in units.environment(site)],
        stop=units.stop_timeout(site),
    )
    return Output((File(f"{site.name}.ini", text),))


def openrc(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the init script NAME for OpenRC."""
    program, *arguments = [word for line in _launch(site, on_demand=on_demand) for word in line]
    text = render(
        "openrc.sh.j2",
        target.comments,
        site=site,
        program=Escaped(shlex.quote(program)),
        # OpenRC evaluates it once more
        arguments=Escaped(shlex.quote(shlex.join(arguments))),
        stop=units.stop_timeout(site),
    )
    return Output((File(site.name, text, 0o755),))


def dockerfile(site: Site, target: Target) -> Output:
    """Return a Dockerfile, whose image runs as a user that is not root."""
    python = "/opt/venv/bin/python"
    if not site.listen:
        site = replace(site, listen=(parse_listen(CONTAINER_PORT),))
    listen = [word for a in site.listen for word in ("--listen", _named(a.name, str(a)))]
    serve = [python, "-m", "sdactivate", "serve", _app(site, "--kind dockerfile")]
    launch = ["launch", *listen, "--", *serve]
    text = render(
        "Dockerfile.j2",
        target.comments,
        site=site,
        version=Escaped(f"{sys.version_info[0]}.{sys.version_info[1]}"),
        packages=Escaped(" ".join(["./sdactivate-*.whl", *_package(site)])),
        user=CONTAINER_USER,
        directory=Escaped(_docker(site.chdir or f"/srv/{site.name}")),
        state=Escaped(shlex.quote(f"/var/lib/{site.name}")),
        environment=[Escaped(_docker_variable(v)) for v in units.environment(site)],
        entry=Escaped(json.dumps([python, "-m", "sdactivate"])),
        command=Escaped(json.dumps(launch)),
    )
    told = chain.from_iterable(warnings.of_protocol(site, address) for address in site.listen)
    return Output((File("Dockerfile", text),), told)


def quadlet(site: Site, target: Target, *, image: str = "") -> Output:
    """Return NAME.socket and NAME.container: a container without a network, given the socket."""
    host = external_servers.SERVERS.get(site.backend.name)
    text = render(
        "quadlet.container.j2",
        target.comments,
        site=site,
        sockets=list(site.socket_units),
        # podman's generator puts it into ExecStart=, too
        app=Escaped(word(_app(site, "--kind quadlet")).replace("$", "$$")),
        image=Escaped(image or f"localhost/{site.name}:latest"),
        user=CONTAINER_USER,
        notify=host is None or host.notifies,
        # podman's generator puts them into ExecStart=, where systemd would replace $WORD
        environment=[Escaped(word(v).replace("$", "$$")) for v in units.environment(site)],
        stop=units.stop_timeout(site),
    )
    sockets = units.socket(site, target)
    return sockets._replace(files=(*sockets.files, File(f"{site.name}.container", text)))


# --- the command ----------------------------------------------------------------------------


def _launch(
    site: Site, *, on_demand: bool = False, keep: int = 0, command: list[str] | None = None
) -> list[list[str]]:
    """Return the launcher's command line in groups of words that belong on one line."""
    if not site.run_as:
        raise UsageError(
            "--run-as is needed: without systemd there are no dynamic users. Make one with "
            f"`useradd --system --no-create-home {site.name}`"
        )
    environment = units.environment(site) + ([f"SDACTIVATE_NOTIFY_FD={keep}"] if keep else [])
    return [
        [*_python(site), "launch"],
        *(["--listen", _named(address.name, str(address))] for address in site.addresses),
        ["--user", site.user, "--group", site.group, "--mode", f"{site.mode:04o}"],
        ["--run-as", site.run_as, "--umask", "0077"],
        *([["--chdir", site.chdir]] if site.chdir else []),
        *(["--env", variable] for variable in environment),
        *([["--keep-fd", str(keep)]] if keep else []),
        *([["--on-demand"]] if on_demand else []),
        ["--", *(command or _serve(site))],
    ]


def _python(site: Site) -> list[str]:
    return [site.python or sys.executable, "-m", "sdactivate"]


def _serve(site: Site) -> list[str]:
    return [*_python(site), "serve", _app(site, "a supervisor's file")]


def _app(site: Site, kind: str) -> str:
    if not site.app:
        raise UsageError(f"{kind} needs --app, such as --app mysite.wsgi:application")
    site.backend.interface(site.app)
    if host := external_servers.SERVERS.get(site.backend.name):
        external_servers.check_settings(host, resolve({}, site.settings, {}))
    return site.app


def _package(site: Site) -> list[str]:
    """What pip installs for a server that sdactivate itself does not bring."""
    package = site.backend.package
    return [package] if package else []


def _named(name: str, address: str) -> str:
    return f"{name}={address}" if name else address


def _in_lines(command: list[list[str]], between: str) -> str:
    return between.join(map(shlex.join, command))


def _service_directory(site: Site, target: Target, kind: str, command: list[list[str]]) -> Output:
    """Return run and log/run, as all descendants of daemontools have them."""
    values = {"site": site, "kind": Escaped(kind)}
    run = render(
        "run.sh.j2",
        target.comments,
        command=Escaped(_in_lines(command, " \\\n    ")),
        **values,
    )
    log = render("log-run.sh.j2", target.comments, **values)
    return Output((File(f"{site.name}/run", run, 0o755), File(f"{site.name}/log/run", log, 0o755)))


# --- how the others quote -------------------------------------------------------------------


def _circus_variable(variable: str) -> str:
    """One line of an [env:x] section."""
    name, _, value = variable.partition("=")
    if "$" in value or value != value.strip():
        raise UsageError(f"--env {variable}: circus would replace '$' and cut white space")
    return f"{name} = {value.replace('%', '%%')}"


def _docker(text: str) -> str:
    """A word of a Dockerfile: quoted where it must be, and `$` is no variable."""
    if re.fullmatch("[A-Za-z0-9/._@:+-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _docker_variable(variable: str) -> str:
    name, _, value = variable.partition("=")
    return f"{name}={_docker(value)}"
