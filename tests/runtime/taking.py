"""A child process that takes the sockets it was passed, and says what it got."""

import json
import os
import subprocess
import sys
from typing import Any

TAKE = """\
import ctypes, json, os, sys, sdactivate
from sdactivate.errors import Error
fds = tuple(map(int, sys.argv[1:]))
announced = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
def left():
    mine = [name for name in os.environ if name.startswith(("LISTEN", "SERVER_S", "EINHORN"))]
    return mine + [name for name in announced if getenv(name.encode())]
try:
    taken = sdactivate.inherited_sockets(fds)
except Error as error:
    print(json.dumps({
        "error": type(error).__name__,
        "says": str(error),
        "left": left(),
        "open": os.listdir("/proc/self/fd"),
    }))
    sys.exit()
try:
    sdactivate.inherited_sockets()
    again = None
except Error as error:
    again = type(error).__name__
print(json.dumps({
    "names": [each.name for each in taken],
    "fds": [each.sock.fileno() for each in taken],
    "addresses": [each.sock.getsockname() for each in taken],
    "listening": [bool(each.sock.getsockopt(1, 30)) for each in taken],
    "inheritable": [each.sock.get_inheritable() for each in taken],
    "stdin": os.readlink("/proc/self/fd/0"),
    "left": left(),
    "again": again,
}))
"""

# A supervisor between fork and exec: descriptors from 3 on, the variables with the right number.
PASS = """\
import fcntl, json, os, sys
asked = json.loads(sys.argv[1])
fds = [fd if fd < 0 else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in asked["fds"]]
os.closerange(3, 100)
for place, fd in enumerate(fds, 3):
    if fd >= 0:
        os.dup2(fd, place)
known = {"{pid}": str(os.getpid()), "{parent}": str(os.getppid())}
os.environ.update({name: known.get(value, value) for name, value in asked["env"].items()})
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[2:]])
"""


def take(
    *words: str, env: dict[str, str] | None = None, before: str = "", **options: Any
) -> dict[str, Any]:
    """Let a child take what it is passed by `options` of subprocess and by `env`.

    before: lines of Python that it runs first.
    """
    return _said([before + TAKE, *words], env or {}, **options)


def inherit(*fds: int, **env: str) -> dict[str, Any]:
    """Pass descriptors from 3 on, -1 for one that is closed, and variables.

    LISTEN_PID and LISTEN_FDS are right unless they are given; "{pid}" is the child's number.
    """
    announced = {"LISTEN_PID": "{pid}", "LISTEN_FDS": str(len(fds)), **env}
    asked = json.dumps({"fds": fds, "env": announced})
    return _said([PASS, asked, TAKE], {}, pass_fds=[fd for fd in fds if fd >= 0])


def _said(words: list[str], env: dict[str, str], **options: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", *words],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
