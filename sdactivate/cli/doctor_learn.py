"""sdactivate doctor --learn: watch a site, report what its sandbox refused, and allow it."""

import argparse
import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sdactivate.errors import Error, UsageError
from sdactivate.systemd import cgroup
from sdactivate.terminal import escape, show, tell

if TYPE_CHECKING:
    from sdactivate.doctor.learn.causes import Relax
    from sdactivate.doctor.learn.facts import Sandbox
    from sdactivate.doctor.learn.lessons import Lesson
    from sdactivate.doctor.learn.watch import Watch
    from sdactivate.generate.sites_toml_edit import Value
    from sdactivate.systemd.unitfile import Unit

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_LINES = 5000  # of the journal: a site can fill it
_GENERATED = "/run/systemd/generator"
_SITES = Path("/etc/sdactivate")

COST = """\
--learn attaches strace to the running processes of {unit}: it stops them twice at
every system call, so requests take several times as long (docs/learn.md has figures). The unit is
not changed. strace detaches at the end, at ^C, and if this command is killed."""


def learn(args: argparse.Namespace) -> int:
    """Watch, and print what the site needs. Return 0 if it needs nothing, 1 otherwise."""
    from sdactivate.doctor.fix import asker
    from sdactivate.doctor.learn import facts, lessons, limits, relief, report, tracebacks
    from sdactivate.operate import run as operate
    from sdactivate.operate import transient
    from sdactivate.systemd import cgroup
    from sdactivate.systemd.systemctl import show as shown

    if len(args.targets) != 1:
        raise UsageError("--learn watches one site: give one NAME")
    if args.offline or args.fix or args.html or args.format == "sarif":
        raise UsageError(
            "--learn can be combined only with --while, --apply, --yes, --from and --format json"
        )
    command = _words(args.command)
    operate.require_systemd()
    unit = transient.service_of(args.targets[0])
    properties = {name: values[-1] for name, values in shown(unit.name).items()}
    sandbox = facts.Sandbox(properties)
    began = time.time()
    if command:
        watch, code, name = _watched_command(unit, command, sandbox)
        logged = tracebacks.read(())
        killed = limits.told(_logged(name, began))
        watched = f"{shlex.join(command)}, as {unit.name} would run it"
        tell(f"sdactivate doctor: {shlex.join(command)} exited with code {code}")
    else:
        tell(COST.format(unit=unit.name))
        if not asker(yes=args.yes)("watch it?"):
            return 1
        group = cgroup.root() + properties.get("ControlGroup", "")
        before = limits.killed(group)
        watch = _watched_service(unit, properties, args.learn)
        killed = limits.killed(group) - before
        logged = tracebacks.read(_logged(unit.name, began))
        watched = f"{unit.name}, {time.time() - began:.0f} s"
    found = lessons.learn(
        watch.seen.values(),
        sandbox,
        facts.on_this_host,
        logged,
        counted=limits.answers(killed, sandbox.value("MemoryMax")),
        hooked=bool(command),
    )
    costs = relief.costs(unit, {it.answer.relax for it in found if it.answer.relax})
    if args.format == "json":
        data = lessons.as_data(found, costs, watched, by_requests=not command)
        print(json.dumps(data, indent=2))
    else:
        show(report.as_text(found, costs, watched, by_requests=not command), end="")
    if watch.dropped:
        tell(f"sdactivate doctor: {watch.dropped} more kinds of refusals were not recorded")
    if args.apply:
        _apply(args, unit, found, by_requests=not command)
    needed = (it.answer for it in found if it.is_needed)
    return 1 if any(it.directive or it.relax for it in needed) else 0


def _words(command: str | None) -> list[str]:
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--while {command!r}: {error}") from None
    if not words:
        raise UsageError("--while '': name a command, such as 'python manage.py test'")
    return words


# -- what is watched ------------------------------------------------------------------------------


def _watched_service(unit: "Unit", properties: Mapping[str, str], seconds: float) -> "Watch":
    """Watch the running processes of `unit` for `seconds`, or until a signal arrives."""
    from sdactivate.doctor.learn.watch import Watch

    pids = cgroup.processes(properties.get("ControlGroup", ""))
    if not pids:
        raise Error(
            f"{unit.name} is not running: request a page first, or give a command that uses what "
            "the site needs: --while 'python manage.py test'"
        )
    cwd = properties.get("WorkingDirectory", "").lstrip("!-")
    with Watch(cwd) as watch, _until_signal() as told:
        watch.attach(pids)
        tell(f"sdactivate doctor: watching {len(pids)} processes for {seconds:g} s; stop with ^C")
        end = time.monotonic() + seconds
        while time.monotonic() < end and watch.is_on and not told:
            time.sleep(0.1)
        if not watch.is_on:
            why = "strace was killed" if watch.was_killed else f"{unit.name} stopped"
            tell(f"sdactivate doctor: {why}: these are the results until then")
    return watch


