"""The old command line: what each word means, and that it does it."""

import os
import pwd
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.django.runfcgi import OPTIONS, Meaning, modern, understand
from sdactivate.errors import UsageError
from tests.processes import has_ended, open_files
from tests.reachable import as_user
from tests.supervisors.conftest import PATIENCE, USER, House, house, wait_until

__all__ = ["house"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users, which only root can")


def test_a_command_line_of_old() -> None:
    words = "protocol=scgi socket=/run/x.sock daemonize=false method=threaded maxchildren=12"
    meaning = understand(words.split())
    assert meaning.listen == "/run/x.sock"
    assert meaning.settings == {"protocol": "scgi", "workers": "1", "threads": "12"}
    assert not meaning.daemonize
    assert meaning.mode == 0o660


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("", "listen", ""),
        ("", "daemonize", False),
        ("socket=/x", "daemonize", True),
        ("host=127.0.0.1 port=8000", "listen", "127.0.0.1:8000"),
        ("host=::1 port=8000", "listen", "[::1]:8000"),
        ("socket=/x umask=002", "mode", 0o775),
        ("socket=/x umask=0117", "umask", 0o117),
        ("socket=/x umask=002 mode=0660", "mode", 0o660),
        ("socket=/x mode=u=rw,g=rw,o=", "mode", 0o660),
        ("socket=/x group=www-data", "group", "www-data"),
        ("socket=/x run-as=games", "run_as", "games"),
        ("socket=/x run_as=games", "run_as", "games"),
        ("socket=/x DAEMONIZE=no", "daemonize", False),
        ("socket=/x daemonize", "daemonize", True),
        ("socket=/x outlog=/o errlog=/e", "logs", ("/o", "/e")),
    ],
)
def test_words(words: str, field: str, value: object) -> None:
    assert getattr(understand(words.split()), field) == value


def test_prefork_is_processes_of_one_thread() -> None:
    meaning = understand(["method=prefork", "maxchildren=3", "maxrequests=500"])
    assert meaning.settings == {
        "protocol": "fastcgi",
        "workers": "3",
        "threads": "1",
        "max_requests": "500",
    }


@pytest.mark.parametrize(
    "words",
    [
        "protocol=ajp",
        "method=event",
        "socket=/x port=1",
        "host=127.0.0.1",
        "umask=9",
        "umask=-1",
        "mode=4755",
        "maxchildren=many",
        "maxchildren=0",
        "run-as=games",
        "mode=0660",
        "socket",
        "pidfile",
        "daemonize=maybe",
        "sockets=/x",
    ],
)
def test_what_means_nothing_is_refused_by_its_name(words: str) -> None:
    with pytest.raises(UsageError, match=words.partition("=")[0].rstrip("s") + "|socket="):
        understand(words.split())


@given(st.lists(st.builds("{}={}".format, st.sampled_from(list(OPTIONS)), st.text(max_size=8))))
def test_any_words_mean_something_or_are_refused(words: list[str]) -> None:
    try:
        meaning = understand(words)
    except UsageError:
        return
    assert isinstance(meaning, Meaning)
    assert 0 <= meaning.mode <= 0o777


def test_the_modern_form() -> None:
    words = "socket=/run/x group=www-data protocol=scgi method=threaded"
    serve = "-- sdactivate serve m:a --protocol=scgi --workers=1"
    assert modern(understand(words.split()), ["sdactivate", "serve", "m:a"]) == (
        f"sdactivate launch --listen /run/x --mode 0660 --group www-data {serve}"
    )
    words += " umask=007 workdir=/srv"
    assert modern(understand(words.split()), ["sdactivate", "serve", "m:a"]) == (
        "sdactivate launch --listen /run/x --mode 0770 --group www-data "
        f"--umask 0007 --chdir /srv {serve}"
    )
    words = "host=127.0.0.1 port=8000 protocol=scgi method=threaded"
    assert modern(understand(words.split()), ["sdactivate", "serve", "m:a"]) == (
        f"sdactivate launch --listen 127.0.0.1:8000 {serve}"
    )


