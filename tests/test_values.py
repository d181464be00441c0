"""What people write of a site: what is meant by it, and what means nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.values import (
    ListenAddress,
    absolute_path,
    parse_listen,
    parse_mode,
    variable,
)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("0660", 0o660),
        ("660", 0o660),
        ("0000", 0),
        ("777", 0o777),
        ("u=rw,g=rw,o=", 0o660),
        ("ug=rw", 0o660),
        ("a=rw", 0o666),
        ("u=rw,g=w", 0o620),
        ("u=rwx,go=", 0o700),
        ("u=", 0),
    ],
)
def test_modes(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize(
    "text",
    [
        "",
        "66",
        "1660",
        "4755",
        "02770",
        "0o660",
        "668",
        "rw",
        "g+w",
        "u-r",
        "u=s",
        "g=rws",
        "+t",
        "u=rw;g=rw",
        "u=rw,",
        ",",
        "u=r,u=w",
        "uu=r",
        "au=r",
        " 660",
        "660\n",
        "٦٦٠",
        "-660",
    ],
)
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(UsageError, match="a mode is octal, such as 0660"):
        parse_mode(text)


@given(st.integers(0, 0o777))
def test_every_mode_reads_back(mode: int) -> None:
    assert parse_mode(f"{mode:03o}") == parse_mode(f"{mode:04o}") == mode
    letters = [
        "".join(c for c, bit in zip("rwx", (4, 2, 1), strict=True) if mode >> shift & bit)
        for shift in (6, 3, 0)
    ]
    assert parse_mode("u={},g={},o={}".format(*letters)) == mode


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("/run/a.sock", ListenAddress("unix", "/run/a.sock"), "/run/a.sock"),
        ("/run//a b%.sock", ListenAddress("unix", "/run/a b%.sock"), "/run/a b%.sock"),
        ("@a b", ListenAddress("abstract", "a b"), "@a b"),
        ("127.0.0.1:80", ListenAddress("inet", "127.0.0.1", 80), "127.0.0.1:80"),
        ("localhost:80", ListenAddress("inet", "127.0.0.1", 80), "127.0.0.1:80"),
        ("[::1]:8000", ListenAddress("inet6", "::1", 8000), "[::1]:8000"),
        ("[0:0::1]:8000", ListenAddress("inet6", "::1", 8000), "[::1]:8000"),
        ("vsock:2:8000", ListenAddress("vsock", "2", 8000), "vsock:2:8000"),
        ("vsock::8000", ListenAddress("vsock", "", 8000), "vsock::8000"),
        ("admin=/run/b", ListenAddress("unix", "/run/b", 0, "admin"), "/run/b"),
        ("a=[::]:1", ListenAddress("inet6", "::", 1, "a"), "[::]:1"),
    ],
)
def test_listen_addresses(text: str, address: ListenAddress, written: str) -> None:
    assert parse_listen(text) == address
    assert str(address) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run/a",
        "a.sock",
        "8000",
        ":8000",
        "*:8000",
        "example.org:80",
        "127.0.0.1:0",
        "1.2.3:4",
        "127.0.0.1:65536",
        "127.0.0.1:٨",
        "[::1]",
        "::1:80",
        "[fe80::1%eth0]:80",
        "[::1]:80:80",
        "vsock:2",
        "vsock:x:1",
        "vsock:4294967296:1",
        "vsock::0",
        "@",
        "/run/",
        "/",
        "/run/../x",
        "/run/./x",
        "/run/a\nb",
        "/run/a\0",
        "/run/a ",
        "/run/a\\",
        "@a\n",
        "=x",
        "a=b=/run/x",
        "a b=/run/x",
        "-=/run/x",
    ],
)
def test_what_is_no_listen_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


def test_a_unix_socket_has_107_bytes() -> None:
    assert parse_listen("/" + "a" * 106).path
    assert parse_listen("@" + "a" * 106)
    for text in ("/" + "a" * 107, "@" + "a" * 107, "/" + "ä" * 54):
        with pytest.raises(UsageError, match="at most 107 bytes"):
            parse_listen(text)


@given(st.text() | st.text("/@[]:=.0123456789abv*%\\ \n"))
def test_what_is_read_is_written_as_it_was_read(text: str) -> None:
    with contextlib.suppress(UsageError):
        address = parse_listen(text)
        assert parse_listen(str(address)) == address._replace(name="")
        assert "\n" not in str(address)


@pytest.mark.parametrize(
    ("text", "path"), [("/", "/"), ("/a//b/", "/a/b"), ("/a b", "/a b"), ("/%h$x", "/%h$x")]
)
def test_paths(text: str, path: str) -> None:
    assert absolute_path(text) == path


@pytest.mark.parametrize(
    "text", ["", "a", "~/x", "/a/../b", "/./a", "/a\nb", "/a ", "/a /", "/a\\"]
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(UsageError):
        absolute_path(text)


def test_a_path_too_long_for_the_kernel_is_refused() -> None:
    for text in ("/" + "a" * 256, "/" + "a/" * 2100):
        with pytest.raises(UsageError, match="too long for the kernel"):
            absolute_path(text)


def test_variables() -> None:
    assert variable("A=b=c %") == ("A", "b=c %")
    assert variable("A=") == ("A", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A", "NAME=VALUE"),
        ("=x", "NAME=VALUE"),
        ("1A=x", "NAME=VALUE"),
        ("A B=x", "NAME=VALUE"),
        ("A=x\ny", "can't contain"),
        ("SDACTIVATE_THREADS=3", "did you mean --threads"),
        ("LISTEN_FDS=1", "systemd sets"),
        ("NOTIFY_SOCKET=/x", "systemd sets"),
    ],
)
def test_what_is_no_variable(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        variable(text)
