"""Sockets passed by sd_listen_fds(3): real descriptors to a real child, taken or refused."""

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.taking import inherit, take
from tests.servers.peers import PROTOCOLS, Request, ask
from tests.servers.service import Service, listener, serving

FAMILIES = ["unix", "tcp", "tcp6", "vsock"]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with listener(tmp_path) as sock:
        yield sock


# Taken


@pytest.mark.parametrize("family", FAMILIES)
def test_a_listening_socket_of_every_family(tmp_path: Path, family: str) -> None:
    with listener(tmp_path, family) as sock:
        found = inherit(sock.fileno(), LISTEN_FDNAMES="web")
        address = sock.getsockname()
    assert (found["names"], found["fds"]) == (["web"], [3])
    assert found["addresses"] == [address if family == "unix" else list(address)]
    assert (found["listening"], found["inheritable"]) == ([True], [False])
    assert found["left"] == [], "neither os.environ nor the C library has the variables"
    assert found["again"] == "NoSockets"


def test_several_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(listener(tmp_path, family)) for family in FAMILIES]
        names = [f"{family}.socket" for family in FAMILIES]
        found = inherit(*(sock.fileno() for sock in sockets), LISTEN_FDNAMES=":".join(names))
        assert found["names"] == names
        assert found["fds"] == [3, 4, 5, 6]
        assert found["addresses"][0] == str(tmp_path / "socket")
        assert [address[1] for address in found["addresses"][1:]] == [
            sock.getsockname()[1] for sock in sockets[1:]
        ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("web:admin", ["web", "admin"]),
        ("web:web", ["web", "web"]),  # one unit with two ListenStream= lines
        ("a.socket:b@1.socket", ["a.socket", "b@1.socket"]),
        (None, ["unknown", "unknown"]),
    ],
)
def test_names(listening: socket.socket, names: str | None, expected: list[str]) -> None:
    fd = listening.fileno()
    env = {"LISTEN_FDNAMES": names} if names is not None else {}
    assert inherit(fd, fd, **env)["names"] == expected


def test_nothing_about_the_socket_is_changed(listening: socket.socket, tmp_path: Path) -> None:
    """Its flags belong to all who share it, its file to the supervisor."""
    path = tmp_path / "socket"
    path.chmod(0o604)
    for flags in (0, os.O_NONBLOCK):
        fcntl.fcntl(listening, fcntl.F_SETFL, flags)
        before = fcntl.fcntl(listening, fcntl.F_GETFL), path.stat()
        assert inherit(listening.fileno())["listening"] == [True]
        after = fcntl.fcntl(listening, fcntl.F_GETFL), path.stat()
        assert after == before
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))


def test_the_right_pidfd(listening: socket.socket) -> None:
    """systemd 258: the inode of the child's own pidfd, where the kernel gives each its own."""
    fd = listening.fileno()
    before = (
        f"import os; os.dup2({fd}, 3)\n"
        "fd = os.pidfd_open(os.getpid())\n"
        "os.environ['LISTEN_PIDFDID'] = str(os.fstat(fd).st_ino); os.close(fd)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
    )
    passed = [fd, 3] if fd != 3 else [3]
    found = take(env={"LISTEN_FDS": "1"}, before=before, pass_fds=passed)
    assert found["names"] == ["unknown"]


# Refused: what the descriptor is


