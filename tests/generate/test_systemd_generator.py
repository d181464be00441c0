import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.generate.output import Target
from sdactivate.generate.systemd_generator import generate

GOOD = '[sites.{}]\napp = "mysite.wsgi:application"\nchdir = "/srv/mysite"\n'


def generated(tmp_path: Path, **files: str) -> tuple[Path, list[str]]:
    config, normal = tmp_path / "config", tmp_path / "normal"
    config.mkdir()
    normal.mkdir()
    for name, text in files.items():
        (config / f"{name}.toml").write_text(text)
    said: list[str] = []
    generate(config, normal, Target(252), said.append)
    return normal, said


def test_units_are_written_and_wanted(tmp_path: Path) -> None:
    text = GOOD.format("mysite") + 'command = "clearsessions"\nmember = "www-data"\ngroup = "web"\n'
    normal, said = generated(tmp_path, a=text)
    assert said == []
    links = {
        str(path.relative_to(normal)): path.resolve().name
        for path in normal.rglob("*")
        if path.is_symlink()
    }
    assert links == {
        "sockets.target.wants/mysite.socket": "mysite.socket",
        "timers.target.wants/mysite-clearsessions.timer": "mysite-clearsessions.timer",
    }
    # What is no unit (sysusers.d) is not a generator's to write.
    assert sorted(path.name for path in normal.glob("mysite*")) == [
        "mysite-clearsessions.service",
        "mysite-clearsessions.timer",
        "mysite.service",
        "mysite.socket",
    ]


def test_the_others_come_up(tmp_path: Path) -> None:
    normal, said = generated(
        tmp_path,
        a="[sites.a\n",
        b=GOOD.format("b") + "grup = 1\n" + GOOD.format("b2"),
        c='[sites.c]\nkind = "service"\n',
        d=GOOD.format("d"),
        e=GOOD.format("d") + GOOD.format("e"),
        f='[sites.f]\nkind = "nonsense"\n',
        g=f"[sites.g]\nlisten = {'[' * 5000}{']' * 5000}\n",
        h=GOOD.format("h"),
    )
    assert sorted(path.name for path in normal.glob("*.service")) == [
        "b2.service",
        "d.service",
        "e.service",
        "h.service",
    ]
    assert len(said) == 6
    config = tmp_path / "config"
    assert said[0].startswith(f"{config}/a.toml:1: ")
    assert said[1].startswith(f"{config}/b.toml:4: sites.b.grup: there is no such key")
    assert said[2] == (
        f"{config}/c.toml:1: sites.c: --kind service needs --app, such as "
        "--app mysite.wsgi:application; this site is left out"
    )
    assert said[3] == (
        f"{config}/e.toml:1: sites.d: {config}/d.toml already has this site; this site is left out"
    )
    assert said[4].startswith(f"{config}/f.toml:2: sites.f.kind: 'nonsense': there is no such kind")
    assert said[5].startswith(f"{config}/g.toml")


def test_what_would_hold_up_the_boot_is_left_out(tmp_path: Path) -> None:
    config, normal = tmp_path / "config", tmp_path / "normal"
    config.mkdir()
    normal.mkdir()
    os.mkfifo(config / "a.toml")
    (config / "b.toml").symlink_to("/dev/zero")
    (config / "c.toml").touch()
    os.truncate(config / "c.toml", 1 << 40)
    (config / "d.toml").symlink_to("d.toml")
    (config / "e.toml").mkdir()
    (config / "f.toml").write_text(GOOD.format("f"))
    said: list[str] = []
    generate(config, normal, Target(252), said.append)
    assert sorted(path.name for path in normal.glob("*.s*")) == ["f.service", "f.socket"]
    assert [line.rpartition("; ")[2] for line in said] == ["this file is left out"] * 5
    for line, why in zip(
        said, ["regular", "regular", "the limit is", "links", "regular"], strict=True
    ):
        assert why in line


def test_what_an_editor_keeps_beside_a_file_is_none(tmp_path: Path) -> None:
    normal, said = generated(tmp_path, **{".#a": GOOD.format("draft"), "a": GOOD.format("a")})
    assert said == []
    assert sorted(path.name for path in normal.glob("*.service")) == ["a.service"]


