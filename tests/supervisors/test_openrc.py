"""OpenRC, the real one, in namespaces of its own: start, serve, reload, crash, restart, stop."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.supervisors.conftest import House, Load, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts and changes users, which only root can"),
    pytest.mark.skipif(
        not shutil.which("supervise-daemon"),
        reason="openrc is not installed; from Debian 13 on it can't be, beside systemd",
    ),
]


class OpenRC:
    """A first process that takes commands: openrc.sh."""

    def __init__(self, house: House) -> None:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["--propagation", "unchanged", "sh"]
        command += [str(Path(__file__).with_name("openrc.sh")), str(house.home)]
        self._talk = (house.home / "openrc.talk").open("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._talk,
            env=house.environ,
            text=True,
        )

    def run(self, command: str) -> int:
        """Run a command inside; returns its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    @property
    def talk(self) -> str:
        """What has been said on the terminal."""
        self._talk.seek(0)
        return self._talk.read()

    def end(self) -> None:
        self._process.kill()  # and with it, by --kill-child, all that is inside
        self._process.communicate()
        self._talk.close()


@pytest.fixture
def openrc(house: House) -> Iterator[OpenRC]:
    running = OpenRC(house)
    yield running
    running.end()
    house.socket.unlink(missing_ok=True)


def test_start_serve_reload_crash_restart_stop(openrc: OpenRC, house: House) -> None:
    (script,) = house.generate("openrc", house.home / "openrc")
    log = house.home / "openrc.log"
    assert openrc.run(f"cp {script} /etc/init.d/mysite") == 0
    assert openrc.run(f"touch {log} /var/log/mysite.log") == 0
    assert openrc.run(f"mount --bind {log} /var/log/mysite.log") == 0

    assert openrc.run("rc-service mysite start") == 0, openrc.talk
    wait_until(house.serves, "a page")
    assert openrc.run("rc-service mysite status") == 0
    found = house.socket.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o660)
    (first,) = house.processes()

    with Load(house) as load:
        for count in range(1, 4):
            load.wait_for(10)
            assert openrc.run("rc-service mysite reload") == 0, openrc.talk
            wait_until(partial(_says, log, "reloading", count), "the reload")
            load.wait_for(10)
    assert set(load.statuses) == {200}
    assert house.processes() == [first]

    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: house.processes() not in ([first], []) and house.serves(), "a start after a crash"
    )
    (second,) = house.processes()
    assert openrc.run("rc-service mysite restart") == 0, openrc.talk
    wait_until(lambda: house.processes() not in ([second], []) and house.serves(), "a restart")

    assert openrc.run("rc-service mysite stop") == 0, openrc.talk
    assert house.processes() == []
    assert house.get()[0] == 502
    assert openrc.run("rc-service mysite status") == 3
    assert "ERROR" not in openrc.talk


def _says(log: Path, word: str, times: int) -> bool:
    return log.read_text().count(word) == times