@contextlib.contextmanager
def descriptor(kind: str, directory: Path) -> Iterator[int]:
    """A descriptor that can't be served."""
    with contextlib.ExitStack() as keep:

        def sock(family: int, type_: int, bind: object = None) -> socket.socket:
            made = keep.enter_context(socket.socket(family, type_))
            if bind is not None:
                made.bind(bind)  # type: ignore[arg-type]
            return made

        def opened(path: str, flags: int = os.O_RDONLY) -> int:
            fd = os.open(path, flags)
            keep.callback(os.close, fd)
            return fd

        if kind == "file":
            yield opened(str(directory / "file"), os.O_RDWR | os.O_CREAT)
        elif kind == "directory":
            yield opened(str(directory))
        elif kind == "device":
            yield opened("/dev/null")
        elif kind == "FIFO":
            os.mkfifo(directory / "fifo")
            yield opened(str(directory / "fifo"), os.O_RDWR)
        elif kind == "eventfd":
            fd = os.eventfd(0)
            keep.callback(os.close, fd)
            yield fd
        elif kind == "unix datagram":
            yield sock(socket.AF_UNIX, socket.SOCK_DGRAM, str(directory / "s")).fileno()
        elif kind == "udp":
            yield sock(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).fileno()
        elif kind == "netlink":
            yield sock(socket.AF_NETLINK, socket.SOCK_RAW).fileno()
        elif kind == "sequential packet":
            packets = sock(socket.AF_UNIX, socket.SOCK_SEQPACKET, str(directory / "s"))
            packets.listen()
            yield packets.fileno()
        elif kind == "bound only":
            yield sock(socket.AF_UNIX, socket.SOCK_STREAM, str(directory / "s")).fileno()
        elif kind == "vsock bound only":
            anywhere = (socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)
            yield sock(socket.AF_VSOCK, socket.SOCK_STREAM, anywhere).fileno()
        elif kind == "shut down":
            listener = sock(socket.AF_UNIX, socket.SOCK_STREAM, str(directory / "s"))
            listener.listen()
            listener.shutdown(socket.SHUT_RD)
            yield listener.fileno()
        elif kind == "shut down with one who waits":
            listener = sock(socket.AF_UNIX, socket.SOCK_STREAM, str(directory / "s"))
            listener.listen()
            sock(socket.AF_UNIX, socket.SOCK_STREAM).connect(str(directory / "s"))
            listener.shutdown(socket.SHUT_RDWR)
            listener.listen()
            yield listener.fileno()
        elif kind == "tcp shut down":
            listener = sock(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
            listener.listen()
            listener.shutdown(socket.SHUT_RD)
            yield listener.fileno()
        elif kind == "unix connection":
            left, right = socket.socketpair()
            keep.enter_context(left)
            keep.enter_context(right)
            yield left.fileno()
        elif kind == "tcp connection":
            server = sock(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
            server.listen()
            sock(socket.AF_INET, socket.SOCK_STREAM).connect(server.getsockname())
            accepted, _ = server.accept()
            yield keep.enter_context(accepted).fileno()
        else:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("file", "NotASocket", "a regular file"),
        ("directory", "NotASocket", "a directory"),
        ("device", "NotASocket", "a character device"),
        ("FIFO", "NotASocket", "a pipe or FIFO"),
        ("eventfd", "NotASocket", "something else"),
        ("unix datagram", "NotAStream", "instead of ListenDatagram="),
        ("udp", "NotAStream", "instead of ListenDatagram="),
        ("netlink", "NotAStream", "not a stream"),
        ("sequential packet", "NotAStream", "instead of ListenSequentialPacket="),
        ("bound only", "NotListening", "not a listening socket"),
        ("vsock bound only", "NotListening", "not a listening socket"),
        ("shut down", "ShutDown", "`systemctl stop "),
        ("shut down with one who waits", "ShutDown", ".service && systemctl restart "),
        ("tcp shut down", "NotListening", "a process has shut the socket down"),
        ("unix connection", "NotListening", "Accept=no"),
        ("tcp connection", "NotListening", "Accept=no"),
    ],
)
def test_what_can_not_be_served(
    listening: socket.socket, tmp_path: Path, kind: str, error: str, says: str
) -> None:
    """By itself, and behind one that can be: it names the descriptor, and none is closed."""
    with descriptor(kind, tmp_path) as fd:
        found = inherit(fd, LISTEN_FDNAMES="web")
        assert (found["error"], found["left"]) == (error, [])
        assert "descriptor 3 (web)" in found["says"]
        assert says in found["says"]
        found = inherit(listening.fileno(), fd, LISTEN_FDNAMES="good:bad")
        assert found["error"] == error
        assert "descriptor 4 (bad)" in found["says"]
        assert {"3", "4"} <= set(found["open"])


@pytest.mark.parametrize("fds", [[-1], [None, -1], [-1, None]])
def test_a_descriptor_that_is_closed(listening: socket.socket, fds: list[int | None]) -> None:
    """Something between the supervisor and the program has closed what it did not know."""
    found = inherit(*(listening.fileno() if fd is None else fd for fd in fds))
    assert found["error"] in ("BadDescriptor", "MalformedEnvironment")
    assert "must be open" in found["says"] or "is not open" in found["says"]


def test_another_family(listening: socket.socket) -> None:
    """Few kernels have another with streams: here AF_UNIX is made to be one, in the child."""
    before = (
        "import socket\nfrom sdactivate.systemd import descriptors\n"
        "descriptors.FAMILIES.pop(socket.AF_UNIX)\n"
    )
    fd = listening.fileno()
    found = take(str(fd), before=before, pass_fds=[fd])
    assert found["error"] == "WrongFamily"
    assert "it must be one of AF_INET, AF_INET6, AF_VSOCK" in found["says"]


