"""A systemd generator: /etc/sdactivate/*.toml become units at boot and at every daemon-reload.

systemd.generator(7): it is called with three directories before any unit is loaded, and systemd
waits for it. So it looks at nothing but its files: no accounts (their database may be systemd
itself, which waits), no network, no bus. And it never fails the boot: what is wrong is logged
with its file and line, and the other sites come up.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sdactivate.errors import Error
from sdactivate.generate.make import ALL, Claims, chosen, make
from sdactivate.generate.output import File, Target
from sdactivate.generate.tables import Tables

CONFIG = Path("/etc/sdactivate")

WANTED_BY = {".socket": "sockets.target.wants", ".timer": "timers.target.wants"}
"""What `systemctl enable` would do for each type of unit: systemd.unit(5), [Install]."""


def generate(config: Path, normal: Path, target: Target, log: Callable[[str], None]) -> int:
    """Write the units of every site in `config`/*.toml into `normal`; return how many sites.

    Never raises: `log` gets a sentence for each file and each site that is left out.
    """
    written: dict[str, Path] = {}
    claims = Claims()
    for path in sorted(config.glob("*.toml")):
        for name, files in _sites(path, target, log, claims):
            if name in written:
                log(f"{path}: sites.{name}: {written[name]} has this site already; left out")
                continue
            try:
                _write(normal, files)
                written[name] = path
            except OSError as error:
                log(f"{path}: sites.{name}: {error}; left out")
    return len(written)


def _sites(
    path: Path, target: Target, log: Callable[[str], None], claims: Claims
) -> Iterator[tuple[str, tuple[File, ...]]]:
    try:
        tables = Tables(path)
    except Error as error:
        log(f"{error}; this file is left out")
        return
    for name in tables.names:
        try:
            entry = tables.entry(name)
            kinds = [
                row
                for kind in entry.kinds or (ALL,)
                for row in chosen(kind, entry.given)
                if row.units
            ]
            files = make(name, kinds, entry.given, target).files
            claims.add(name, entry.given, files)
            yield name, files
        except Error as error:
            place = "" if str(error).startswith(str(path)) else f"{tables.place(name)}: "
            log(f"{place}{error}; this site is left out")


def _write(normal: Path, files: tuple[File, ...]) -> None:
    for file in files:
        # Nobody reads the directory before the generator has ended.
        (normal / file.name).write_text(file.text)
        stem, dot, suffix = file.name.rpartition(".")
        if (wants := WANTED_BY.get(dot + suffix)) and not stem.endswith("@"):
            (normal / wants).mkdir(exist_ok=True)
            (normal / wants / file.name).symlink_to(f"../{file.name}")


def kernel_log(message: str) -> None:
    """Log `message` where it is read at boot, before the journal runs: /dev/kmsg; else stderr."""
    try:
        with open("/dev/kmsg", "w") as kmsg:
            kmsg.write(f"<3>sdactivate-generator: {message}"[:900])
    except OSError:
        print(f"sdactivate-generator: {message}", file=sys.stderr)
