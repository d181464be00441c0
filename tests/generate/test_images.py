"""The image and podman's quadlet: what they are told arrives; nothing is fetched by its name."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sdactivate.errors import UsageError
from sdactivate.generate import images
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Output, Target
from sdactivate.site import Site
from sdactivate.values import parse_listen

TARGET = Target(252)


def site(**fields: object) -> Site:
    values = {"app": "mysite.wsgi:application", "group": "www-data", **fields}
    return Site("mysite", **values)  # type: ignore[arg-type]


def file(output: Output, name: str) -> str:
    return next(each.text for each in output.files if each.name == name)


def dockerfile(**fields: object) -> str:
    return file(images.dockerfile(site(**fields), TARGET), "Dockerfile")


def test_a_server_that_is_a_program_of_its_own() -> None:
    """It is installed by its name, and may know no sd_notify(3)."""
    gunicorn = site(settings={"server": "gunicorn"})
    uvicorn = site(settings={"server": "uvicorn"}, app="mysite.asgi:application")
    assert "install ./sdactivate-*.whl gunicorn\n" in dockerfile(settings={"server": "gunicorn"})
    assert "install ./sdactivate-*.whl waitress\n" in dockerfile(settings={"server": "waitress"})
    assert "Notify=true" in file(images.quadlet(gunicorn, TARGET), "mysite.container")
    assert "Notify" not in file(images.quadlet(uvicorn, TARGET), "mysite.container")


@pytest.mark.parametrize("kind", ["dockerfile", "quadlet"])
def test_what_its_server_does_not_know_is_refused(kind: str) -> None:
    make = getattr(images, kind)
    with pytest.raises(UsageError, match="gunicorn has no such setting"):
        make(site(settings={"server": "gunicorn", "header_bytes": "9"}), TARGET)
    with pytest.raises(UsageError, match="asgi"):
        make(site(app="mysite.asgi:application"), TARGET)
    with pytest.raises(UsageError, match=f"--kind {kind} needs --app"):
        make(site(app=""), TARGET)


def test_the_quadlet_waits_for_each_socket_unit_and_quotes_the_application() -> None:
    listen = tuple(map(parse_listen, ("/run/mysite.sock", "figures=/run/f.sock")))
    asked = site(listen=listen, app="/srv/it's\"$HOME/x.wsgi")
    text = file(images.quadlet(asked, TARGET), "mysite.container")
    assert re.findall("^Requires=(.*)$", text, re.MULTILINE) == [
        *("mysite.socket", "mysite-figures.socket")
    ]
    assert 'Exec=serve "/srv/it\'s\\"$$HOME/x.wsgi"' in text


def test_the_image_is_not_roots_and_execs_json() -> None:
    text = file(images.dockerfile(site(env=(("A", 'a"$b\\'),)), TARGET), "Dockerfile")
    assert "\nUSER 10001:10001\n" in text
    assert '\nENV A="a\\"\\$b\\\\"\n' in text
    (command,) = map(json.loads, re.findall("^CMD (.*)$", text, re.MULTILINE))
    assert command[:4] == ["launch", "--listen", "0.0.0.0:8000", "--"]
    assert command[-2:] == ["serve", "mysite.wsgi:application"]


QUADLET = next(
    (p for p in ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet") if Path(p).exists()), ""
)
CONTAINER_KEYS = {  # podman-systemd.unit(5), Container units [Container]
    *("DropCapability", "Environment", "Exec", "Group", "Image", "Network", "NoNewPrivileges"),
    *("Notify", "PodmanArgs", "ReadOnly", "User", "Volume"),
}


def test_the_quadlet_is_one(tmp_path: Path) -> None:
    output = images.quadlet(site(env=(("A", "it's 100% $x"),)), TARGET)
    text = file(output, "mysite.container")
    section = text.partition("[Container]\n")[2].partition("\n[")[0]
    keys = {
        line.partition("=")[0] for line in section.splitlines() if "=" in line and line[0] != "#"
    }
    assert keys == CONTAINER_KEYS
    assert 'Environment="A=it\'s 100%% $$x"' in text
    if QUADLET:  # podman 4.4 and later bring it
        (tmp_path / "mysite.container").write_text(text)
        done = subprocess.run(
            [QUADLET, "-dryrun"],
            env={"QUADLET_UNIT_DIRS": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "--network none" in done.stdout.replace("=", " ")
        assert "Type=notify" in done.stdout
    if shutil.which("systemd-analyze"):
        socket = tmp_path / "mysite.socket"
        socket.write_text(file(output, "mysite.socket"))
        (tmp_path / "mysite.service").write_text("[Service]\nExecStart=/bin/true\n")
        subprocess.run(["systemd-analyze", "verify", socket], check=True, timeout=60)


def test_image_names() -> None:
    read = KINDS["quadlet"].options[0].read
    assert read("registry.example/site@sha256:ab") == "registry.example/site@sha256:ab"
    with pytest.raises(UsageError, match="an image is"):
        read("a b")


def test_the_image_takes_sdactivate_from_a_wheel() -> None:
    """It is on no index: whoever registered the name would be installed."""
    text = file(images.dockerfile(site(), TARGET), "Dockerfile")
    installs = [line.split() for line in text.splitlines() if "pip install" in line]
    assert installs
    assert not any("sdactivate" in words for words in installs)


def stages(text: str) -> list[list[str]]:
    """The instructions of each stage, continued lines as one."""
    lines = re.sub(r" \\\n\s*", " ", text).splitlines()
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM"):
            found.append([])
        if line and not line.startswith("#"):
            found[-1].append(line)
    return found


def test_the_compiler_and_pip_stay_behind() -> None:
    building, result = stages(dockerfile())
    assert building[0] == result[0] + " AS build"
    assert any("gcc" in line for line in building)
    assert not any(word in line for line in result for word in ("apt-get", "pip install", "gcc"))
    assert any(line.endswith("pip uninstall -y pip") for line in building)


def test_the_base_is_the_user_s_to_pin() -> None:
    pinned = "registry.example/python@sha256:" + "0" * 64
    text = file(images.dockerfile(site(), TARGET, base_image=pinned), "Dockerfile")
    assert re.findall("^FROM (.*)$", text, re.MULTILINE) == [f"{pinned} AS build", pinned]
    read = KINDS["dockerfile"].options[0].read
    with pytest.raises(UsageError, match="an image is"):
        read("python:3.13\nRUN evil")


def test_an_image_without_a_health_path_is_not_asked() -> None:
    assert "HEALTHCHECK" not in dockerfile()
    text = dockerfile(settings={"live_path": "/live", "start_timeout": "2min"})
    (line,) = re.findall("^HEALTHCHECK (.*)$", text, re.MULTILINE)
    assert "--start-period=120s" in line
    assert "GET /live HTTP" in json.loads(line.partition(" CMD ")[2])[-1]
    assert "\nENV SDACTIVATE_TRUST=127.0.0.1\n" in text


@pytest.mark.parametrize(
    ("listen", "ports", "said"),
    [
        ((), ["0.0.0.0:8000"], ""),
        (("/run/mysite.sock",), ["0.0.0.0:8000"], "port 8000 instead"),
        (("10.0.0.11:8080",), ["0.0.0.0:8080"], ""),
        (
            ("[::1]:9000", "/run/mysite.sock"),
            ["[::]:9000"],
            "is left out: clients reach a container",
        ),
        (
            ("8000=127.0.0.1:8000", "/run/a.sock"),
            ["0.0.0.0:8001", "8000=0.0.0.0:8000"],
            "port 8001 instead",
        ),
        (("figures=/run/f.sock",), ["figures=0.0.0.0:8000"], "port 8000 instead"),
    ],
)
def test_addresses_become_ports(listen: tuple[str, ...], ports: list[str], said: str) -> None:
    output = images.dockerfile(site(listen=tuple(map(parse_listen, listen))), TARGET)
    (command,) = map(json.loads, re.findall("^CMD (.*)$", output.files[0].text, re.MULTILINE))
    told = [command[n + 1] for n, word in enumerate(command) if word == "--listen"]
    assert told == ports
    assert said in " ".join(output.warnings)
    if not said:
        assert not list(output.warnings)


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        (("0.0.0.0:80",), "can't listen on a port below 1024"),
        (("127.0.0.1:8000", "x=[::1]:8000"), "a container has one port 8000"),
    ],
)
def test_ports_that_a_container_can_not_have(listen: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        images.dockerfile(site(listen=tuple(map(parse_listen, listen))), TARGET)


def test_what_starts_it_again_is_said() -> None:
    output = images.dockerfile(site(settings={"idle_timeout": "10min"}), TARGET)
    assert "IDLE_TIMEOUT" not in output.files[0].text
    assert "nothing would start the container again" in " ".join(output.warnings)
    with pytest.raises(UsageError, match="peers connect by TCP"):
        images.dockerfile(site(settings={"allow_peer": "unit:nginx.service"}), TARGET)