# Refused: what the variables say


def test_nothing_was_passed() -> None:
    found = take()
    assert found["error"] == "NoSockets"
    assert "LISTEN_FDS is not set" in found["says"]


@pytest.mark.parametrize("missing", ["LISTEN_PID", "LISTEN_FDS"])
def test_half_of_an_announcement_is_none(missing: str) -> None:
    env = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    del env[missing]
    assert take(env=env)["error"] == "NoSockets"


@pytest.mark.parametrize("pid", ["1", "{parent}", "99999999"])
def test_sockets_for_another_process(listening: socket.socket, pid: str) -> None:
    """A wrapper that forked: its number, and ours, and what to do."""
    found = inherit(listening.fileno(), LISTEN_PID=pid)
    assert found["error"] == "WrongProcess"
    assert "forked instead of exec'ing" in found["says"]
    assert (str(os.getpid()) if pid == "{parent}" else pid) in found["says"]
    assert found["left"] == [], "no child of ours takes them either"


def test_sockets_for_another_process_with_the_same_number(listening: socket.socket) -> None:
    """LISTEN_PIDFDID tells them apart, on kernels that have pidfs (Linux 6.9)."""
    found = inherit(listening.fileno(), LISTEN_PIDFDID="1")
    assert found.get("error") == ("WrongProcess" if has_pidfs() else None)


def has_pidfs() -> bool:
    pidfd = os.pidfd_open(os.getpid())
    try:
        return os.fstat(pidfd).st_mode & 0o170000 == 0o100000
    finally:
        os.close(pidfd)


NONSENSE = ["", "x", "-1", "+1", "1.0", " 1", "1 ", "0x1", "\xb2", "1" * 5000]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("LISTEN_FDS", value) for value in NONSENSE),
        ("LISTEN_PID", ""),
        ("LISTEN_PID", "-1"),
        ("LISTEN_PID", "1" * 5000),
        ("LISTEN_PIDFDID", "x"),
    ],
)
def test_nonsense_for_numbers(listening: socket.socket, name: str, value: str) -> None:
    found = inherit(listening.fileno(), **{name: value})
    assert found["error"] == "MalformedEnvironment"
    assert f"{name}=" in found["says"]
    assert found["left"] == []


def test_no_descriptor_at_all(listening: socket.socket) -> None:
    """A supervisor with nothing to pass says nothing."""
    assert inherit(listening.fileno(), LISTEN_FDS="0")["error"] == "MalformedEnvironment"


@pytest.mark.parametrize("count", ["3", "2147483647", "2147483648", "99999999999999999999"])
def test_more_descriptors_than_there_are(listening: socket.socket, count: str) -> None:
    found = inherit(listening.fileno(), LISTEN_FDS=count)
    assert found["error"] in ("MalformedEnvironment", "BadDescriptor")
    assert "open" in found["says"]


@pytest.mark.parametrize("names", ["", "one", "one:", "one:two:three", ":::"])
def test_names_that_are_too_few_or_too_many(listening: socket.socket, names: str) -> None:
    fd = listening.fileno()
    found = inherit(fd, fd, LISTEN_FDNAMES=names)
    if names == "one:":  # the second has an empty one
        assert found["names"] == ["one", ""]
        return
    assert found["error"] == "MalformedEnvironment"
    assert "LISTEN_FDNAMES must have a name for each" in found["says"]


# The name chooses the protocol


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("named")
    names = [*PROTOCOLS, "web"]
    sockets = [listener(directory, name=name) for name in names]
    application = "tests.servers.native.applications:application"
    with serving(directory, application, listeners=sockets, names=names) as service:
        yield service


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_descriptor_called_after_a_protocol_speaks_that_one_only(
    named: Service, protocol: str
) -> None:
    """FileDescriptorName=scgi; one with any other name speaks them all."""
    for which, name in enumerate([*PROTOCOLS, "web"]):
        with named.connect(which) as peer:
            if name in (protocol, "web"):
                assert ask(peer, protocol, Request()).status == 200
            else:
                peer.sendall(PROTOCOLS[protocol].encode(Request()))
                answer = b""
                while piece := peer.recv(65536):
                    answer += piece
                assert b"hello" not in answer
                assert not answer or re.search(rb" (400|501) ", answer), name
