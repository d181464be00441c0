"""The table is whole: every field of a site has an option, every option a field or a setting."""

from dataclasses import fields

import pytest

from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.generate.kinds import KINDS
from sdactivate.settings import BY_NAME
from sdactivate.site import Site


def test_options_and_fields_are_the_same() -> None:
    of_site = {field.name for field in fields(Site)} - {"name", "settings"}
    derived = {"front", "distribution"}  # they say what the group and the address are
    assert {row.field for row in options.SITE} == of_site | set(BY_NAME) | derived


def test_no_option_is_there_twice() -> None:
    rows = {*options.SITE, *(o for kind in KINDS.values() for o in kind.options)}
    names = [row.name for row in rows]
    assert len(names) == len(set(names))


def test_a_mistake_names_the_place_the_value_and_what_is_allowed() -> None:
    (mode,) = (row for row in options.SITE if row.name == "mode")
    with pytest.raises(UsageError, match=r"^--mode '0999': a mode is octal"):
        mode.parse("0999", "--mode")
    (threads,) = (row for row in options.SITE if row.name == "threads")
    with pytest.raises(UsageError, match=r"^--threads 'x': a whole number"):
        threads.parse("x", "--threads")


def test_what_a_kind_reads_is_there() -> None:
    names = {row.name for row in options.SITE}
    for kind in KINDS.values():
        assert kind.reads is None or kind.reads <= names
        assert callable(kind.load())
