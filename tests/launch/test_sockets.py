"""Paths in others' hands, things in the way, and races: each tried for real."""

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sdactivate.errors import Error
from sdactivate.launch.parent_directory import UnsafeDirectory, holding_parent
from sdactivate.launch.sockets import Access, PathTaken, SocketInUse, listen_unix
from tests.launch.conftest import LAUNCH, PATIENCE, needs_root, wait_until
from tests.processes import open_files

Start = Callable[..., "subprocess.Popen[str]"]
OWN = Access(os.geteuid(), os.getegid(), 0o660)


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "s"


def test_a_dead_socket_is_taken_over(path: Path) -> None:
    listen_unix(str(path), OWN, 1).close()
    with listen_unix(str(path), OWN, 1), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("listens", [True, False])
def test_a_living_socket_is_refused_and_not_woken(path: Path, kind: int, listens: bool) -> None:
    with socket.socket(socket.AF_UNIX, kind) as living:
        living.bind(str(path))
        if listens and kind != socket.SOCK_DGRAM:
            living.listen()
        living.setblocking(False)
        with pytest.raises(SocketInUse, match="already listens there"):
            listen_unix(str(path), OWN, 1)
        with pytest.raises(OSError):  # noqa: PT011  # EAGAIN or EINVAL: nobody has knocked
            living.recv(1) if kind == socket.SOCK_DGRAM else living.accept()
    assert path.is_socket()


def test_a_living_socket_with_a_full_backlog_is_refused(path: Path) -> None:
    with listen_unix(str(path), OWN, 0), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))
        with pytest.raises(SocketInUse):
            listen_unix(str(path), OWN, 1)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda p: p.symlink_to("t"), os.mkfifo])
def test_what_is_no_socket_is_refused_and_left(path: Path, make: Callable[[Path], object]) -> None:
    make(path)
    before = path.lstat()
    with pytest.raises(PathTaken, match="is not a socket"):
        listen_unix(str(path), OWN, 1)
    assert path.lstat() == before


def test_a_symbolic_link_to_a_dead_socket_is_not_followed(path: Path, directory: Path) -> None:
    listen_unix(str(directory / "other"), OWN, 1).close()
    path.symlink_to("other")
    with pytest.raises(PathTaken):
        listen_unix(str(path), OWN, 1)
    assert (directory / "other").is_socket()


def test_the_lock_is_no_link(path: Path, directory: Path) -> None:
    (directory / ".s.lock").symlink_to("elsewhere")
    with pytest.raises(Error, match="symbolic links"):
        listen_unix(str(path), OWN, 1)
    assert os.listdir(directory) == [".s.lock"]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777, 0o770])
def test_a_directory_that_others_can_write_is_refused(
    path: Path, directory: Path, mode: int
) -> None:
    directory.chmod(mode)
    with pytest.raises(UnsafeDirectory, match="can be written by") as refused:
        listen_unix(str(path), OWN, 1)
    # nobody is told to close a /tmp
    assert ("chmod go-w" in str(refused.value)) == (mode != 0o1777)


def test_a_directory_on_the_way_that_others_can_write_is_refused(
    path: Path, directory: Path
) -> None:
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a").chmod(0o777)
    with pytest.raises(UnsafeDirectory, match="/a can be written"):
        listen_unix(str(directory / "a" / "b" / "s"), OWN, 1)
    (directory / "a").chmod(0o1777)  # a sticky one on the way will do: what is ours stays ours
    listen_unix(str(directory / "a" / "b" / "s"), OWN, 1).close()


@needs_root
def test_a_directory_of_somebody_else_is_refused(path: Path, directory: Path) -> None:
    os.chown(directory, 5, -1)
    with pytest.raises(UnsafeDirectory, match="belongs to user 5"):
        listen_unix(str(path), OWN, 1)


