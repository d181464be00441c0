"""Files for systemd-tmpfiles and systemd-sysusers, read by these."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.errors import UsageError
from sdactivate.generate import accounts
from sdactivate.generate.output import Target
from sdactivate.site import Site
from sdactivate.values import parse_listen

TARGET = Target(252)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def test_the_usual_socket_needs_no_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert accounts.tmpfiles(Site("mysite"), TARGET).files == ()
    assert main(["gen", "mysite", "--kind", "tmpfiles"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "sdactivate gen: warning: --kind tmpfiles: this site needs no such file\n",
    )


@root_only
@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="needs systemd-tmpfiles")
def test_directories_are_made(tmp_path: Path) -> None:
    listen = (parse_listen("/run/my 50%/a.sock"), parse_listen("127.0.0.1:80"))
    site = Site("mysite", listen=listen, run_as="www-data", writable=('/srv/"x" $HOME',))
    (file,) = accounts.tmpfiles(site, TARGET).files
    assert file.name == "mysite.conf"
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", tmp_path / "etc")
    create = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", "-"]
    subprocess.run(create, input=file.text, text=True, check=True)
    sockets, media = tmp_path / "run/my 50%", tmp_path / 'srv/"x" $HOME'
    assert sockets.stat().st_mode & 0o777 == 0o755
    assert (sockets.owner(), media.owner()) == ("root", "www-data")
    assert media.stat().st_mode & 0o777 == 0o750
    # What the administrator has made of it since stays: the front may read uploads
    media.chmod(0o2770)
    subprocess.run(create, input=file.text, text=True, check=True)
    assert media.stat().st_mode & 0o7777 == 0o2770


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="needs systemd-sysusers")
@pytest.mark.parametrize("name", ["my-site", r"my\x2dsite\x2f"])
def test_accounts_are_made(name: str, tmp_path: Path) -> None:
    site = Site(name, group="my-front", run_as="my-app")
    (file,) = accounts.sysusers(site, TARGET, member=("www-data",)).files
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("www-data:x:33:33::/var/www:/usr/sbin/nologin\n")
    (tmp_path / "etc/group").write_text("www-data:x:33:\n")
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", "-"], input=file.text, text=True, check=True
    )
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups["my-front"].endswith(":www-data")
    users = (tmp_path / "etc/passwd").read_text().splitlines()
    (app,) = (line for line in users if line.startswith("my-app:"))
    assert app.split(":")[4:] == [name, f"/var/lib/{name}", "/usr/sbin/nologin"]


@pytest.mark.parametrize(
    ("site", "member", "said"),
    [
        (Site("mysite"), (), "needs --group or --run-as"),
        (Site("mysite", run_as="me"), ("www-data",), "--member needs --group"),
        (Site("mysite", group="a.b"), (), "'a.b': systemd-sysusers accepts"),
        (Site("mysite", group="33"), (), "'33': systemd-sysusers accepts"),
    ],
)
def test_what_cannot_be_made(site: Site, member: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        accounts.sysusers(site, TARGET, member=member)
