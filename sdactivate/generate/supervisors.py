"""Files for other supervisors: runit, s6, supervisord, circus, OpenRC …

All of them start the same command, `sdactivate launch`, as root: it creates the sockets, switches
to the application's user and executes the server. The files differ in quoting, and in what else the
supervisor supports: readiness (s6), logs, the time that a stop may take.
"""

import shlex
import sys

from sdactivate.errors import UsageError
from sdactivate.generate import units
from sdactivate.generate.containers import application
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped

READY_FD = 9
"""The descriptor that s6 reads for readiness: a number that no socket gets."""


def daemontools(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of daemontools: run, log/run."""
    return _service_directory(site, target, "daemontools", _launch(site, on_demand=on_demand))


def runit(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of runit: run, log/run."""
    return _service_directory(site, target, "runit", _launch(site, on_demand=on_demand))


def s6(site: Site, target: Target, *, on_demand: bool = False) -> Output:
    """Return the service directory of s6: run, log/run and, for readiness, notification-fd.

    An activator that waits for connections (`on_demand`) has no readiness to report, and an
    external server does not support s6's protocol.
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
            f"{command!r}: supervisord treats the text after ' ;' or ' #' as a comment; remove it"
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
    """Return NAME.ini for a circusd that the launcher starts and that holds the sockets."""
    if site.settings.get("metrics"):
        raise UsageError(
            "--metrics: circus passes descriptors without their names, and the metrics socket is "
            "found by its name; choose another supervisor"
        )
    start, launch = f"/etc/circus/{site.name}.ini", _launch(site, command=["circusd"])
    launch[-1].append(start)
    last = 3 + len(site.addresses)
    fds = ",".join(map(str, range(3, last)))
    command = shlex.join([*_serve(site), "--fd", fds])
    if "$(" in command or "#" in command:
        raise UsageError(f"{command!r}: circus would expand '$(' and truncate at '#'; remove it")
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
        # OpenRC evaluates it a second time
        arguments=Escaped(shlex.quote(shlex.join(arguments))),
        stop=units.stop_timeout(site),
    )
    return Output((File(site.name, text, 0o755),))


# --- the command ----------------------------------------------------------------------------


def _launch(
    site: Site, *, on_demand: bool = False, keep: int = 0, command: list[str] | None = None
) -> list[list[str]]:
    """Return the launcher's command line in groups of words, one group for each line."""
    if not site.run_as:
        raise UsageError(
            "--run-as is needed: without systemd there are no dynamic users. Create a user with "
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
    return [*_python(site), "serve", application(site, "a supervisor's file")]


def _named(name: str, address: str) -> str:
    return f"{name}={address}" if name else address


def _in_lines(command: list[list[str]], between: str) -> str:
    return between.join(map(shlex.join, command))


def _service_directory(site: Site, target: Target, kind: str, command: list[list[str]]) -> Output:
    """Return run and log/run, which all descendants of daemontools use."""
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
    """Return one line of an [env:x] section."""
    name, _, value = variable.partition("=")
    if "$" in value or value != value.strip():
        raise UsageError(f"--env {variable}: circus would expand '$' and strip white space")
    return f"{name} = {value.replace('%', '%%')}"
