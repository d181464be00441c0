import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdactivate.generate import warnings
from sdactivate.site import Site
from sdactivate.values import parse_listen


def socket_advice(**fields: object) -> list[str]:
    listen = fields.pop("listen", None)
    addresses = (parse_listen(str(listen)),) if listen else ()
    return list(warnings.of_socket(Site("no-user", listen=addresses, **fields)))  # type: ignore[arg-type]


def test_nothing_to_say_about_a_socket_as_it_should_be() -> None:
    assert socket_advice(group="www-data") == []
    assert socket_advice(group="33") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "only root can connect"),
        ({"group": "no-such-group"}, "no such group"),
        ({"user": "no-such-user", "group": "www-data"}, "no such user"),
        ({"group": "www-data", "mode": 0o666}, "every user of this host"),
        ({"group": "www-data", "mode": 0o640}, "the group can't connect"),
        ({"listen": "@mysite"}, "abstract socket has no permissions"),
        ({"listen": "127.0.0.1:80"}, "any local user can connect"),
        ({"listen": "[::1]:80"}, "any local user can connect"),
        ({"listen": "0.0.0.0:80"}, "any machine that reaches it"),
        ({"listen": "vsock::80"}, "vsock has no permissions"),
        ({"listen": "/tmp/a.sock", "group": "www-data"}, "PrivateTmp="),
        ({"user": "www-data", "run_as": "www-data", "group": "www-data"}, "owns its socket"),
    ],
)
def test_one_thing_at_a_time(fields: dict[str, object], said: str) -> None:
    (sentence,) = socket_advice(**fields)
    assert said in sentence


def test_the_service() -> None:
    def about(
        name: str = "no-user", python: str = "/usr/bin/python3", **fields: object
    ) -> list[str]:
        return list(warnings.of_service(Site(name, **fields), python, own=False))  # type: ignore[arg-type]

    assert about(chdir="/usr") == []
    assert "no such user" in about(run_as="no-such-user")[0]
    assert "has a user daemon" in about(name="daemon")[0]
    assert list(warnings.of_service(Site("daemon"), "/usr/bin/python3", own=True)) == []
    assert about(name="daemon", group="daemon") == []  # it runs as daemon-app
    assert (
        "--python /home/me/bin/python: the sandbox hides it"
        in about(python="/home/me/bin/python")[0]
    )
    assert "--chdir /root/x: the sandbox hides it" in about(chdir="/root/x")[0]
    assert "no such directory" in about(chdir="/no/such/directory")[0]
    assert "give --home" not in "".join(about(chdir="/root/x", home=True))


def test_a_link_into_a_home(tmp_path: Path) -> None:
    """As a virtual environment's interpreter is one where pyenv or uv has made it."""
    (tmp_path / "python").symlink_to("/root/no-such-thing/bin/python")
    site = Site("no-user")
    (said,) = warnings.of_service(site, f"{tmp_path}/python", own=False)
    assert "python: it leads to /root/no-such-thing/bin/python, and the sandbox hides it" in said


def test_a_site_under_tmp(tmp_path: Path) -> None:
    site = Site("no-user", chdir=str(tmp_path))
    if site.chdir.startswith("/tmp/"):
        assert "PrivateTmp=" in next(warnings.of_service(site, "/usr/bin/python3", own=False))


def test_a_virtual_environment_without_the_kit(tmp_path: Path) -> None:
    python, settings = tmp_path / "bin" / "python", tmp_path / "pyvenv.cfg"
    site = Site("mysite", app="mysite.wsgi:application")
    assert list(warnings.of_server(site, str(python))) == []  # not a virtual environment's
    settings.write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (said,) = warnings.of_server(site, str(python))
    assert said.startswith(f"--python {python}: sdactivate is not installed in this virtual")
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    (packages / "sdactivate-0.1.0.dist-info").mkdir(parents=True)
    assert list(warnings.of_server(site, str(python))) == []
    packages.rename(tmp_path / "elsewhere")
    settings.write_text("include-system-site-packages = TRUE\n")
    assert list(warnings.of_server(site, str(python))) == []


@pytest.mark.parametrize("name", ["venv", ".venv"])
def test_an_environment_that_the_service_does_not_run(name: str, tmp_path: Path) -> None:
    """The README's first commands, for a site that brings an environment along."""
    site = Site("mysite", app="mysite.wsgi:application", chdir=str(tmp_path))
    own = tmp_path / name / "bin" / "python"
    own.parent.mkdir(parents=True)
    (tmp_path / name / "pyvenv.cfg").touch()
    assert list(warnings.of_server(site, sys.executable)) == []  # a broken one
    own.touch()
    (said,) = warnings.of_server(site, sys.executable)
    assert said.endswith(
        f"the service runs {sys.executable}; if the site needs its packages, give --python {own}"
    )
    assert list(warnings.of_server(replace(site, python=sys.executable), sys.executable)) == []
    (said,) = warnings.of_server(site, str(own))
    assert "sdactivate is not installed in this virtual environment" in said


def test_the_kits_own_environment_has_it() -> None:
    site = Site("mysite", app="mysite.wsgi:application")
    assert list(warnings.of_server(site, sys.executable)) == []


BALANCED = ({"ready_path": "/ready"}, {"drain_delay": "5"})
ALONE: tuple[dict[str, str], ...] = ({}, {"drain_delay": "0"})


def test_timers_that_each_of_several_machines_has() -> None:
    commands = [("clearsessions",)]
    for settings in BALANCED:
        site = Site("mysite", settings=settings)
        (said,) = warnings.of_timers(site, commands, "")
        assert "--command clearsessions" in said
        assert "--once-on HOST" in said
        assert list(warnings.of_timers(site, commands, "web1")) == []
    for settings in ALONE:
        assert list(warnings.of_timers(Site("mysite", settings=settings), commands, "")) == []


def test_uploads_that_each_of_several_machines_has() -> None:
    for settings in BALANCED:
        (said,) = warnings.of_uploads(Site("mysite", settings=settings, uploads=("/srv/media",)))
        assert "/srv/media" in said
        assert list(warnings.of_uploads(Site("mysite", settings=settings))) == []
    for settings in ALONE:
        site = Site("mysite", settings=settings, uploads=("/srv/media",))
        assert list(warnings.of_uploads(site)) == []
