"""A systemd generator: writes units from /etc/sdactivate/*.toml at boot and at daemon-reload.

systemd calls it with three directories before any unit is loaded, and waits for it
(systemd.generator(7)). So it reads only its files: no accounts (systemd itself may be their
database, and it waits), no network, no bus. It never makes the boot fail: a mistake is logged with
its file and line, and the other sites start.

A user who can write such a file can have systemd run anything as any user. So a file is left out if
another user than root could have written or replaced it.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sdactivate.access.only_root import refuse_unfit
from sdactivate.errors import Error, UsageError
from sdactivate.generate import options
from sdactivate.generate.build import ALL, Claims, chosen, make
from sdactivate.generate.output import File, Target
from sdactivate.generate.sites_toml import Tables
from sdactivate.terminal import escape, tell

WANTED_BY = {".socket": "sockets.target.wants", ".timer": "timers.target.wants"}
"""The .wants directory that `systemctl enable` would use for each type of unit: systemd.unit(5)."""


def generate(config: Path, normal: Path, target: Target, log: Callable[[str], None]) -> None:
    """Write the units of every site in `config`/*.toml into `normal`.

    Never raises: `log` gets a sentence for each file and each site that is left out.
    """
    written: dict[str, Path] = {}
    claims = Claims()
    for path in sorted(config.glob("[!.]*.toml")):  # editors name their temporary files with a dot
        try:
            refuse_unfit(path)
            tables = Tables(path)
        except Exception as error:
            log(f"{_told(path, error)}; this file is left out")
            continue
        for name in tables.names:
            try:
                if name in written:
                    raise UsageError(f"{written[name]} already has this site")
                _write(normal, _units(tables, name, target, claims))
                written[name] = path
            except Exception as error:
                log(f"{_told(path, error, tables.place(name))}; this site is left out")


def _told(path: Path, error: Exception, place: str = "") -> str:
    """Return the error with its place: `place`, unless the message begins with the path."""
    said = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
    return said if said.startswith(str(path)) else f"{place or path}: {said}"


def _units(tables: Tables, name: str, target: Target, claims: Claims) -> tuple[File, ...]:
    entry = tables.entry(name)
    site = options.site(name, entry.given)
    kinds = [row for row in chosen(entry.kinds or (ALL,), entry.given) if row.units]
    files = make(site, kinds, entry.given, target).files
    claims.add(site, files)
    return files


def _write(normal: Path, files: tuple[File, ...]) -> None:
    for file in files:
        # No process reads the directory before the generator has finished.
        (normal / file.name).write_text(file.text)
        for unit, wants in wanted(file):
            (normal / wants).mkdir(exist_ok=True)
            with suppress(FileExistsError):  # it is run by hand a second time
                (normal / wants / unit).symlink_to(f"../{file.name}")


def wanted(file: File) -> Iterator[tuple[str, str]]:
    """Yield the units of `file` that are enabled with the site, each with its .wants directory."""
    stem, dot, suffix = file.name.rpartition(".")
    if (wants := WANTED_BY.get(dot + suffix)) and not stem.endswith("@"):
        yield file.name, wants
    yield from ((unit, f"{file.wanted_by}.wants") for unit in file.units)


def kernel_log(message: str) -> None:
    """Log `message` to /dev/kmsg, since the journal may not run yet; else to standard error."""
    try:
        with open("/dev/kmsg", "w") as kmsg:
            kmsg.write(f"<3>sdactivate-generator: {escape(message)}"[:900])
    except OSError:
        tell(f"sdactivate-generator: {message}")
