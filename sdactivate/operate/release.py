"""Build a release and serve it; if a step fails, the previous release goes on serving.

    unpack, environment, --before, collectstatic     in the build's unit (`build`)
    take over                                        root copies what was built (`take_over`)
    import, check, migrate, --after                  in the site's own sandbox (`transient`)
    switch                                           the link and the service, which must answer
    prune

The next release removes what a release without a record has left. Root runs none of the site's
code.
"""

import os
import pwd
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from sdactivate.errors import Error, UsageError, said
from sdactivate.install.bytecode import compile_tree
from sdactivate.operate import environment, transient
from sdactivate.operate.build import YIELDING, Build, stop_leftovers, unit_of
from sdactivate.operate.layout import Layout, Release
from sdactivate.operate.progress import note, step
from sdactivate.operate.step_unit import StepFailed, run
from sdactivate.operate.switch import others, switch
from sdactivate.operate.take_over import take_over
from sdactivate.systemd.systemctl import load_state
from sdactivate.systemd.unitfile import Unit, split
from sdactivate.terminal import escape
from sdactivate.values import application

# Import the application as `sdactivate serve` does, and sdactivate itself as the unit does.
_IMPORT = """
import runpy, sys
from importlib import import_module
if sys.argv[2:]: import sdactivate.cli
module, _, name = sys.argv[1].partition(":")
first, *others = name.removesuffix("()").split(".")
found = runpy.run_path(module)[first] if "/" in module else getattr(import_module(module), first)
for part in others: found = getattr(found, part)
if name.endswith("()"): found = found()
if not callable(found): sys.exit(f"{sys.argv[1]}: {found!r:.60} can't be called")
"""
_APPLIED = re.compile(r"^\s*Applying (\S+?)\.\.\. OK", re.MULTILINE)
# Operations in `migrate --plan` that break older code, each with its model
_BREAKS = re.compile(
    r"^ +((?:Remove field \S+ from|Delete model|Rename field \S+ on|Rename model|Rename table for)"
    r" (\S+).*)$",
    re.MULTILINE,
)
_CREATES = re.compile(r"^ +Create model (\S+)$", re.MULTILINE)
_STATIC_ROOT = re.compile(r"^STATIC_ROOT = (?:\w*Path\()?'([^'\n]+)'", re.MULTILINE)
_APPS = re.compile(r"^INSTALLED_APPS = .*'django\.contrib\.staticfiles'", re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """The options of `sdactivate release`."""

    name: str
    source: Path | None
    """A directory or a tar; None: a tar on standard input."""
    python: str
    """The interpreter that environments are built with."""
    ref: str = ""
    find_links: str = ""
    """A directory of packages; empty: none."""
    no_index: bool = False
    """Whether to take all packages from `find_links`: the build then has no network."""
    uv: str = ""
    """The path of uv; empty: venv and pip."""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    build_env: tuple[tuple[str, str], ...] = ()
    network: bool = False
    """Whether --before and collectstatic have the network."""
    migrate: bool = True
    rebuild: bool = False
    """Whether to build an environment even if an equal one exists."""
    keep: int = 5


@dataclass
class Site:
    """Where and how the site runs, from its unit; without a unit, the defaults."""

    layout: Layout
    unit: Unit | None
    python: str = ""
    """The interpreter of the unit."""
    below: str = ""
    """The working directory, relative to the top of the release."""
    app: str = ""
    sdactivate: bool = False
    """Whether the unit runs sdactivate with the interpreter."""
    properties: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, layout: Layout) -> "Site":
        """Return the site of `layout`. Raises Error if its unit does not run in `current`."""
        service = f"{layout.name}.service"
        if load_state(service) == "not-found":
            return cls(layout, None)
        unit = transient.service_of(layout.name)
        properties = transient.properties(unit, active=False)
        directory = _last(properties, "WorkingDirectory").lstrip("-")
        if not f"{directory}/".startswith(f"{layout.current}/"):
            raise Error(
                f"{service} runs in {directory or '/'} and would not see a release; install it "
                f"again with --chdir {layout.current}"
            )
        python = transient.interpreter(unit)
        expected = f"{layout.current}/.venv/bin/"
        if python.startswith(f"{layout.base}/") and not python.startswith(expected):
            raise Error(
                f"{service} runs {python}; the environment of a release is {layout.current}/.venv: "
                f"install it again with --python {expected}python"
            )
        entry = unit.entry("ExecStart")
        words = split(transient.expand(unit, entry)) if entry else []
        below = directory.removeprefix(str(layout.current)).strip("/")
        site = cls(layout, unit, python, below, properties=properties)
        site.app = next(filter(_is_application, words), "")
        site.sdactivate = "sdactivate" in words
        return site

    @property
    def builds(self) -> bool:
        """Whether a release needs an environment of its own."""
        return not self.python or self.python.startswith(f"{self.layout.current}/")

    def services(self) -> list[str]:
        """Return the services that run in the release: the site's own first."""
        return [f"{self.layout.name}.service", *others(self.layout)] if self.unit else []

    def environ(self) -> dict[str, str]:
        """Return the variables that the unit itself sets: unlike its files, they are not secret."""
        lines = (line.partition("=") for line in self.properties)
        words = (word for name, _, value in lines if name == "Environment" for word in split(value))
        pairs = (word.partition("=") for word in words)
        return {
            name: value
            for name, _, value in pairs
            if not name.startswith("SDACTIVATE_") and name != "PWD"
        }

    def run(self, identity: str, command: list[str], what: str) -> str:
        """Run a command as the site, in its sandbox, with a release in place of `current`.

        Return the end of its output. Raises Error if it fails.
        """
        assert self.unit is not None
        current = re.compile(re.escape(str(self.layout.current)) + r"(?![^/:;,\s\"'])")
        release = str(self.layout.releases / identity)
        again = [current.sub(release, one) for one in self.properties if current.search(one)]
        argv = transient.command_line(
            self.unit,
            [current.sub(release, word) for word in command],
            unit_of(self.layout.name),
            more=[*again, *YIELDING],
            description=f"Release {identity} of {self.layout.name}: {what}",
        )
        return run(argv, what, self.layout.again)


