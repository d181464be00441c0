"""What an application's error says of its sandbox: the line that refuses, and only where it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.doctor.checks.answers import errors
from sdactivate.doctor.finding import Advice, Lines
from sdactivate.doctor.refusals import TABLE, refusal
from sdactivate.systemd.unitfile import Unit, parse

SANDBOX = """\
[Service]
DynamicUser=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProcSubset=pid
NoExecPaths=-/tmp
InaccessiblePaths=-/run/dbus
MemoryDenyWriteExecute=yes
SystemCallFilter=@system-service
TasksMax=8
LimitNOFILE=64
MemoryMax=64M
"""
BARE = "[Service]\nUser=web\nExecStart=/usr/bin/python3\n"
# In the words of CPython 3.11, SQLite, psycopg, numba and Docker's client
SAID = {
    "OSError: [Errno 97] Address family not supported by protocol": "RestrictAddressFamilies",
    "OSError: [Errno 101] Network is unreachable": "PrivateNetwork",
    "gaierror: [Errno -3] Temporary failure in name resolution": "PrivateNetwork",
    "ConnectionError: Error 111 connecting to localhost:6379. Connection refused.":
        "PrivateNetwork",
    "OSError: [Errno 30] Read-only file system: '/srv/web/media/a'": "ProtectSystem",
    "OperationalError: attempt to write a readonly database": "ProtectSystem",
    "OperationalError: unable to open database file": "ProtectSystem",
    "FileNotFoundError: [Errno 2] No such file or directory: '/home/bob/a'": "ProtectHome",
    "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'": "ProcSubset",
    "FileNotFoundError: [Errno 2] No such file or directory: '/dev/video0'": "PrivateDevices",
    "FileNotFoundError: [Errno 2] No such file or directory: '/tmp/.s.PGSQL.5432'": "PrivateTmp",
    "PermissionError: [Errno 13] Permission denied: '/tmp/built/program'": "NoExecPaths",
    "DockerException: Permission denied: unix:///run/docker.sock": "InaccessiblePaths",
    "ImportError: libx.so: failed to map segment from shared object": "MemoryDenyWriteExecute",
    "RuntimeError: can't start new thread": "TasksMax",
    "OSError: [Errno 24] Too many open files: '/srv/web/a'": "LimitNOFILE",
    "OSError: [Errno 12] Cannot allocate memory": "MemoryMax",
    "PermissionError: [Errno 1] Operation not permitted": "SystemCallFilter",
}  # fmt: skip
OTHERS = (
    "FileNotFoundError: [Errno 2] No such file or directory: '/srv/web/a'",
    "PermissionError: [Errno 13] Permission denied: '/srv/web/a'",
    "FileNotFoundError: [Errno 2] No such file or directory: '/proc/self/nothing'",
    "ConnectionRefusedError: [Errno 111] Connection refused",
    "KeyError: 'home'",
    "OperationalError: no such table: auth_user",
    "ValueError: /homework/tmp",
)


def unit(text: str) -> Unit:
    return Unit("web.service", [parse(text, "web.service")], ["web.service"])


@pytest.mark.parametrize("said", SAID)
def test_the_line_that_refuses_is_named(said: str) -> None:
    found = refusal(said, unit(SANDBOX))
    assert found
    assert found.directive == SAID[said]
    assert str(found.at).startswith(f"{found.directive}=")
    assert refusal(said, unit(BARE)) is None


def test_every_row_is_tried() -> None:
    used = {next(row for row in TABLE if row.pattern.search(it)) for it in SAID}
    assert used == set(TABLE)


@pytest.mark.parametrize("said", OTHERS)
def test_an_error_that_is_no_sandbox_s_is_left_alone(said: str) -> None:
    assert refusal(said, unit(SANDBOX)) is None


def test_what_a_dynamic_user_implies_counts() -> None:
    service = unit("[Service]\nDynamicUser=yes\n")
    found = refusal("OSError: [Errno 30] Read-only file system: '/srv/a/b'", service)
    assert found
    assert found.at is service
    assert found.fix == Lines("web.service", "Service", ("ReadWritePaths=/srv/a",))


def test_what_is_turned_off_again_refuses_nothing() -> None:
    text = f"{SANDBOX}ProtectSystem=no\nReadOnlyPaths=\n"
    assert refusal("OSError: [Errno 30] Read-only file system: '/srv/a'", unit(text)) is None


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    refusal(text, unit(SANDBOX))


def test_only_exceptions_are_looked_at() -> None:
    """What a client wrote into a line of the log is no error."""
    lines = ["GET /[Errno 97] from 10.0.0.1: answered 404", "Traceback (most recent call last):",
             '  File "/srv/web/a.py", line 1, in f', "OSError: [Errno 30] Read-only file system",
             "", "During handling of the above exception, another exception occurred:", "",
             "Traceback (most recent call last):", '  File "/srv/web/b.py", line 1, in g',
             "RuntimeError: no"]  # fmt: skip
    assert errors(lines) == ["OSError: [Errno 30] Read-only file system"]


ERROR_30 = "OSError: [Errno 30] Read-only file system: '{}'"
ERROR_2 = "FileNotFoundError: [Errno 2] No such file or directory: '{}'"


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (ERROR_30.format("/srv/my media/a"), ('ReadWritePaths="/srv/my media"',)),
        (ERROR_30.format("/srv/100%/a"), ('ReadWritePaths="/srv/100%%"',)),
        (ERROR_30.format("/srv/web/../media/a"), ("ReadWritePaths=/srv/media",)),
        (ERROR_2.format("/dev/video 0"), ('DeviceAllow="/dev/video 0" rw', "PrivateDevices=no")),
        (ERROR_2.format("/dev/dri/card0"), ("DeviceAllow=/dev/dri/card0 rw", "PrivateDevices=no")),
    ],
)
def test_a_path_in_a_line_is_one_word(said: str, lines: tuple[str, ...]) -> None:
    found = refusal(said, unit(SANDBOX))
    assert found
    assert found.fix == Lines("web.service", "Service", lines)


@pytest.mark.parametrize(
    "said",
    [
        *map(ERROR_30.format, ["/a", "/etc/passwd", "/etc/ssl/x/a", "/usr/lib/a", "/boot/a"]),
        *map(ERROR_30.format, ["/var/lib/a", "/srv/a/../../etc/a", "//etc/a", r"/srv/a\n[X]/a"]),
        *map(ERROR_30.format, ["/srv/a\x1b/b", "/srv/\udcff/b"]),
        *map(ERROR_2.format, ["/dev/sda", "/dev/nvme0n1", "/dev/disk/by-id/x", "/dev/mapper/vg"]),
        *map(ERROR_2.format, ["/dev/block/8:0", "/dev/char/21:0", "/dev/mem", "/dev//sda"]),
        *map(ERROR_2.format, ["/dev/dm-0", "/dev/mmcblk0p1", "/dev/./md0", r"/dev/\x07"]),
    ],
)
def test_no_line_gives_what_is_the_machine_s(said: str) -> None:
    found = refusal(said, unit(SANDBOX))
    assert found
    assert isinstance(found.fix, Advice), found.fix


def test_a_path_in_advice_is_one_word() -> None:
    found = refusal("PermissionError: [Errno 13] x: '/home/bob/100%'", unit(SANDBOX))
    assert found
    assert 'BindPaths="/home/bob/100%%"' in str(found.fix)
