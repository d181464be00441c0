"""No fix lets others into a private directory, wherever it is made."""

import ast
import os
import pwd
from pathlib import Path

import pytest

import sdactivate.doctor
from sdactivate.doctor.finding import Advice, Command
from sdactivate.doctor.private import grant, is_private

_DOCTOR = Path(sdactivate.doctor.__file__).parent
_GRANTING = {"chmod", "setfacl", "chown", "chgrp"}


@pytest.mark.parametrize(
    "path",
    ["/root", "/root/", "/root/.pyenv/versions", "/home/bob", "/home/bob/site", "/srv/../root/x",
     "/var/lib/private", "/var/lib/private/web", "/var/cache/private", "/run/user/1000/x",
     "/etc/ssl/private", "/run/credentials/web.service"],
)  # fmt: skip
def test_private_directories_are_not_opened(path: str) -> None:
    assert is_private(path)
    fix = grant(("chmod", "o+x"), path, "move it")
    assert fix == Advice("move it")
    assert not fix.safe


@pytest.mark.parametrize(
    "path", ["/srv", "/srv/web", "/rooted", "/home", "/homes/bob", "/var/lib/web", "/etc/ssl"]
)
def test_others_are(path: str) -> None:
    assert not is_private(path)
    assert grant(("chmod", "o+x"), path, "no") == Command(("chmod", "o+x", path))


def test_a_link_that_leads_into_one_is_one(tmp_path: Path) -> None:
    (tmp_path / "venv").symlink_to("/root/.local/share/uv")
    assert is_private(str(tmp_path / "venv"))
    assert not is_private(str(tmp_path))


def test_a_person_s_home_is_one_wherever_it_is() -> None:
    for account in pwd.getpwall():
        if 1000 <= account.pw_uid < 60000 and not account.pw_dir.startswith("/home/"):
            assert is_private(account.pw_dir)


def test_every_fix_that_gives_permissions_is_made_there() -> None:
    """`Command((\"chmod\", …))` anywhere else would open whatever refuses."""
    found = [
        (path.name, node.lineno)
        for path in _DOCTOR.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Command", "run")
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and inner.value in _GRANTING
    ]
    assert found == []


def test_homes_behind_links_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OSTree has /home -> /var/home and /root -> /var/roothome."""
    for name in ("home", "roothome"):
        (tmp_path / f"var/{name}").mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    (tmp_path / "root").symlink_to("var/roothome")
    roots = (f"{tmp_path}/root", f"{tmp_path}/home/*")
    monkeypatch.setattr("sdactivate.doctor.private._ROOTS", roots)
    for path in ("home/bob/x", "var/home/bob", "var/home/bob/x", "root/x", "var/roothome"):
        assert is_private(f"{tmp_path}/{path}"), path
    for path in ("home", "var/home", "var", "var/roothomes"):
        assert not is_private(f"{tmp_path}/{path}"), path


def test_a_person_s_home_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann").symlink_to("disk2")
    (tmp_path / "disk2").mkdir()
    ann = pwd.struct_passwd(("ann", "x", 1000, 1000, "", f"{tmp_path}/ann", "/bin/sh"))
    none = pwd.struct_passwd(("none", "x", 1001, 1001, "", "", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [ann, none])
    assert is_private(f"{tmp_path}/ann")
    assert is_private(f"{tmp_path}/disk2")
    assert not is_private(os.getcwd())