def _watched_command(
    unit: "Unit", command: Sequence[str], sandbox: "Sandbox"
) -> "tuple[Watch, int, str]":
    """Run `command` as the user and in the sandbox of `unit`, and watch only that process.

    Returns the watch, the command's exit code and the name of the unit it ran in.
    """
    from sdactivate.doctor.learn import hook_directory
    from sdactivate.doctor.learn.watch import Watch
    from sdactivate.operate import run as operate
    from sdactivate.systemd.systemctl import one
    from sdactivate.systemd.systemctl import show as shown

    names: list[str] = []

    def attach(name: str) -> None:
        names.append(name)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            group = one(shown(name, "ControlGroup"), "ControlGroup")
            if pid := _waiting(cgroup.processes(group)):
                return watch.attach([pid])
            time.sleep(0.05)
        raise Error(f"{name}: systemd did not start it within 30 seconds")

    with (
        # The outermost: signals are passed on to the command only while it runs, but the directory
        # must be removed whenever one arrives
        _until_signal() as told,
        hook_directory.made() as directory,
        Watch(sandbox.value("WorkingDirectory").lstrip("!-")) as watch,
    ):
        before = [it for it in unit.words("Environment") if it.startswith("PYTHONPATH=")]
        path = ":".join([directory, *(it.partition("=")[2] for it in before[-1:])])
        code = operate.run(
            unit,
            command,
            more=[f"Environment=PYTHONPATH={path}", *_seen_addresses(sandbox)],
            watch=attach,
            output=2,
            say=lambda line: tell(f"sdactivate doctor: {line}"),
        )
    if told:
        raise SystemExit(128 + told[0])
    return watch, code, names[0]


def _seen_addresses(sandbox: "Sandbox") -> list[str]:
    """Return the unit properties that make the addresses the command connects to visible.

    The command gets a network of its own without a route out. It can create internet sockets there,
    so that connect(2) fails, whose arguments have the address, and not socket(2), which has none.
    """
    if not sandbox.is_on("PrivateNetwork"):
        return []
    return ["RestrictAddressFamilies=AF_INET AF_INET6", "IPAddressAllow=any"]


def _waiting(pids: Sequence[int]) -> int:
    """Return the one of `pids` that waits to be traced; 0 for none."""
    from sdactivate.operate import transient

    wanted = "\0".join(transient.UNTIL_TRACED).encode() + b"\0"
    parents = {}
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(wanted):
                status = Path(f"/proc/{pid}/status").read_text(errors="replace")
                parents[pid] = int(status.partition("\nPPid:\t")[2].partition("\n")[0])
        except (OSError, ValueError):  # the process has exited meanwhile
            continue
    # The child that the shell forks for sleep has the shell's command line for a moment
    return next((pid for pid, parent in parents.items() if parent not in parents), 0)


