"""The table is whole: every field of a site has an option, every option a field or a setting."""

from dataclasses import fields
from typing import Any

import pytest

from sdactivate.cli import main
from sdactivate.errors import UsageError
from sdactivate.fronts import FRONTS
from sdactivate.generate import options
from sdactivate.generate.fronts.request import FrontRequest
from sdactivate.generate.kinds import KINDS
from sdactivate.settings import BY_NAME, DEFAULTS
from sdactivate.site import Site


def test_options_and_fields_are_the_same() -> None:
    of_front = {"uploads", "protected"}  # of its --media and --protected
    of_site = {field.name for field in fields(Site)} - {"name", "settings"} - of_front
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
    with pytest.raises(UsageError, match=r"^--threads 'x' is not a whole number"):
        threads.parse("x", "--threads")


def test_what_a_kind_reads_is_there() -> None:
    names = {row.name for row in options.SITE}
    for kind in KINDS.values():
        assert kind.reads is None or kind.reads <= names
        assert callable(kind.load())


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({}, None),
        ({"max_body": 10 << 20}, "10485760"),
        ({"max_body": 0}, "0"),
        ({"max_body": 0, "body_bytes": "5M"}, "5M"),
        ({"max_body": 10 << 20, "server": "waitress"}, "10485760"),
        ({"max_body": 10 << 20, "server": "uwsgi"}, "10485760"),
        ({"max_body": 10 << 20, "server": "gunicorn"}, None),
    ],
)
def test_a_service_has_the_limit_of_its_front(given: dict[str, Any], limit: str | None) -> None:
    assert options.site("mysite", given).settings.get("body_bytes") == limit


def test_the_limit_is_an_option_of_every_kind_that_has_the_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind in ("service", "runit", "dockerfile", "haproxy", "template"):
        asked = ["gen", "mysite", "--kind", kind, "--app", "a:b", "--run-as", "www-data"]
        asked += ["--max-body", "10M", "--server-name", "a.test"]
        asked += ["--listen", "/run/{instance}.sock"] if kind == "template" else []
        assert main(asked) == 0
        out, err = capsys.readouterr()
        assert "10485760" in out
        assert "--max-body" not in err


def test_front_and_server_agree_where_nothing_is_said() -> None:
    request = FrontRequest(FRONTS["nginx"], "mysite", "/run/mysite.sock")
    assert request.max_body == DEFAULTS.body_bytes > 0
