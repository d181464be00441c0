"""Find and read the socket and service units that belong to one deployment.

`offline` reads files, for a repository's CI, with the drop-ins beside them. `live` asks systemd
itself what it has loaded for a name, including templates, aliases and drop-ins.
"""

import glob
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sdactivate.errors import Error, UsageError
from sdactivate.systemd.loaded import not_loaded, read, read_loaded, tolerated
from sdactivate.systemd.systemctl import Snapshot, listed, one, show
from sdactivate.systemd.unitfile import Unit

_KINDS = (".socket", ".service")
_RELATED = ("Triggers", "TriggeredBy", "ConsistsOf", "RequiredBy")
UNUSABLE = ("bad-setting", "error")
"""The LoadState= of a unit whose file exists, but which systemd will not start."""
_LINKS = (".wants", ".requires", ".upholds")


class Deployment(NamedTuple):
    """One service and the sockets that start it. Either may be missing, not both."""

    service: Unit | None
    sockets: tuple[Unit, ...]
    near: tuple[Unit, ...] = ()
    """For a socket without a service: services without a socket that may belong to it."""

    @property
    def name(self) -> str:
        """Its name without suffix."""
        return (self.service or self.sockets[0]).name.rpartition(".")[0]

    @property
    def units(self) -> tuple[Unit, ...]:
        """All of its units."""
        return (*self.sockets, *((self.service,) if self.service else ()))


def offline(paths: Iterable[str], troubles: list[str] | None = None) -> list[Deployment]:
    """Return the deployments that the files at `paths` make.

    A path is a .socket or .service file, a drop-in (NAME.socket.d/X.conf), or a directory of
    these. Drop-ins beside a named unit are included. Raises UsageError for any other path. A path
    that can't be read is left out, with a line in `troubles`; without `troubles` Error is raised.
    """
    files: dict[Path, None] = {}
    for path in paths:
        with tolerated(troubles):
            files |= dict.fromkeys(_expand(Path(path)))
    made = [it for together in _apart(files) for it in pair(_merged(together, troubles))]
    return sorted(made, key=lambda it: it.name)


def _apart(files: Collection[Path]) -> Iterable[Collection[Path]]:
    """Group `files` by directory if two units have the same name, as in staging and production.

    Otherwise all files belong together, even in different directories.
    """
    units = [file.name for file in files if file.name.endswith(_KINDS)]
    if len(set(units)) == len(units):
        return [files]
    places: dict[Path, list[Path]] = {}
    for file in files:
        place = file.parent if file.name.endswith(_KINDS) else file.parent.parent
        places.setdefault(place, []).append(file)
    return places.values()


def _merged(files: Collection[Path], troubles: list[str] | None) -> Iterable[Unit]:
    """Return the units that `files` make, each with its drop-ins."""
    units = {}
    for file in files:
        if file.name.endswith(_KINDS):
            near = (
                it
                for name in _names(file.name)
                for it in file.parent.glob(f"{glob.escape(name)}.d/*.conf")
            )
            drop_ins = _drop_ins(file.name, [*near, *files])
            with tolerated(troubles):
                units[file.name] = read(file.name, [file, *drop_ins], troubles)
    alone = [file for file in files if file.suffix == ".conf"]
    for name in dict.fromkeys(file.parent.name.removesuffix(".d") for file in alone):
        if name not in units:
            with tolerated(troubles):
                units[name] = read(name, _drop_ins(name, alone))
    return units.values()


def pair(units: Iterable[Unit]) -> list[Deployment]:
    """Group units: a socket's Service=, or the service of its name; a service's Sockets=."""
    units = list(units)
    services = {unit.name: unit for unit in units if unit.kind == "service"}
    sockets = [unit for unit in units if unit.kind == "socket"]
    owner = {unit.name: service_of(unit) for unit in sockets}
    for service in services.values():
        for name in service.names("Sockets"):
            owner[name] = service.name
    made = [
        Deployment(service, tuple(unit for unit in sockets if owner[unit.name] == name))
        for name, service in services.items()
    ]
    alone = [it for it in sockets if owner[it.name] not in services]
    near = [it.service for it in made if it.service and not it.sockets]
    return made + [Deployment(None, (it,), _near(it, near, alone)) for it in alone]


def _near(socket: Unit, services: list[Unit], alone: list[Unit]) -> tuple[Unit, ...]:
    """Return those of `services` that may belong to one of the sockets without a service."""
    if len(alone) == len(services) == 1:
        return tuple(services)
    return tuple(it for it in services if requires(it, socket.name))


def requires(service: Unit, socket: str) -> bool:
    """Return whether a service can't run without the unit `socket`: Requires= and its kind."""
    return any(socket in service.names(key, "Unit") for key in ("Requires", "BindsTo", "Requisite"))


def service_of(unit: Unit) -> str:
    """Return the name of the service that a socket unit starts (systemd.socket(5))."""
    if named := unit.value("Service"):
        return named
    stem = unit.name.removesuffix(".socket")
    return f"{stem}@.service" if unit.is_on("Accept") and "@" not in stem else f"{stem}.service"