@needs_root
@pytest.mark.skipif(not shutil.which("setfacl"), reason="setfacl (package acl) is not installed")
def test_access_control_lists_open_nothing(path: Path, directory: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:games:rwx,m::rwx", directory], check=True)
    with listen_unix(str(path), OWN, 1):
        shown = subprocess.run(["getfacl", "-cp", path], capture_output=True, text=True, check=True)
    assert "games" not in shown.stdout
    subprocess.run(["setfacl", "-m", "u:games:rwx", directory], check=True)
    with pytest.raises(UnsafeDirectory):
        listen_unix(str(directory / "t"), OWN, 1)


@needs_root
def test_links_on_the_way_are_followed_if_a_trusted_hand_made_them(directory: Path) -> None:
    (directory / "real").mkdir()
    (directory / "absolute").symlink_to(directory / "real")
    (directory / "relative").symlink_to("./absolute/../real")
    (directory / "loop").symlink_to("loop")
    (directory / "foreign").symlink_to("real")
    os.chown(directory / "foreign", 5, 5, follow_symlinks=False)
    for name in ("absolute", "relative"):
        with holding_parent(f"{directory}/{name}/s") as (fd, last):
            assert os.path.samestat(os.fstat(fd), (directory / "real").stat())
            assert last == "s"
    with (
        pytest.raises(Error, match="too many symbolic links"),
        holding_parent(f"{directory}/loop/s"),
    ):
        pass
    with pytest.raises(UnsafeDirectory), holding_parent(f"{directory}/foreign/s"):
        pass


@pytest.mark.parametrize("path", ["s", "run/s", "/run/", "/run/..", "/"])
def test_only_absolute_paths_of_files(path: str) -> None:
    with pytest.raises(Error, match="absolute path"), holding_parent(path):
        pass


def test_no_descriptors_are_left(path: Path, directory: Path) -> None:
    before = os.listdir("/proc/self/fd")
    listen_unix(str(path), OWN, 1).close()
    path.unlink()
    path.touch()
    for bad in (path, directory / "missing" / "s", path / "s"):
        with pytest.raises(Error):
            listen_unix(str(bad), OWN, 1)
    assert os.listdir("/proc/self/fd") == before


class TestRaces:
    """The launcher is stopped where somebody could be quicker than it, and somebody is."""

    @pytest.fixture
    def start(self, path: Path) -> Iterator[Start]:
        processes: list[subprocess.Popen[str]] = []

        def popen(*wrapper: str) -> "subprocess.Popen[str]":
            account = ["--run-as", "games"] if os.geteuid() == 0 else []
            command = [*wrapper, *LAUNCH, "--listen", str(path), *account, "--", "/bin/echo", "no"]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            processes.append(process)
            return process

        yield popen
        for process in processes:
            process.kill()
            process.communicate()

    def at_the_lock(self, start: Start, directory: Path) -> "subprocess.Popen[str]":
        process = start()
        wait_until(lambda: f"{directory}/.s.lock" in open_files(process.pid), "the launcher")
        return process

    def refused(self, process: "subprocess.Popen[str]", words: str) -> None:
        output, talk = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (1, "")
        assert words in talk

    def test_the_directory_becomes_a_link_elsewhere(self, start: Start, directory: Path) -> None:
        elsewhere = Path(f"{directory}-elsewhere")
        moved = Path(f"{directory}-moved")
        elsewhere.mkdir()
        try:
            with (directory / ".s.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                process = self.at_the_lock(start, directory)
                directory.rename(moved)
                directory.symlink_to(elsewhere)
            self.refused(process, "was replaced while")
            strays = [file.stat().st_mode for file in elsewhere.iterdir()]
            assert strays == [stat.S_IFSOCK], "what was made there is closed to everybody"
        finally:
            directory.unlink()
            moved.rename(directory)
            shutil.rmtree(elsewhere)

    def test_a_file_appears_before_we_look(self, start: Start, path: Path, directory: Path) -> None:
        with (directory / ".s.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self.at_the_lock(start, directory)
            path.write_text("precious")
        self.refused(process, "is not a socket")
        assert path.read_text() == "precious"

    @pytest.fixture
    def precious(self, directory: Path) -> Path:
        precious = directory / "precious"
        precious.write_text("")
        precious.chmod(0o600)
        return precious

    @pytest.fixture
    def stop_after(self, start: Start, directory: Path) -> Iterator[Start]:
        """Start a launcher and stop it right after its first call of one of these."""
        if not shutil.which("strace"):
            pytest.skip("strace is not installed")
        trace = directory / "trace"
        trace.touch()
        stopped: list[subprocess.Popen[str]] = []

        def stop(calls: str) -> "subprocess.Popen[str]":
            inject = f"inject={calls}:signal=STOP:when=1"
            process = start("strace", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", inject)
            stopped.append(process)
            wait_until(lambda: "stopped by" in trace.read_text(), calls)
            return process

        yield stop
        for process in stopped:
            self.go_on(process)  # it would stay for ever

    def go_on(self, process: "subprocess.Popen[str]") -> None:
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for pid in children.split():
                os.kill(int(pid), signal.SIGCONT)

    def test_a_link_appears_between_looking_and_binding(
        self, stop_after: Start, path: Path
    ) -> None:
        process = stop_after("umask")
        path.symlink_to("/etc/passwd")
        self.go_on(process)
        self.refused(process, "has just created this path")
        assert path.is_symlink()

    def test_the_socket_is_exchanged_before_it_is_held(
        self, stop_after: Start, path: Path, precious: Path
    ) -> None:
        process = stop_after("bind")
        path.unlink()
        path.hardlink_to(precious)
        self.go_on(process)
        self.refused(process, "another file took this path")
        assert precious.stat().st_mode & 0o777 == 0o600

    def test_the_socket_is_exchanged_before_its_mode_is_set(
        self, stop_after: Start, path: Path, precious: Path
    ) -> None:
        process = stop_after("chown,fchownat,lchown")
        assert path.stat().st_mode == stat.S_IFSOCK
        path.unlink()
        path.hardlink_to(precious)
        self.go_on(process)
        self.refused(process, "another file took this path")
        assert precious.stat().st_mode & 0o777 == 0o600, "only what was held was changed"
        assert path.samefile(precious)

    @needs_root
    def test_until_the_mode_is_set_nobody_gets_in(self, stop_after: Start, path: Path) -> None:
        process = stop_after("chown,fchownat,lchown")
        knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", knock, path],
            user="games",
            group="games",
            extra_groups=[0],
            capture_output=True,
            text=True,
        )
        assert "Permission denied" in done.stderr
        self.go_on(process)
        assert process.wait(PATIENCE) == 0
        assert path.stat().st_mode & 0o777 == 0o660

    def test_two_launchers_at_one_dead_socket(self, path: Path, directory: Path) -> None:
        """Eight start at once on a dead socket: one has it, the others say that it lives."""
        listen_unix(str(path), OWN, 1).close()
        account = ["--run-as", "games"] if os.geteuid() == 0 else []
        command = [*LAUNCH, "--listen", str(path), *account, "--", "/bin/sleep", "1000"]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(8)]
        try:
            wait_until(lambda: sum(p.poll() is not None for p in started) == 7, "seven refusals")
            talk = [p.communicate()[1] for p in started if p.poll() is not None]
            assert all("a process already listens there" in words for words in talk), talk
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            assert sorted(os.listdir(directory)) == ["s"]
        finally:
            for process in started:
                with process:
                    process.kill()
