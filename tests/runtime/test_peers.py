"""The runtime's check of the peer: real sockets, real control groups, real users."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdactivate.errors import Error, UsageError
from sdactivate.peer_rules import KERNEL_KNOWS_UNITS, kernel_version
from sdactivate.runtime.peers import units
from sdactivate.runtime.peers.gate import Gate
from sdactivate.systemd import cgroup

_CONNECT = """
import os, socket, sys
if sys.argv[2]:
    open(sys.argv[2] + "/cgroup.procs", "w").write("0")
if sys.argv[3]:
    os.setgroups([int(sys.argv[5])]); os.setgid(int(sys.argv[4])); os.setuid(int(sys.argv[3]))
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print("connected", flush=True)
sys.stdin.read()
"""
_CGROUPS = Path(cgroup.root()) if cgroup.root() else None
_KERNEL_KNOWS = kernel_version(os.uname().release) >= KERNEL_KNOWS_UNITS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which root only may")
with_cgroups = pytest.mark.skipif(
    os.geteuid() != 0 or _CGROUPS is None or not os.access(_CGROUPS, os.W_OK),
    reason="makes control groups, which root only may",
)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        os.chmod(directory, 0o755)
        listening.bind(path := f"{directory}/s")
        os.chmod(path, 0o666)
        listening.listen(16)
        yield listening


@contextmanager
def peer(
    server: socket.socket, cgroup: Path | None = None, ids: tuple[int, int, int] | None = None
) -> Iterator[int]:
    """The descriptor of a connection from another process, in `cgroup`, with uid, gid, group."""
    words = [str(number) for number in ids] if ids else ["", "", ""]
    argv = [sys.executable, "-c", _CONNECT, server.getsockname(), str(cgroup or ""), *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        connection, _ = server.accept()
        with connection:
            yield connection.fileno()
        process.communicate(b"")


@pytest.fixture
def slice_() -> Iterator[Path]:
    """A slice of our own at the top of the hierarchy."""
    assert _CGROUPS is not None
    top = _CGROUPS / f"sdactivatetest{os.getpid()}.slice"
    top.mkdir()
    yield top
    for directory in sorted(top.rglob("*"), reverse=True):
        if directory.is_dir():
            directory.rmdir()
    top.rmdir()


def _by_kernel(gate: Gate) -> None:
    if not _KERNEL_KNOWS:
        pytest.skip("this kernel doesn't tell a peer's control group (6.13 does)")


def _by_proc(gate: Gate) -> None:
    gate._checks = (units.ByProc([rule.name for rule in gate.rules]),)


Way = Callable[[Gate], None]
WAYS = pytest.mark.parametrize("way", [_by_kernel, _by_proc])


@with_cgroups
@WAYS
def test_the_unit_s_processes_are_served_and_nobody_else_s(
    server: socket.socket, slice_: Path, way: Way
) -> None:
    good, bad = slice_ / "nginx.service", slice_ / "php8.2-fpm.service"
    good.mkdir()
    bad.mkdir()
    gate = Gate(["unit:nginx.service"], [server])
    way(gate)
    with peer(server, good) as fd:
        assert gate.admits(fd)
        os.fstat(fd)  # still ours
    with peer(server, bad) as fd:
        assert not gate.admits(fd)
        os.fstat(fd)


@with_cgroups
@WAYS
def test_a_unit_may_start_after_us_and_restart(
    server: socket.socket, slice_: Path, way: Way
) -> None:
    gate = Gate(["unit:nginx.service"])
    way(gate)
    place = slice_ / "nginx.service"
    for _ in range(3):
        place.mkdir()
        with peer(server, place) as fd:
            assert gate.admits(fd)
        place.rmdir()


@with_cgroups
@WAYS
def test_a_directory_of_that_name_below_another_service_is_no_unit(
    server: socket.socket, slice_: Path, way: Way
) -> None:
    false = slice_ / "user@1000.service" / "app.slice" / "nginx.service"
    false.mkdir(parents=True)
    gate = Gate(["unit:nginx.service"])
    way(gate)
    with peer(server, false) as fd:
        assert not gate.admits(fd)


@with_cgroups
@WAYS
def test_a_unit_s_own_subgroups_are_the_unit(server: socket.socket, slice_: Path, way: Way) -> None:
    inside = slice_ / "nginx.service" / "workers"
    inside.mkdir(parents=True)
    gate = Gate(["unit:nginx.service"])
    way(gate)
    with peer(server, inside) as fd:
        assert gate.admits(fd)


@as_root
@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ("user:20001", True),
        ("user:20002", False),
        ("group:20002", True),  # its primary group
        ("group:20003", True),  # a supplementary one
        ("group:20004", False),
        ("user:root", False),
    ],
)
def test_users_and_groups_are_those_of_the_peer(
    server: socket.socket, rule: str, admitted: bool
) -> None:
    gate = Gate([rule], [server])
    with peer(server, ids=(20001, 20002, 20003)) as fd:
        assert gate.admits(fd) is admitted


@as_root
def test_any_rule_that_matches_is_enough(server: socket.socket) -> None:
    gate = Gate(["user:20009", "group:20003"])
    with peer(server, ids=(20001, 20002, 20003)) as fd:
        assert gate.admits(fd)


def test_without_rules_everybody_is_served() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Gate([]).admits(ours.fileno())


def test_a_peer_that_is_no_unix_socket_s_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(Error, match="not a unix socket"):
            Gate(["user:root"], [server])
        with socket.create_connection(server.getsockname()):
            connection, _ = server.accept()
            with connection:
                assert not Gate(["user:root"]).admits(connection.fileno())


def test_refusals_are_one_line_a_minute_that_counts_the_rest(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    strict = Gate(["user:20001"]) if os.geteuid() == 0 else Gate([f"user:{os.geteuid() + 1}"])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(5):
            assert not strict.admits(ours.fileno())
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"process {os.getpid()}" in lines[0]
        assert str(strict.rules[0]) in lines[0]
        clock += 60
        assert not strict.admits(ours.fileno())
        assert "and 4 others since" in capfd.readouterr().err


def test_a_user_that_nobody_knows_is_an_error_at_the_start() -> None:
    with pytest.raises(Error, match="no such user"):
        Gate(["user:no-such-user"])
    with pytest.raises(UsageError):
        Gate(["nginx"])


_IN_A_SANDBOX = """
import sys
from sdactivate.errors import Error
from sdactivate.runtime.peers.gate import Gate
try:
    Gate([sys.argv[1]])
except Error as error:
    print(error)
"""


@as_root
@pytest.mark.parametrize("rule", ["user:20001", "group:20001"])
def test_ids_that_the_sandbox_hides_are_an_error_at_the_start(rule: str) -> None:
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _IN_A_SANDBOX, rule]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Set PrivateUsers=no" in said


@as_root
def test_a_unit_that_can_t_be_told_is_an_error_at_the_start() -> None:
    hide = "mount -t tmpfs none /sys; mount -t proc -o hidepid=invisible,subset=pid proc /proc"
    drop = "setpriv --regid 20001 --clear-groups --inh-caps=-all --bounding-set=-all"
    # No control groups to compare with, and nobody else's /proc entries: hidepid= lets root's
    # group by and those who may trace, as root with its capabilities does.
    script = f"{hide}; {drop} {sys.executable} -c '{_IN_A_SANDBOX}' unit:nginx.service; true"
    argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Set ProtectProc=default" in said
