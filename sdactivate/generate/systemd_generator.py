"""A systemd generator: units from /etc/sdactivate/*.toml at boot and at daemon-reload.

systemd.generator(7): it is called with three directories before any unit is loaded, and systemd
waits for it. So it looks at nothing but its files: no accounts (their database may be systemd
itself, which waits), no network, no bus. And it never fails the boot: what is wrong is logged
with its file and line, and the other sites come up.

Who can write such a file can have systemd run anything as anyone, so that a file is left out which
others than root could have written, or put in its place.
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
"""What `systemctl enable` would do for each type of unit: systemd.unit(5), [Install]."""


def generate(config: Path, normal: Path, target: Target, log: Callable[[str], None]) -> None:
    """Write the units of every site in `config`/*.toml into `normal`.

    Never raises: `log` gets a sentence for each file and each site that is left out, whatever the
    reason is.
    """
    written: dict[str, Path] = {}
    claims = Claims()
    for path in sorted(config.glob("[!.]*.toml")):  # what an editor keeps beside it has a dot
        try:
            refuse_unfit(path)
            tables = Tables(path)
        except Exception as error:
            log(f"{_told(path, error)}; this file is left out")
            continue
        for name in tables.names:
            try:
                if name in written:
                    raise UsageError(f"{written[name]} has this site already")
                _write(normal, _units(tables, name, target, claims))
                written[name] = path
            except Exception as error:
                log(f"{_told(path, error, tables.place(name))}; this site is left out")


def _told(path: Path, error: Exception, place: str = "") -> str:
    """What went wrong, and where: the `place`, unless the message begins with that itself."""
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
        # Nobody reads the directory before the generator has ended.
        (normal / file.name).write_text(file.text)
        for unit, wants in wanted(file):
            (normal / wants).mkdir(exist_ok=True)
            with suppress(FileExistsError):  # by hand, and not the first time
                (normal / wants / unit).symlink_to(f"../{file.name}")


def wanted(file: File) -> Iterator[tuple[str, str]]:
    """Yield the units of `file` that are enabled with the site, each with its .wants directory."""
    stem, dot, suffix = file.name.rpartition(".")
    if (wants := WANTED_BY.get(dot + suffix)) and not stem.endswith("@"):
        yield file.name, wants
    yield from ((unit, f"{file.wanted_by}.wants") for unit in file.units)


def kernel_log(message: str) -> None:
    """Log `message` where it is read at boot, before the journal runs: /dev/kmsg; else stderr."""
    try:
        with open("/dev/kmsg", "w") as kmsg:
            kmsg.write(f"<3>sdactivate-generator: {escape(message)}"[:900])
    except OSError:
        tell(f"sdactivate-generator: {message}")
