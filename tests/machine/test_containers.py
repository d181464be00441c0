"""The generated image under Compose, under what a kubelet does, and on a swarm of two machines.

By hand: a Debian with Docker is made first, and a rolling update takes as long as it takes. What
was seen is in docs/tested.md.

    script/test -m by_hand -rP tests/machine/test_containers.py
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.machine import docker
from tests.machine.machine import Installation, Machine

pytestmark = pytest.mark.by_hand

HERE = Path(__file__).parent
APP = ("--app", "containers_site:application")
UPDATES = 10
LOAD = (HERE / "load.py").read_text().replace('PAGE = b"Hello, world!"', 'PAGE = b"release "')


@pytest.fixture(scope="module")
def made(pure_wheel: Path) -> Installation:
    return docker.installation(pure_wheel)


@pytest.fixture(scope="module")
def machine(made: Installation, pure_wheel: Path) -> Iterator[Machine]:
    """Docker, and the site's image as mysite:0."""
    with docker.docker(made) as booted:
        docker.make_base(booted, made, pure_wheel)
        site = (HERE / "containers_site.py").read_text()
        booted.write("/root/context/containers_site.py", site)
        booted.write("/root/context/manage.py", "import sys\nsys.exit('fail' in sys.argv)\n")
        docker.build(booted, pure_wheel, "mysite:0", *APP)
        yield booted


def gen(machine: Machine, kind: str, *options: str) -> None:
    """Write the files of a kind to /root/KIND."""
    words = ("gen", "mysite", "--kind", kind, *APP, "--out", f"/root/{kind}")
    machine.run(*machine.sdactivate, *words, *options)