def live(name: str, troubles: list[str] | None = None, known: Snapshot | None = None) -> Deployment:
    """Return what systemd has loaded for `name`: a unit's name, or one without suffix.

    known: properties that are already read; those of these units are added.

    Raises Error if systemd has no such unit or can't be asked; UsageError for a pattern or a
    template. A drop-in that can't be read is left out, with a line in `troubles`; without
    `troubles` Error is raised, as always for a unit's own file.
    """
    if name.rpartition(".")[0].endswith("@") or name.endswith("@"):
        raise UsageError(f"{name}: a template; name an instance of it")
    known = known or Snapshot()

    def is_loaded(unit: str) -> bool:
        if not unit:
            return False
        state, file = (one(known.show(unit), it) for it in ("LoadState", "FragmentPath"))
        return state == "loaded" or (state in UNUSABLE and os.path.isfile(file))

    candidates = names_of(name)
    found = next((it for it in candidates if is_loaded(it)), None)
    if found is None:
        file = "; --offline reads the file of that name" if os.path.exists(name) else ""
        raise Error(f"{' and '.join(map(not_loaded, candidates))}{file}")
    # No process and no line of the journal has an alias as its unit
    found = one(known.show(found), "Id") or found
    if found.endswith(".socket"):
        service = next(iter(listed(one(known.show(found), "Triggers"))), "")
        template = service.partition("@")[0] + "@.service" if "@" in service else service
        service = service if is_loaded(service) else template if is_loaded(template) else ""
    else:
        service = found
    sockets = {found} if found.endswith(".socket") else set()
    if service:
        triggered = listed(one(known.show(service), "TriggeredBy"))
        sockets |= {it for it in triggered if it.endswith(".socket")}
    near = () if service else services(one(known.show(found), "RequiredBy"))
    return Deployment(
        read_loaded(service, troubles, known) if service else None,
        tuple(read_loaded(it, troubles, known) for it in sorted(sockets)),
        tuple(read_loaded(it, troubles, known) for it in near if is_loaded(it)),
    )


def prepare(names: Iterable[str], known: Snapshot) -> None:
    """Read the properties of all units that `names` may mean, and of related units.

    One call reads the units of these names, and a second those that start them, are started by them
    or stop with them. `live` and the checks find the properties in `known`.
    """
    asked = [candidate for name in names for candidate in names_of(name)]
    known.prepare(asked)
    related: dict[str, None] = {}
    for properties in filter(None, map(known.get, asked)):
        for key in _RELATED:
            related |= dict.fromkeys(
                it for it in listed(one(properties, key)) if it.endswith(_KINDS)
            )
    known.prepare(related)


def names_of(name: str) -> list[str]:
    """Return the units that `name` may mean: the unit itself, or NAME.socket and NAME.service."""
    return [name] if name.endswith(_KINDS) else [f"{name}{kind}" for kind in _KINDS]


def background(site: Deployment) -> list[Unit]:
    """Return the background workers of a live `site`, one instance of each, with its drop-ins."""
    found: dict[str, str] = {}
    for name in background_names(site.sockets):
        found.setdefault(name.partition("@")[0], name)
    return [read_loaded(name) for name in found.values()]


def background_names(sockets: Iterable[Unit]) -> list[str]:
    """Return the services that systemd has loaded and that stop with one of `sockets`: PartOf=."""
    names: dict[str, None] = {}
    for socket in sockets:
        names |= dict.fromkeys(services(one(show(socket.name, "ConsistsOf"), "ConsistsOf")))
    return list(names)


def services(value: str) -> list[str]:
    """Return the services in a property that is a list of units, in the order of their names."""
    return sorted(name for name in listed(value) if name.endswith(".service"))


def _expand(path: Path) -> Iterator[Path]:
    if path.is_dir():
        # WantedBy= and Also= create links to files that are found here anyway.
        files = [it for it in sorted(path.rglob("*")) if it.parent.suffix not in _LINKS]
        inside = [it for it in files if _is_part(it) and _counts(it)]
        if not inside:
            raise UsageError(f"{path}: there is no .socket or .service file in this directory")
        yield from inside
    elif not path.exists():
        raise Error(f"{path}: there is no such file")
    elif path.is_char_device() and path.suffix != ".conf":
        raise Error(f"{path}: it is masked, by a link to a device")
    elif _is_part(path):
        yield path
    else:
        raise UsageError(
            f"{path}: not a .socket or .service file, nor a drop-in NAME.socket.d/X.conf"
        )


def _counts(path: Path) -> bool:
    """Return whether it is a file. A drop-in may also be /dev/null, which hides another."""
    return path.is_file() or (path.suffix == ".conf" and path.is_char_device())


def _is_part(path: Path) -> bool:
    drop_in = path.suffix == ".conf" and path.parent.name.endswith(
        tuple(f"{kind}.d" for kind in _KINDS)
    )
    return path.name.endswith(_KINDS) or drop_in


def _names(unit: str) -> list[str]:
    """Return the names whose drop-ins apply to `unit`, lowest priority first (systemd.unit(5))."""
    stem, _, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    dashes = [f"{prefix[: i + 1]}.{kind}" for i, letter in enumerate(prefix) if letter == "-"]
    template = [f"{prefix}@.{kind}"] if at else []
    return list(dict.fromkeys([kind, *dashes, *template, unit]))


def _drop_ins(unit: str, files: Iterable[Path]) -> list[Path]:
    """Return the drop-ins for `unit` in `files`: of two with one name the more specific one."""
    files = sorted(files)
    held = {
        file.name: file
        for name in _names(unit)
        for file in files
        if file.suffix == ".conf" and file.parent.name == f"{name}.d"
    }
    return [held[name] for name in sorted(held)]
