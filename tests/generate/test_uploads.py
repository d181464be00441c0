"""Directories of uploads: what the site may write, and its front read. Made by systemd-tmpfiles."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.generate import uploads
from sdactivate.generate.output import Target
from sdactivate.site import Site

TARGET = Target(252)
PATHS = ("/srv/media", "/srv/hidden")
DYNAMIC = Site("mysite", group="www-data", uploads=PATHS)
NAMED = Site("mysite", group="www-data", uploads=PATHS, run_as="daemon")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def gen(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    options = ("--front", "nginx", "--distribution", "debian", "--media", "/media/=/srv/media")
    assert main(["gen", "mysite", *options, "--app", "a:b", *argv]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_a_dynamic_user_writes_as_a_member_of_the_sites_own_group() -> None:
    assert uploads.group(DYNAMIC) == "mysite-uploads"
    (file,) = uploads.account(DYNAMIC, TARGET).files
    assert "\ng mysite-uploads -\n" in file.text
    assert uploads.account(NAMED, TARGET).files == ()
    assert uploads.directories(Site("mysite"), TARGET).files == ()
    long = uploads.group(Site("x" * 40, uploads=PATHS))
    assert len(long) <= 31


def test_the_service_may_write_there(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = gen(capsys, "--kind", "service")
    assert "\nReadWritePaths=-/srv/media\n" in out  # a missing one is no 226/NAMESPACE
    assert "\nSupplementaryGroups=mysite-uploads\n" in out
    assert " -/srv/media\n" in out.partition("NoExecPaths=")[2]
    assert "--media" not in err
    out, _ = gen(capsys, "--kind", "service", "--run-as", "daemon")
    assert "SupplementaryGroups" not in out
    # What is in the front's group could connect to every other site's socket
    assert "SupplementaryGroups=www-data" not in out


def test_the_application_is_told_of_its_front(capsys: pytest.CaptureFixture[str]) -> None:
    hidden = ("--protected", "/hidden/=/srv/hidden")
    for server in ("native", "gunicorn"):
        out, err = gen(capsys, "--kind", "service", *hidden, "--server", server)
        assert 'Environment="SDACTIVATE_PROTECTED=accel /hidden/=/srv/hidden/"\n' in out
        assert "--protected" not in err
    assert main(["gen", "mysite", "--kind", "service", "--app", "a:b", *hidden]) == 0
    out, err = capsys.readouterr()
    assert "--protected: --kind service does not use it" in err
    assert "SDACTIVATE_PROTECTED" not in out


def test_without_a_front_nobody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["gen", "mysite", "--kind", "uploads", "--media", "/m/=/srv/media"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "only the site can read /srv/media: give the front with --front" in err
    assert "group:root" not in out


def test_one_directory_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--writable", "/srv/media", "--run-as", "daemon")
    out, _ = gen(capsys, "--kind", "all", *both)
    assert out.count("\nd /srv/media ") == 1


@root_only
@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="needs systemd-tmpfiles")
@pytest.mark.skipif(not shutil.which("getfacl"), reason="needs getfacl")
@pytest.mark.parametrize("site", [DYNAMIC, NAMED], ids=["dynamic", "named"])
def test_only_the_front_reads_what_only_the_site_writes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", tmp_path / "etc")
    # One is there, as somebody made it
    (tmp_path / "srv/hidden").mkdir(parents=True, mode=0o700)
    (file,) = uploads.directories(site, TARGET).files
    # An ACL is read by this host's groups: here is one that it has
    text = file.text.replace("mysite-uploads:rwx", "daemon:rwx").replace(
        ":mysite-uploads", ":daemon"
    )
    create = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", "-"]
    for _ in range(2):  # each boot
        subprocess.run(create, input=text, text=True, check=True)
    writes = f"{'user' if site.run_as else 'group'}:1:rwx"
    for path in PATHS:
        argv = ["getfacl", "-ncp", f"{tmp_path}{path}"]
        acl = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert {writes, f"default:{writes}"} <= {*acl.split()}
        assert {"group:33:r-x", "default:group:33:r-x"} <= {*acl.split()}
        assert {"other::---", "default:other::---"} <= {*acl.split()}
