"""The variables of a service are put together as systemd does: the last assignment counts."""

from pathlib import Path

import pytest

from sdactivate.doctor import variables
from sdactivate.doctor.advice import fix
from sdactivate.doctor.checks import common
from sdactivate.systemd.unitfile import Unit, parse


def service(text: str) -> Unit:
    return Unit("web.service", [parse(f"[Service]\n{text}\n", "web.service")], ["web.service"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Environment=A=1", "1"),
        ("Environment=A=1 A=2", "2"),
        ("Environment=A=1\nEnvironment=B=3 A=2", "2"),
        ("Environment=A=1\nEnvironment=", ""),
        ("Environment=A=1\nEnvironment=\nEnvironment=A=2", "2"),
        ("Environment=A=1\nEnvironment=A=", ""),
        ("EnvironmentFile={}/one\nEnvironment=A=1", "one"),
        ("EnvironmentFile={}/one\nEnvironmentFile={}/two", "two"),
        ("EnvironmentFile={}/two\nEnvironmentFile={}/one", "one"),
        ("EnvironmentFile={}/one\nEnvironmentFile=\nEnvironment=A=1", "1"),
        ("EnvironmentFile=-{}/none\nEnvironment=A=1", "1"),
        ("EnvironmentFile={}/t*\nEnvironment=A=1", "two"),
        ("EnvironmentFile={}/other\nEnvironment=A=1", "1"),
        ("Environment=A=1\nUnsetEnvironment=A", ""),
        ("Environment=A=1\nUnsetEnvironment=A=2", "1"),
        ("Environment=A=%p", "web"),
        ("", ""),
    ],
)
def test_which_assignment_counts(tmp_path: Path, text: str, value: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"# A=0\nA={name}\n")
    (tmp_path / "other").write_text("B=1\n")
    assert variables.value(service(text.replace("{}", str(tmp_path))), "A") == value


def test_a_setting_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("SDACTIVATE_PROTOCOL='scgi'\n")
    text = f"EnvironmentFile={tmp_path}/web\nEnvironment=SDACTIVATE_PROTOCOL=http\n"
    assert common.setting(service(text), "protocol") == "scgi"
    serve = "ExecStart=/bin/sdactivate serve a:b --protocol fastcgi"
    assert common.setting(service(text + serve), "protocol") == "fastcgi"


def test_a_path_that_a_file_sets_is_corrected_there(tmp_path: Path) -> None:
    (tmp_path / "web").write_text("PATH=/srv/web/bin\n")
    unit = service(f"Environment=PATH=/usr/bin\nEnvironmentFile={tmp_path}/web")
    made = fix("FileNotFoundError: [Errno 2] No such file or directory: 'ls'", unit)
    assert str(made).startswith(f"in {tmp_path}/web, write PATH=/srv/web/bin:/usr/local/sbin:")


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    unit = service(f"EnvironmentFile={tmp_path}\nEnvironment=A=1")  # a directory
    assert variables.value(unit, "A") == "1"
    assert variables.are_all_known(service(f"EnvironmentFile=-{tmp_path}/none"))