def test_by_hand_a_second_time(tmp_path: Path) -> None:
    normal, _ = generated(tmp_path, a=GOOD.format("a"))
    said: list[str] = []
    generate(tmp_path / "config", normal, Target(252), said.append)
    assert said == []


def test_a_site_that_cannot_be_written_does_not_end_the_others(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/a.toml").write_text(GOOD.format("a") + GOOD.format("b"))
    (tmp_path / "normal/a.service").mkdir(parents=True)
    said: list[str] = []
    generate(tmp_path / "config", tmp_path / "normal", Target(252), said.append)
    (sentence,) = said
    assert sentence.startswith(f"{tmp_path}/config/a.toml:1: sites.a: IsADirectoryError: ")
    assert (tmp_path / "normal/b.service").is_file()


def test_what_another_site_has_is_left_alone(tmp_path: Path) -> None:
    first = GOOD.format("a") + 'command = "x"\n'
    normal, said = generated(tmp_path, a=first, b=GOOD.format("a-x") + GOOD.format("b"))
    assert "manage.py x" in (normal / "a-x.service").read_text()
    assert not (normal / "a-x.socket").exists()
    assert (normal / "b.socket").exists()
    (sentence,) = said
    assert (
        "b.toml:1: sites.a-x: a-x.service: the site a already has it; choose another; this"
        in sentence
    )


def test_nobody_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account database may be systemd itself, which waits for its generators."""

    def look_up(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("pwd.getpwnam", look_up)
    monkeypatch.setattr("grp.getgrnam", look_up)
    normal, said = generated(tmp_path, a=GOOD.format("a") + 'group = "www-data"\n')
    assert said == []
    assert (normal / "a.socket").exists()


def test_it_never_fails(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "a.toml").write_text(GOOD.format("a"))
    argv = ["generator", str(tmp_path / "not there"), "early", "late", "--config", str(config)]
    command = [sys.executable, "-m", "sdactivate", *argv]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert run.stdout == ""


def test_the_link_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Path(sys.executable).parent / "sdactivate-generator"
    if not command.exists():
        pytest.skip("sdactivate is not installed beside this interpreter")
    for _ in range(2):
        assert main(["generator", "--install", "--root", str(tmp_path)]) == 0
        link = tmp_path / "etc/systemd/system-generators/sdactivate"
        assert os.readlink(link) == str(command)
    link.unlink()
    link.write_text("#!/bin/sh\n")
    assert main(["generator", "--install", "--root", str(tmp_path)]) == 1
    assert "is not a symbolic link" in capsys.readouterr().err


def own(path: Path) -> None:
    os.chown(path, 4321, -1)


def lend_to_a_group(path: Path) -> None:
    os.chown(path, -1, 4321)
    path.chmod(0o775)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("place", ["config/a.toml", "config", "elsewhere", "elsewhere/real.toml"])
@pytest.mark.parametrize("change", [own, lend_to_a_group, lambda path: path.chmod(0o666 | 0o111)])
def test_what_others_can_write_is_left_out(
    place: str, change: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/real.toml").write_text(GOOD.format("a"))
    (tmp_path / "config").mkdir()
    (tmp_path / "normal").mkdir()
    (tmp_path / "config/a.toml").symlink_to("../elsewhere/real.toml")
    said: list[str] = []
    generate(tmp_path / "config", tmp_path / "normal", Target(252), said.append)
    assert said == []
    os.unlink(tmp_path / "normal/a.socket")
    if place == "config/a.toml":
        os.chown(tmp_path / place, 4321, -1, follow_symlinks=False)
    else:
        change(tmp_path / place)
    generate(tmp_path / "config", tmp_path / "normal", Target(252), said.append)
    (sentence,) = said
    assert sentence.startswith(
        f"{tmp_path}/config/a.toml: users other than root can change {tmp_path}/"
    )
    assert f"chmod go-w {tmp_path / place}" in sentence
    assert not (tmp_path / "normal/a.socket").exists()
