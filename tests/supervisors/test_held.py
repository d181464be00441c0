"""Where the socket outlives the service by the supervisor's own means: s6-fdholder, circus."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.reachable import as_user
from tests.supervisors.conftest import USER, House, Load, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the site runs as a user of its own")


@pytest.mark.skipif(not shutil.which("s6-fdholder-daemon"), reason="s6 is not installed")
def test_s6_fdholder(house: House) -> None:
    """The launcher makes the socket and stores it; each start of the site retrieves it."""
    home = house.home / "held"
    name = f"unix:{house.socket}"
    rules = home / "rules" / "uid" / str(pwd.getpwnam(USER).pw_uid)
    (rules / "env").mkdir(parents=True)
    (rules / "allow").touch()
    for right in ("STORE", "RETRIEVE"):
        (rules / "env" / f"S6_FDHOLDER_{right}_REGEX").write_text(f"^{name}$")
    holder = subprocess.Popen(["s6-fdholder-daemon", "-i", str(home / "rules"), str(home / "s")])
    service = home / "mysite"
    service.mkdir()
    supervise = None
    try:
        wait_until((home / "s").exists, "the holder")
        launch = [house.python, "-m", "sdactivate", "launch", "--listen", str(house.socket)]
        launch += ["--group", "www-data", "--run-as", USER, "--"]
        launch += ["/bin/sh", "-c", f"exec s6-fdholder-store {home}/s {name} <&3"]
        subprocess.run(launch, check=True, env=house.environ, timeout=60)
        run = service / "run"
        run.write_text(
            f"#!/bin/sh\ncd {house.home}/mysite\nexport STATE_DIRECTORY={house.state}\n"
            f"exec s6-setuidgid {USER} s6-fdholder-retrieve {home}/s {name} "
            f"{house.python} -m sdactivate serve mysite.wsgi:application\n"
        )
        run.chmod(0o755)
        supervise = subprocess.Popen(["s6-supervise", str(service)], env=house.environ)
        wait_until(house.serves, "a page")
        with Load(house) as load:
            for _ in range(3):
                load.wait_for(10)
                before = _pid(service)
                subprocess.run(["s6-svc", "-t", str(service)], check=True, timeout=60)
                wait_until(partial(_is_new, service, before), "a new process")
                load.wait_for(10)
        assert set(load.statuses) == {200}
    finally:
        if supervise:
            subprocess.run(["s6-svc", "-dx", str(service)], check=True, timeout=60)
            supervise.wait(60)
        holder.terminate()
        holder.wait(60)
        house.socket.unlink(missing_ok=True)


def _pid(service: Path) -> str:
    done = subprocess.run(
        ["s6-svstat", "-o", "pid", str(service)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().replace("-1", "")


def test_circus(house: House) -> None:
    """circusd, started by the launcher and no longer root, keeps the socket."""
    home = house.home / "circus"
    home.mkdir()
    (file,) = house.generate("circus", home)
    text = file.read_text()
    assert "circusd /etc/circus/mysite.ini" in text
    # a control socket of this test's own, in a directory of the user's
    file.write_text(text.replace("ipc:///tmp/", f"ipc://{house.state}/"))
    launch = [house.python, "-m", "sdactivate", "launch", "--listen", str(house.socket)]
    launch += ["--group", "www-data", "--run-as", USER, "--umask", "0077", "--chdir"]
    launch += [f"{house.home}/mysite", "--", house.python, "-m", "circus.circusd", str(file)]
    log = (home / "log").open("w")
    process = subprocess.Popen(launch, env=house.environ, stdout=log, stderr=log)
    try:
        wait_until(lambda: house.socket.exists() and house.serves(), "a page")
        control = [house.python, "-m", "circus.circusctl", "--timeout", "60", "--endpoint"]
        control += [f"ipc://{house.state}/circus-mysite.endpoint"]
        with Load(house) as load:
            for _ in range(3):
                load.wait_for(10)
                subprocess.run(
                    [*control, "restart", "mysite", "--waiting"],
                    check=True,
                    capture_output=True,
                    env=house.environ,
                    timeout=60,
                )
                load.wait_for(10)
        assert set(load.statuses) == {200}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log.close()
        sys.stderr.write((home / "log").read_text())
        house.socket.unlink(missing_ok=True)


class Einhorn:
    """What einhorn does, which is a Ruby gem and in no Debian: the master is this process.

    It binds, starts workers with these variables and the socket at its own number, and at an
    upgrade asks the workers of the old code to leave by USR2, once those of the new code live
    (einhorn's lib/einhorn/command.rb: prepare_child_environment, cull).
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(house.socket))
        self._sock.listen()
        shutil.chown(house.socket, "root", "www-data")
        house.socket.chmod(0o660)
        self.workers: list[subprocess.Popen[bytes]] = []

    def spin_up(self) -> "subprocess.Popen[bytes]":
        fd = str(self._sock.fileno())
        environ = {
            "EINHORN_MASTER_PID": str(os.getpid()),
            "EINHORN_SOCK_PATH": "/tmp/einhorn.sock",
            "EINHORN_FD_COUNT": "1",
            "EINHORN_FD_0": fd,
            "EINHORN_CHILD_INDEX": str(len(self.workers)),
            "EINHORN_FDS": fd,
        }
        worker = subprocess.Popen(
            [self._house.python, "-m", "sdactivate", "serve", "mysite.wsgi:application"],
            cwd=self._house.home / "mysite",
            env={**self._house.environ, "STATE_DIRECTORY": str(self._house.state), **environ},
            pass_fds=(self._sock.fileno(),),
            **as_user(USER),
        )
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self._sock.close()
        self._house.socket.unlink()


def _is_new(service: Path, before: str) -> bool:
    return _pid(service) not in (before, "")


def test_einhorn_upgrades_its_workers(house: House) -> None:
    master = Einhorn(house)
    try:
        old = master.spin_up()
        wait_until(house.serves, "a page")
        with Load(house) as load:
            for _ in range(3):
                new = master.spin_up()
                wait_until(partial(_accepts, new.pid), "the new worker")
                load.wait_for(10)
                old.send_signal(signal.SIGUSR2)
                assert old.wait(60) == 0
                load.wait_for(10)
                old = new
        assert set(load.statuses) == {200}
    finally:
        master.end()


def _accepts(pid: int) -> bool:
    """Whether a worker has come as far as waiting for connections: its threads are there."""
    return len(os.listdir(f"/proc/{pid}/task")) > 1