def _last(properties: list[str], name: str) -> str:
    values = [line.partition("=")[2] for line in properties if line.startswith(f"{name}=")]
    return values[-1] if values else ""


def _is_application(word: str) -> bool:
    try:
        return application(word) == word
    except UsageError:
        return False


def release(asked: Asked) -> Release:
    """Make a release and have it served; return it.

    Raises Error, which names the failed step and how to run it again. The previous release is then
    still served.
    """
    layout = Layout(asked.name)
    layout.prepare()
    os.nice(10)  # low priority for root's own copying, as for the units
    with layout.alone():
        stop_leftovers(asked.name)
        layout.clear()
        site = Site.find(layout)
        made = Release(
            layout.new_id(),
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            _who(),
            asked.ref,
            str(asked.source or "-"),
        )
        migrated: list[str] = []
        if not site.unit:
            note(f"there is no {asked.name}.service yet: no checks, migrations or start")
        try:
            made = _build(asked, site, made)
            if site.unit:
                _try(asked, site, made.id, migrated)
            with step("write it to the disk"):
                run(["sync", "-f", str(layout.releases)], "sync")
            made = made._replace(migrations=" ".join(migrated))
            layout.write(made)
            services = site.services()
            before = switch(layout, made.id, services)
        except BaseException as error:
            layout.forget(made.id)
            if _is_full(layout):
                layout.clear()
            if not isinstance(error, Error | OSError):
                note(f"interrupted: {_as_before(layout, migrated)}")
                raise
            raise Error(f"{said(error)}\n{_as_before(layout, migrated)}") from None
        finally:
            stop_leftovers(asked.name)
        with step(f"prune to {asked.keep} releases"):
            layout.prune(asked.keep, {made.id, before})
        done = "serves" if site.unit else "has"
        note(f"{asked.name} {done} release {made.id}")
    return made


def _is_full(layout: Layout) -> bool:
    """Return whether the disk is so full that a failed release must be removed at once."""
    disk = os.statvfs(layout.base)
    return disk.f_bavail * 20 < disk.f_blocks or disk.f_favail * 20 < disk.f_files


def _as_before(layout: Layout, migrated: list[str]) -> str:
    now = layout.linked()
    served = f"{layout.name} serves release {now} as before" if now else "nothing is served yet"
    if not migrated:
        return f"{served}; no migration has run"
    names = ", ".join(map(escape, migrated))
    return f"{served}, but with a newer database. These migrations have run: {names}"


def _who() -> str:
    if user := os.environ.get("SUDO_USER"):
        return user
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _build(asked: Asked, site: Site, made: Release) -> Release:
    """Build the release and take it over; return it with its commit and environment."""
    layout = site.layout
    variables = {**site.environ(), **dict(asked.build_env)}
    with Build(layout, made.id, asked.python, variables) as build:
        with step(f"unpack {asked.source or 'standard input'}"):
            commit = build.unpack(asked.source)
        made = made._replace(ref=made.ref or commit)
        wanted = None
        if site.builds:
            wanted = environment.find(build.tree, asked.python, asked.uv)
            if not wanted and site.python:
                raise Error(
                    f"{layout.name}.service runs {site.python}, but the release has neither "
                    f"{' nor '.join(environment.FILES)}; add one that lists sdactivate too"
                )
        elif any((build.tree / name).exists() for name in environment.FILES):
            note(f"no environment is built: {layout.name}.service runs {site.python}")
        fresh = False
        if wanted:
            if os.path.lexists(build.tree / ".venv"):
                raise Error("the release has a .venv of its own; leave it out of the source")
            like = [one for one in layout.all() if wanted.key and one.key == wanted.key]
            fresh = not like or asked.rebuild
            made = made._replace(
                environment=made.id if fresh else like[-1].environment, key=wanted.key
            )
        if fresh and wanted:
            with step(f"build its environment from {wanted.file}"):
                script = environment.script(
                    wanted.file,
                    build.environment,
                    asked.python,
                    asked.uv,
                    (["--no-index"] if asked.no_index else [])
                    + (["--find-links", str(build.wheels)] if asked.find_links else []),
                )
                build.run(
                    ["/bin/sh", "-ec", script],
                    f"install {wanted.file}",
                    network=not asked.no_index,
                    wheels=asked.find_links,
                )
        elif wanted:
            note(f"the environment of {like[-1].id} is used: {wanted.file} has not changed")
        if made.environment:
            build.python = f"{layout.environments / made.environment}/bin/python"
        elif site.python:
            build.python = site.python
        for command in asked.before:
            with step(f"--before {command!r}"):
                build.shell(command, asked.network)
        _collect(asked, site, build)
        _take(layout, made, build, asked.python if fresh else "")
    with step("compile"):
        directory = layout.releases / made.id
        result = compile_tree(directory, str(directory), build.python)
        for source in result.invalid[:5]:
            note(f"{escape(source)}: not valid in this Python")
    return made


