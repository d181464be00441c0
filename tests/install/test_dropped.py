"""A second install says which lines go before it drops them."""

import sys
from pathlib import Path

import pytest
from hypothesis import given

from sdactivate.cli import main
from sdactivate.generate import units
from sdactivate.generate.output import Target
from sdactivate.install.dropped import dropped
from sdactivate.site import Site
from tests.generate.strategies import sites

GIVEN = (
    *("--threads=4", "--memory-max=512M", "--env=TOKEN=hush", "--command=clearsessions"),
    *("--writable=/srv/a", "--writable=/srv/b", "--cpu-quota=50%", "--credential=key=/etc/key"),
)


def install(root: Path, *options: str) -> None:
    site = ["--app=mysite.wsgi:application", "--chdir=/srv/mysite", "--systemd=252"]
    site.append(f"--python={sys.executable}")
    assert main(["install", "mysite", f"--root={root}", *site, *options]) == 0


def test_an_option_that_is_not_given_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, *GIVEN)
    assert "loses" not in capsys.readouterr().err
    install(tmp_path, *GIVEN)
    assert "loses" not in capsys.readouterr().err
    for more in ("--dry-run", "--network"):
        install(tmp_path, "--threads=8", "--writable=/srv/a", more)
        said = capsys.readouterr().err
        line = next(line for line in said.splitlines() if "mysite.service loses" in line)
        for lost in (
            *("CPUQuota=50%", "Environment=TOKEN=…", "ReadWritePaths=/srv/b"),
            *("LoadCredential=key:/etc/key", "Environment=SDACTIVATE_READ_AT_START=/etc/key"),
        ):
            assert lost in line
        for kept in ("THREADS", "MemoryMax", "/srv/a", "hush"):
            assert kept not in line
        assert "mysite-clearsessions.timer is removed" in said
    # They went: there is nothing more to lose
    install(tmp_path, "--threads=8", "--writable=/srv/a", "--network")
    assert "loses" not in capsys.readouterr().err


@given(sites())
def test_nothing_is_dropped_that_is_there(site: Site) -> None:
    (file,) = units.service(site, Target(252)).files
    assert dropped(file.text, file.text) == []
    assert dropped("", file.text) == []
