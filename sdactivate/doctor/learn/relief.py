"""Lines that allow what the lessons ask for, and the exposure that each adds."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from sdactivate import sandbox
from sdactivate.doctor import exposure
from sdactivate.doctor.exposure import Exposure
from sdactivate.doctor.learn.causes import Relax
from sdactivate.systemd import escape
from sdactivate.systemd.unitfile import Unit


def lines(relax: Relax, version: int = 252) -> list[str]:
    """Return the lines of [Service] that allow it, to be read after the unit's own.

    Directives that systemd `version` does not know are left out.
    """
    row = sandbox.OPTIONS[relax.option]
    known = {it.name for it in sandbox.TABLE if it.since <= version} | {"IPAddressAllow"}
    made = [
        line
        for line in (sandbox.relaxed(row.need) if row.need else ())
        if line.partition("=")[0] in known
    ]
    if row.line:
        made.append(row.line.format(escape.word(relax.value)))
    return made


def costs(unit: Unit, asked: Iterable[Relax]) -> dict[Relax | None, tuple[Exposure, Exposure]]:
    """Return, for each of `asked`, the exposure of `unit` without and with it.

    Empty if it can't be measured: see `exposure.measure`.
    """
    made: dict[Relax | None, tuple[Exposure, Exposure]] = {}
    text = "".join(f"[{it.section}]\n{it.key}={it.value}\n" for it in unit.entries)
    with tempfile.TemporaryDirectory(prefix="sdactivate-") as directory:

        def measured(more: Iterable[str], path: Path) -> Exposure | None:
            added = "".join(f"{line}\n" for line in more)
            path.write_text(f"{text}[Service]\n{added}", encoding="utf-8", errors="surrogateescape")
            return exposure.measure(str(path), offline=True)

        path = Path(directory) / f"{unit.prefix}.service"
        before = measured((), path)
        for relax in asked:
            if before and (after := measured(lines(relax), path)):
                made[relax] = before, after
    return made