def _collect(asked: Asked, site: Site, build: Build) -> None:
    """Collect static files, if Django has a STATIC_ROOT for them in the release."""
    directory = build.tree / site.below
    if not (directory / "manage.py").exists():
        return
    where = f"cd {quote(str(build.release / site.below))}; exec {quote(build.python)} manage.py"
    with step("collect static files"):
        network = asked.network
        settings = build.shell(f"{where} diffsettings --all", network, "manage.py diffsettings")
        root = _STATIC_ROOT.search(settings)
        if not root or not _APPS.search(settings):
            note("none are collected: no STATIC_ROOT, or django.contrib.staticfiles is not used")
        elif not f"{root[1]}/".startswith(f"{build.release}/"):
            note(f"none are collected: STATIC_ROOT={escape(root[1])} is not in the release")
        else:
            build.shell(
                f"{where} collectstatic --noinput --verbosity 0",
                network,
                "manage.py collectstatic",
            )


def _take(layout: Layout, made: Release, build: Build, interpreter: str) -> None:
    """Take over what was built; `interpreter` is given if that includes an environment."""
    parts = {layout.releases / made.id: (build.tree, "")}
    if interpreter:
        parts[build.environment] = (build.made_environment, interpreter)
    with step("take it over: root owns it from now on"):
        for target, (source, links_to) in parts.items():
            try:
                take_over(source, target, build.owner, links_to)
            except BaseException:
                layout.clear()  # a partial copy is useless, and the disk may be full
                raise
        if interpreter:
            for packages in build.environment.glob("lib/python*/site-packages"):
                (packages / environment.RESOLVES).write_text(environment.RESOLVE)
        if made.environment:
            link = layout.releases / made.id / ".venv"
            link.symlink_to(f"../../environments/{made.environment}")


def _try(asked: Asked, site: Site, identity: str, migrated: list[str]) -> None:
    """Test the release in the site's sandbox, and run its migrations."""
    python = site.python
    if site.app:
        with step(f"import {site.app}"):
            more = ["sdactivate"] if site.sdactivate else []
            site.run(identity, [python, "-c", _IMPORT, site.app, *more], f"import {site.app}")
    manage = site.layout.releases / identity / site.below / "manage.py"
    if manage.exists():
        with step("check"):
            site.run(identity, [python, "manage.py", "check"], "manage.py check")
        if asked.migrate:
            _warn_of_migrations(site, identity, python)
            with step("migrate"):
                argv = [python, "manage.py", "migrate", "--noinput", "--no-color"]
                try:
                    output = site.run(identity, argv, "manage.py migrate")
                except StepFailed as error:
                    migrated += _APPLIED.findall(error.output)
                    raise
                migrated += _APPLIED.findall(output)
    for command in asked.after:
        with step(f"--after {command!r}"):
            programs = f"PATH={os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin"
            site.run(identity, ["/usr/bin/env", programs, "/bin/sh", "-ec", command], command)


def _warn_of_migrations(site: Site, identity: str, python: str) -> None:
    """Warn of migrations that remove what the older release, still serving, may need.

    With several machines, the others serve the older release until the new one is on them, too.
    """
    argv = [python, "manage.py", "migrate", "--plan", "--no-color"]
    with step("look at the migrations"):
        plan = site.run(identity, argv, "manage.py migrate --plan")
    for taken in taken_away(plan):
        note(
            f"warning: migrate: {escape(taken)}: the old release, which still serves here or on "
            "another machine, may need what this removes; remove it in the next release"
        )


def taken_away(plan: str) -> list[str]:
    """Return the operations of `migrate --plan` that break older code, each once.

    Models that the same plan creates are left out: no older code uses them.
    """
    created = {model.lower() for model in _CREATES.findall(plan)}
    found = (text for text, model in _BREAKS.findall(plan) if model.lower() not in created)
    return list(dict.fromkeys(found))