@contextmanager
def _until_signal() -> Iterator[list[int]]:
    """Yield a list that collects signals, which do not end this process meanwhile."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, note) for number in _ENDING}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _logged(unit: str, since: float) -> list[str]:
    """Return the lines that a unit has logged since `since`, in seconds since the epoch."""
    from sdactivate.systemd.systemctl import ask

    try:
        ask(["journalctl", "--sync"])
        words = (
            "--quiet",
            "--no-pager",
            "--output=cat",
            f"--lines={_MOST_LINES}",
            f"--unit={unit}",
            f"--since=@{int(since)}",
        )
        return ask(["journalctl", *words]).splitlines()
    except Error as error:
        tell(f"sdactivate doctor: {error}")
        return []


# -- what is changed ------------------------------------------------------------------------------


def _apply(
    args: argparse.Namespace, unit: "Unit", found: "Sequence[Lesson]", by_requests: bool
) -> None:
    """Ask what to allow, show the change, ask again, and write it."""
    from sdactivate.doctor.fix import asker
    from sdactivate.doctor.learn.lessons import reliefs

    asked = reliefs(found)
    if not asked:
        tell("sdactivate doctor: there is nothing to change")
        return
    if by_requests and args.yes:
        raise Error(
            "--yes does not allow what clients' requests may have triggered: answer at a "
            "terminal, or watch a command of your own (--while)"
        )
    ask = asker(yes=args.yes)
    chosen = [it for it in asked if ask(f"allow {it}?")]
    if chosen:
        _write(args, unit, chosen, ask)


def _write(
    args: argparse.Namespace, unit: "Unit", chosen: "Sequence[Relax]", ask: Callable[[str], bool]
) -> None:
    from sdactivate.access import only_root
    from sdactivate.doctor import fix
    from sdactivate.doctor.finding import Lines
    from sdactivate.doctor.learn import relief
    from sdactivate.generate.sites_toml_edit import lines_of
    from sdactivate.systemd.version import host_version

    restart = f"systemctl restart {unit.name}"
    name = unit.name.removesuffix(".service")
    options = _options(chosen)
    if args.sites:
        try:
            only_root.refuse_unfit(Path(args.sites))
        except Error as error:
            # Root neither reads nor writes this file: the site's user may have put a link there
            tell(f"sdactivate doctor: {error}")
            tell(f"nothing was written. Add this to the table of {name}:")
            for line in lines_of(options):
                tell(f"    {escape(line)}")
            return
    if file := _file_of(args.sites, name):
        path, old, new = _in_file(file, name, options)
        if ask_to_write(path, old, new, ask):
            if unit.files[0].startswith(_GENERATED):
                then = f"systemctl daemon-reload && {restart}"
            else:
                then = f"sdactivate install {name} --from {path}"
            tell(f"{path} has changed; to apply it, run: {then}")
        return
    words = " ".join(map(str, chosen))
    tell(f"no sites file has {name}: wrote a drop-in. Give {words} at the next install.")
    added = [line for it in chosen for line in relief.lines(it, host_version())]
    path, old, new = fix.drop_in(Lines(unit.name, "Service", tuple(added)))
    if ask_to_write(path, old, new, ask):
        fix.run(("systemctl", "daemon-reload"))
        tell(f"{unit.name} has changed; to apply it, run: {restart}")


def ask_to_write(path: Path, old: str, new: str, ask: Callable[[str], bool]) -> bool:
    """Show the change to a file and write it if `ask` says yes; return whether it was written.

    Raises Error if users other than root can change the file or its path: see `rewrite`.
    """
    from sdactivate.doctor import fix
    from sdactivate.install.rewrite import rewrite

    if old == new:
        tell(f"{path} already allows it")
        return False
    tell(fix.diff(path, old, new))
    if not ask("write it?"):
        return False
    path.parent.mkdir(exist_ok=True)
    rewrite(path, old, new)
    return True


def _file_of(given: str | None, name: str) -> Path | None:
    """Return the file that describes the site: the one of --from, or one in /etc/sdactivate."""
    from sdactivate.access.only_root import refuse_unfit
    from sdactivate.generate.sites_toml import Tables

    if given:
        path = Path(given)
        if name not in Tables(path).names:
            raise UsageError(f"--from {given}: the file has no site {name}")
        return path
    for path in sorted(_SITES.glob("[!.]*.toml")):
        try:
            refuse_unfit(path)
            if name in Tables(path).names:
                return path
        except Error as error:
            tell(f"sdactivate doctor: {error}")
    return None


def _options(chosen: "Sequence[Relax]") -> "dict[str, Value]":
    """Return the keys of a sites file that allow what was chosen."""
    from sdactivate.sandbox import OPTIONS

    options: dict[str, Value] = {}
    for relax in chosen:
        row = OPTIONS[relax.option]
        if row.many:
            had = options.setdefault(row.key, [])
            assert isinstance(had, list)
            had.append(relax.value)
        else:
            options[row.key] = relax.value or row.value or True
    return options


def _in_file(path: Path, name: str, options: "Mapping[str, Value]") -> tuple[Path, str, str]:
    """Return the file that `path` resolves to, its text, and its text with `options` added.

    Raises Error, before it is read, if users other than root can change it.
    """
    from sdactivate.access.only_root import refuse_unfit
    from sdactivate.generate.sites_toml_edit import with_options

    refuse_unfit(path)
    path = path.resolve()
    at = ("tool", "sdactivate", "sites", name) if path.name == "pyproject.toml" else ("sites", name)
    old = path.read_bytes().decode()  # keep its line ends
    return path, old, with_options(old, at, options)