RunFcgi = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def runfcgi(house: House) -> Iterator[RunFcgi]:
    site = house.home / "mysite"
    (site / "mysite" / "old.py").write_text(
        "from mysite.settings import *\nINSTALLED_APPS += ['sdactivate.django']\n"
    )
    started: list[subprocess.Popen[str]] = []
    environ = {
        **house.environ,
        "STATE_DIRECTORY": str(house.state),
        "DJANGO_SETTINGS_MODULE": "mysite.old",
    }

    def start(*words: str, **options: Any) -> "subprocess.Popen[str]":
        command = [house.python, "manage.py", "runfcgi", *words]
        started.append(
            subprocess.Popen(
                command, cwd=site, env=environ, stderr=subprocess.PIPE, text=True, **options
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    house.socket.unlink(missing_ok=True)


@needs_root
def test_it_serves_behind_nginx_with_the_mode_that_was_asked(
    runfcgi: RunFcgi, house: House
) -> None:
    process = runfcgi(
        *("protocol=scgi", f"socket={house.socket}", "daemonize=false", "method=threaded"),
        *("maxchildren=3", "group=www-data", "mode=0620", f"run-as={USER}", "umask=027"),
    )
    wait_until(lambda: house.socket.exists() and house.serves(), "a page")
    found = house.socket.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o620)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"Uid:\t{pwd.getpwnam(USER).pw_uid}\t" in status
    assert "Umask:\t0027" in status
    process.terminate()
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "runfcgi is kept for old scripts" in talk
    assert f"sdactivate launch --listen {house.socket} --mode 0620" in talk


@needs_root
def test_it_goes_to_the_background_and_writes_its_number(runfcgi: RunFcgi, house: House) -> None:
    pidfile, log = house.home / "pid", house.home / "log"
    process = runfcgi(
        *("protocol=scgi", f"socket={house.socket}", f"pidfile={pidfile}", f"errlog={log}"),
        *("method=threaded", "group=www-data", f"run-as={USER}"),
    )
    assert process.wait(60) == 0
    wait_until(lambda: house.socket.exists() and house.serves(), "a page")
    pid = int(pidfile.read_text())
    try:
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{pid}/fd/2") == str(log)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not _alive(pid), "its end")


def _connections(house: House, pid: int) -> list[str]:
    """The connections that the process has accepted; see proc(5), /proc/net/unix."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    inodes = {fields[6] for fields in lines if fields[7:] == [str(house.socket)]}
    inodes -= {fields[6] for fields in lines if fields[3] == "00010000"}  # it listens
    return [name for name in open_files(pid) if name.removeprefix("socket:[").rstrip("]") in inodes]


def _alive(pid: int) -> bool:
    time.sleep(0.01)
    return not has_ended(pid)


@needs_root
def test_a_restart_as_old_scripts_do_it(runfcgi: RunFcgi, house: House) -> None:
    """kill `cat PIDFILE`, and start at once: while the old process finishes what it has begun."""
    pidfile = house.home / "pid"
    words = ["protocol=scgi", f"socket={house.socket}", f"pidfile={pidfile}", "method=threaded"]
    words += ["group=www-data", f"run-as={USER}"]
    numbers = []
    with ThreadPoolExecutor() as threads:
        for _ in range(2):
            process = runfcgi(*words)
            _, talk = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, talk
            wait_until(house.serves, "a page")
            numbers.append(int(pidfile.read_text()))
            wait_until(lambda: not _connections(house, numbers[-1]), "the page's end")
            slow = threads.submit(house.get, "/slow?ms=3000")
            wait_until(lambda: _connections(house, numbers[-1]), "the slow request")
            os.kill(numbers[-1], signal.SIGTERM)
            pidfile.unlink()
    assert slow.result()[0] == 200
    assert numbers[0] != numbers[1]
    wait_until(lambda: not any(map(_alive, numbers)), "their end")


@needs_root
def test_a_start_that_fails_leaves_the_number_of_the_one_that_serves(
    runfcgi: RunFcgi, house: House
) -> None:
    pidfile = house.home / "pid"
    pidfile.write_text("1\n")
    process = runfcgi(
        *(f"socket={house.home}/mysite/manage.py", f"pidfile={pidfile}", f"run-as={USER}"),
    )
    _, talk = process.communicate(timeout=PATIENCE)
    assert (process.returncode, pidfile.read_text()) == (1, "1\n"), talk


@needs_root
@pytest.mark.parametrize("word", ["pidfile", "outlog", "errlog"])
def test_root_writes_where_no_link_of_others_leads(
    runfcgi: RunFcgi, house: House, word: str
) -> None:
    precious = house.home / "precious"
    precious.write_text("root's")
    (house.home / "link").symlink_to(precious)
    for path, said in (
        (house.home / "link", "it is a symbolic link"),
        (house.state / "file", f"belongs to user {pwd.getpwnam(USER).pw_uid}"),
    ):
        process = runfcgi(f"socket={house.socket}", f"run-as={USER}", f"{word}={path}")
        _, talk = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert f"{word}={path}: " in talk
        assert said in talk
    assert precious.read_text() == "root's"
    assert not (house.state / "file").exists()
    (house.home / "link").unlink()


def test_help_as_of_old(runfcgi: RunFcgi) -> None:
    process = runfcgi("help", stdout=subprocess.PIPE)
    shown, _ = process.communicate(timeout=PATIENCE)
    lines = [line.split(":")[0].strip() for line in shown.splitlines()]
    assert [word for word in OPTIONS if word not in lines] == []


@needs_root
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["user=nosuchuser"], 2, "there is no user 'nosuchuser'"),
        (["outlog=/nowhere/log"], 1, "/nowhere/log"),
        (["pidfile=/nowhere/pid"], 1, "/nowhere/pid"),
        (["workdir=/root"], 1, "--chdir /root"),
        (["socket=/tmp/site.sock"], 1, "/tmp can be written"),
    ],
)
def test_what_goes_wrong_on_the_way_to_the_background_is_said(
    runfcgi: RunFcgi, house: House, words: list[str], code: int, said: str
) -> None:
    if words == ["workdir=/root"] and Path("/root").stat().st_mode & 0o005:
        words, said = ["workdir=/nowhere"], "--chdir /nowhere"
    process = runfcgi(f"socket={house.socket}", f"run-as={USER}", "daemonize=true", *words)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == code
    assert said in talk
    assert "Traceback" not in talk


@needs_root
def test_root_has_to_say_whom_to_become(runfcgi: RunFcgi, house: House) -> None:
    process = runfcgi(f"socket={house.socket}", "daemonize=false")
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "run-as=USER is missing" in talk
    assert not house.socket.exists()


@needs_root
def test_without_root_the_socket_is_ones_own(runfcgi: RunFcgi, house: House) -> None:
    path = house.state / "own.sock"
    process = runfcgi(
        *("protocol=scgi", f"socket={path}", "daemonize=false", "method=threaded", "umask=077"),
        **as_user(USER),
    )
    wait_until(lambda: path.exists() and stat.S_IMODE(path.stat().st_mode), "the socket")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    process.terminate()
    process.communicate(timeout=60)
