"""Build files from a name and options: the steps that gen, sites.toml and install share."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any

from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.generate.kinds import KINDS, Kind
from sdactivate.generate.options import Option
from sdactivate.generate.output import File, MissingAccount, Output, Target
from sdactivate.site import Site
from sdactivate.suggest import meant

ALL = "all"
"""The kind that stands for every kind that the site's options call for."""


@cache
def known_options() -> dict[str, Option]:
    """Return every option by its field: first those of a site, then those of the kinds."""
    rows = [*options.SITE, *(option for kind in KINDS.values() for option in kind.options)]
    return {row.field: row for row in rows}


def kind_name(text: str) -> str:
    """Return `text` if it is a kind or "all". Raises UsageError, with the nearest name."""
    if text in KINDS or text == ALL:
        return text
    raise UsageError(f"{text!r}: there is no such kind; {meant(text, [*KINDS, ALL])}")


def chosen(kinds: Iterable[str], given: Mapping[str, Any]) -> list[Kind]:
    """Return the rows of `kinds`, each once; for "all", those that the `given` options call for."""
    names: dict[str, None] = {}
    for kind in kinds:
        names.update(dict.fromkeys(_reasoned(given) if kind == ALL else [kind]))
    return [KINDS[name] for name in names]


def _reasoned(given: Mapping[str, Any]) -> Iterator[str]:
    front = given.get("front")
    for row in KINDS.values():
        named = any(name.replace("-", "_") in given for name in row.when or ())
        if row.when == () or named or (front and row.name == front.name):
            yield row.name


def make(site: Site, kinds: list[Kind], given: Mapping[str, Any], target: Target) -> Output:
    """Return the files of `kinds` for `site`, each below its kind's folder.

    `given` are values by field, as the options' parsers return them: those of the site and those
    that kinds read. There is a warning for an option that none of the kinds reads. Raises
    UsageError if a file can't be written.
    """
    files: list[File] = []
    warnings: list[Iterable[str]] = []
    accounts: frozenset[str] = frozenset()
    read: set[str] = set()
    for kind in kinds:
        own = {option.field for option in kind.options}
        made = kind.load()(site, target, **{key: given[key] for key in given if key in own})
        folder = f"{kind.folder}/" if kind.folder else ""
        files += (file._replace(name=folder + file.name) for file in made.files)
        warnings.append(made.warnings)
        accounts |= made.accounts
        fields = options.FIELDS if kind.reads is None else {r.replace("-", "_") for r in kind.reads}
        read |= own | fields | ({"max_body"} if "body_bytes" in fields else set())
        read |= {"media"} if "writable" in fields else set()
        if "front" in given and {"front", "trust_headers"} <= fields:
            read |= options.TOLD_TO_SERVICE
        if "health" in given and "health" in fields:
            read |= options.HEALTH_READS
    if unread := [f"--{known_options()[key].name}" for key in given if key not in read]:
        what = " ".join(["--kind", *(kind.name for kind in kinds)])
        warnings.append([f"{', '.join(unread)}: {what} does not use it"])
    told = (
        warning
        for warning in chain.from_iterable(warnings)
        if not (isinstance(warning, MissingAccount) and warning.account in accounts)
    )
    return Output(tuple(files), told, accounts)


class Claims:
    """Detects files and addresses that two sites of a machine would share."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def add(self, site: Site, files: Iterable[File]) -> None:
        """Record what `site` uses. Raises UsageError if another site has it already."""
        names = [file.name for file in files]
        # Without a socket unit of its name, the default address is in another one: NAME@.socket
        made = site.listen or f"{site.name}.socket" in names
        addresses = [f"--listen {address}" for address in site.addresses] if made else []
        for claim in (*addresses, *names):
            if (other := self._taken.setdefault(claim, site.name)) != site.name:
                raise UsageError(f"{claim}: the site {other} already has it; choose another")