def test_the_image_holds_what_serves_and_nothing_else(machine: Machine) -> None:
    (image,) = docker.inspect(machine, "inspect", "mysite:0")
    config: Any = image["Config"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    run = ["docker", "run", "--rm", "--read-only", "--entrypoint", "sh", "mysite:0", "-c"]
    script = """
        for tool in gcc cc pip pkg-config; do ! command -v $tool || exit 1; done
        test ! -e /opt/venv/bin/pip
        test -e __pycache__/containers_site.*.pyc
        test -n "$(find /opt/venv -path '*sdactivate/__pycache__/site.*.pyc')"
        test "$(id -u)" = 10001
        ! touch /opt/venv/x . 2>/dev/null
    """
    machine.run(*run, script)
    again = machine.run(*run, "cat __pycache__/*.pyc | sha256sum").stdout
    machine.run("sh", "-ec", "touch /root/context/containers_site.py")
    machine.run("docker", "build", "--quiet", "--no-cache", "-t", "mysite:again", "/root/context")
    run = [word.replace("mysite:0", "mysite:again") for word in run]
    assert machine.run(*run, "cat __pycache__/*.pyc | sha256sum").stdout == again


def test_compose_starts_it_healthy_and_drains_it(machine: Machine) -> None:
    machine.run("sh", "-ec", "echo secret >/root/token; chown 10001 /root/token")
    machine.run("chmod", "0711", "/root")
    options = ["--image", "mysite:0", "--ready-path", "/ready", "--trust", "172.16.0.0/12"]
    options += ["--drain-delay", "3", "--credential", "token=/root/token", "--by-hand", "migrate"]
    gen(machine, "compose", *options, "--env", "RELEASE=$HOME", "--worker", "w=/usr/bin/sleep 1d")
    compose = ("docker", "compose", "--file", "/root/compose/mysite.compose.yaml")
    machine.run(*compose, "config", "--quiet")
    machine.run(*compose, "up", "--wait", "--detach", "--no-build")
    url = "http://127.0.0.1:8000"
    assert machine.run("curl", "-sS", url).stdout == "release $HOME"
    assert machine.run("curl", "-sS", f"{url}/write").stdout == "release $HOME"
    assert machine.run("curl", "-sS", f"{url}/secret").stdout == "secret\n"
    assert machine.run(*compose, "run", "--rm", "migrate").returncode == 0
    slow = machine.popen("curl", "-sS", f"{url}/slow/6", stdout=subprocess.PIPE)
    machine.wait(lambda: "slow" in machine.run("ps", "ax").stdout, "a request")
    stop = machine.popen(*compose, "stop", "web")
    codes = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/ready")
    machine.wait(lambda: machine.run(*codes, check=False).stdout == "503", "an announcement", 5)
    assert machine.run("curl", "-sS", url).stdout == "release $HOME"
    assert slow.communicate(timeout=30)[0] == "release $HOME"
    assert stop.wait(60) == 0
    (web,) = docker.inspect(machine, "inspect", "mysite-web-1")
    state: Any = web["State"]
    assert state["ExitCode"] == 0
    machine.run(*compose, "down", "--volumes")


def test_a_kubelet_s_probes_signals_and_grace_periods(machine: Machine) -> None:
    options = ["--image", "mysite:0", "--trust", "172.16.0.0/12", "--drain-delay", "5"]
    gen(machine, "kubernetes", *options)
    manifest = machine.read("/root/kubernetes/mysite.yaml")
    (deployment,) = (it for it in yaml.safe_load_all(manifest) if it["kind"] == "Deployment")
    machine.write("/root/kubelet.py", (HERE / "kubelet.py").read_text())
    said = machine.run(
        *("python3", "/root/kubelet.py", "mysite:0", str(UPDATES)),
        input=json.dumps(deployment["spec"]["template"]),
        timeout=1200,
    ).stdout
    seen = json.loads(said)
    print(said)
    watched = seen["watched"]
    assert [what for _, what in watched["started"]] == ["started", "ready"]
    assert watched["started"][0][0] >= 6  # not before it was imported, and not restarted meanwhile
    assert watched["while_busy"] == {"ready": True, "restarts": 0}
    assert any("livenessProbe failed: restarted" in what for _, what in watched["seen"])
    rolling = seen["rolling"]
    assert rolling["lost"] == []
    assert rolling["requests"] > 100
    assert rolling["releases"] == sorted(f"release {number}" for number in range(UPDATES + 1))
    assert rolling["slow"] == [f"release {number}" for number in range(UPDATES)]
    for deleted in rolling["deleted"]:
        assert deleted["exit"] == 0, deleted
        assert 5 <= deleted["took"] < 45
        assert deleted["unready_after"][0] < 3


@pytest.fixture
def swarm(machine: Machine, made: Installation) -> Iterator[Machine]:
    """The machine as a manager, with a worker of its own."""
    with docker.docker(made) as worker:
        docker.join(machine, worker)
        machine.run("hostname", "first")
        worker.run("hostname", "second")
        machine.run("docker", "swarm", "init", "--advertise-addr", "10.9.0.1")
        token = machine.run("docker", "swarm", "join-token", "--quiet", "worker").stdout.strip()
        worker.run("docker", "swarm", "join", "--token", token, "10.9.0.1:2377")
        names = [f"mysite:{number}" for number in range(1, UPDATES + 1)]
        for name in names:
            text = f"FROM mysite:0\nENV RELEASE={name.rpartition(':')[2]}\n"
            machine.write("/root/more/Dockerfile", text)
            machine.run("docker", "build", "--quiet", "--tag", name, "/root/more")
        machine.write("/root/more/Dockerfile", "FROM mysite:0\nENV SDACTIVATE_THREADS=none\n")
        machine.run("docker", "build", "--quiet", "--tag", "mysite:broken", "/root/more")
        save = ["docker", "save", "mysite:0", "mysite:broken", *names]
        docker.feed(worker, machine.command(*save), "docker", "load")
        yield machine
        machine.run("docker", "swarm", "leave", "--force")


def deploy(machine: Machine, number: object, *options: str, check: bool = True) -> None:
    given = ["--image", f"mysite:{number}", "--trust", "10.0.0.0/8", "--drain-delay", "5"]
    gen(machine, "stack", *given, *options)
    words = ["docker", "stack", "deploy", "--resolve-image", "never", "--detach=false"]
    words += ["-c", "/root/stack/mysite.stack.yaml", "mysite"]
    machine.run(*words, timeout=600, check=check)


def test_rolling_updates_on_a_swarm_lose_nothing(swarm: Machine) -> None:
    """The front is HAProxy on the stack's network: ingress publishing needs ip_vs in the kernel."""
    machine = swarm
    machine.run("sh", "-ec", "echo -n secret | docker secret create mysite_token -")
    more = ("--credential", "token=/root/token", "--by-hand", "migrate")
    deploy(machine, 0, *more)
    front = docker.FRONT.format(ready="/-/ready", name="tasks.mysite_web")
    machine.write("/root/haproxy.cfg", front)
    machine.run("docker", "config", "create", "front", "/root/haproxy.cfg")
    words = ["docker", "service", "create", "--detach=false", "--quiet", "--name", "front"]
    words += ["--network", "mysite_default", "--config", "source=front,target=/haproxy.cfg"]
    words += ["--publish", "mode=host,target=8080,published=8080", "--no-resolve-image"]
    words += ["--constraint", "node.role==manager", docker.BASE, "haproxy", "-f", "/haproxy.cfg"]
    machine.run(*words)
    url = "http://127.0.0.1:8080"
    machine.wait(lambda: machine.run("curl", "-sS", url).stdout == "release 0", "the site")
    assert machine.run("curl", "-sS", f"{url}/secret").stdout == "secret"
    machine.write("/root/load.py", LOAD)
    client = ("python3", "/root/load.py", "http", "8080", "16", "3600", "0.05")
    with machine.popen(*client, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        for number in range(1, UPDATES + 1):
            deploy(machine, number, *more)
            # It has converged when all new tasks serve: the last old one may still be asked
            machine.wait(
                lambda now=number: machine.run("curl", "-sS", url).stdout == f"release {now}",  # type: ignore[misc]
                f"release {number}",
            )
        # One that does not start is taken back, and nobody has seen it
        deploy(machine, "broken", *more, check=False)
        form = "{{.UpdateStatus.State}}"
        state = machine.run("docker", "service", "inspect", f"--format={form}", "mysite_web")
        assert state.stdout.strip() == "rollback_completed"
        output, _ = running.communicate(timeout=60)
    said = json.loads(output)
    print(said)
    assert said["failed"] == 0
    assert said["requests"] > 1000
    nodes = machine.run("docker", "stack", "ps", "--format={{.Node}}", "mysite").stdout.split()
    assert set(nodes) == {"first", "second"}
    job = ["docker", "stack", "deploy", "--resolve-image", "never", "--detach=false"]
    machine.run(*job, "-c", "/root/stack/mysite-migrate.stack.yaml", "mysite", timeout=120)
    done = machine.run("docker", "service", "ls", "--filter", "name=mysite_migrate").stdout
    assert "1/1 completed" in done
