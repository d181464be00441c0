"""A site is valid as it stands, or refused with the field that makes it impossible."""

from typing import Any

import pytest

from sdactivate.errors import UsageError
from sdactivate.site import Site
from sdactivate.values import ListenAddress, parse_listen


def test_a_site_needs_only_a_name() -> None:
    site = Site("mysite")
    assert site.path == "/run/mysite.sock"
    assert [str(address) for address in site.addresses] == ["/run/mysite.sock"]
    assert (site.user, site.group, site.mode) == ("root", "root", 0o660)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a b"},
        {"group": "a b"},
        {"user": "x\nSocketMode=0666"},
        {"mode": 0o1660},
        {"mode": -1},
        {"app": "x:"},
        {"chdir": "srv"},
        {"python": "python3"},
        {"run_as": "root"},
        {"run_as": "0"},
        {"env": (("A", "x\n"),)},
        {"env": (("A", "1"), ("A", "2"))},
        {"credential": (("a b", "/x"),)},
        {"credential": (("a", "x"),)},
        {"credential": (("a", "/x"),), "encrypted_credential": (("a", "/y"),)},
        {"memory_max": "lots"},
        {"cpu_quota": "50"},
        {"tasks_max": "0"},
        {"env_file": ("x",)},
        {"settings": {"thread": "4"}},
        {"settings": {"threads": "many"}},
        {"writable": ("x",)},
        {"device": ("kvm",)},
        {"device": ("/srv/kvm",)},
        {"listen": (ListenAddress("unix", "/run/a\n"),)},
        {"listen": (ListenAddress("inet", "example.org", 80),)},
        {"listen": (ListenAddress("unix", "/var/run/a.sock"),)},
        {"listen": (parse_listen("/run/a"), parse_listen("/run/a"))},
        {"listen": (parse_listen("a=/run/a"), parse_listen("a=/run/b"))},
    ],
)
def test_a_site_that_cannot_be_is_refused_with_the_field(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(fields))}[=:]"):
        Site(**{"name": "mysite", **fields})


def test_a_site_cannot_be_changed() -> None:
    site = Site("mysite", settings={"threads": "4"})
    with pytest.raises(AttributeError):
        site.mode = 0o666  # type: ignore[misc]
    with pytest.raises(TypeError):
        site.settings["threads"] = "5"  # type: ignore[index]
