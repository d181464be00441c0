"""A site's name and options become files: the way that gen, sites.toml and install share."""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.generate.kinds import KINDS, Kind
from sdactivate.generate.options import Option
from sdactivate.generate.output import File, Output, Target

ALL = "all"
"""The kind that stands for every kind that a site has a use for."""

SITE_FIELDS = frozenset(row.field for row in options.SITE)
"""The options that describe the site itself."""


@cache
def known_options() -> dict[str, Option]:
    """Return every option by its field: a site's first, then those of the kinds."""
    rows = [*options.SITE, *(option for kind in KINDS.values() for option in kind.options)]
    return {row.field: row for row in rows}


def chosen(kind: str, given: Mapping[str, Any]) -> list[Kind]:
    """Return the row of `kind`; of "all", the rows that `given` options give a reason for.

    Raises UsageError where there is no such kind.
    """
    if kind == ALL:
        front = given.get("front")
        return [
            row
            for row in KINDS.values()
            if row.when == ()
            or any(name.replace("-", "_") in given for name in row.when or ())
            or (front and row.name == front.name)
        ]
    if kind not in KINDS:
        raise UsageError(f"{kind!r}: there is no such kind; there are {', '.join(KINDS)}, {ALL}")
    return [KINDS[kind]]


def make(name: str, kinds: list[Kind], given: Mapping[str, Any], target: Target) -> Output:
    """Return the files of `kinds` for the site `name`, each below its kind's folder.

    `given` are values by field, as the options' readers made them. An option that none of the
    kinds reads is warned of. Raises UsageError for what can't be written.
    """
    site = options.site(name, {key: value for key, value in given.items() if key in SITE_FIELDS})
    files: list[File] = []
    warnings: list[Iterable[str]] = []
    read: set[str] = set()
    for kind in kinds:
        own = {option.field for option in kind.options}
        made = kind.load()(site, target, **{key: given[key] for key in given if key in own})
        folder = f"{kind.folder}/" if kind.folder else ""
        files += (file._replace(name=folder + file.name) for file in made.files)
        warnings.append(made.warnings)
        read |= own | (
            SITE_FIELDS if kind.reads is None else {r.replace("-", "_") for r in kind.reads}
        )
    if unread := [f"--{known_options()[key].name}" for key in given if key not in read]:
        what = " ".join(["--kind", *(kind.name for kind in kinds)])
        warnings.append([f"{', '.join(unread)}: {what} has no use for it"])
    return Output(tuple(files), chain.from_iterable(warnings))


class Claims:
    """What no two sites of a machine can both have: a file, an address."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def add(self, name: str, given: Mapping[str, Any], files: Iterable[File]) -> None:
        """Note what the site `name` has. Raises UsageError if another one has it already."""
        addresses = [f"--listen {address}" for address in given.get("listen", ())]
        for claim in (*addresses, *(file.name for file in files)):
            if (other := self._taken.setdefault(claim, name)) != name:
                raise UsageError(f"{claim}: the site {other} has it already")
