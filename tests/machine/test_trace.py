"""The runtime never touches its socket: a trace of its system calls, from exec to exit.

The service runs as it was generated, in its full sandbox. Only its start is changed: a shell stops
itself, is traced from outside from then on, and becomes the service by exec.
"""

import os.path
import re
import subprocess

import pytest

from tests.machine.machine import Machine

NEAR = "/run"

# Not even with another socket or file: a process that is handed a socket has no use for these.
NEVER = {"bind", "listen", "umask"}

# Not on or near the socket: on no descriptor of a socket, on no path in the socket's directory.
# (SQLite unlinks its journals, uploads have temporary files: that is nobody's socket.)
NOT_NEAR = {
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink"),
    *("symlinkat", "mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr", "shutdown"),
}

# libsystemd from 262 on looks whether the kernel lets sockets have attributes: on one of its own,
# just made and without an address, whenever it is about to speak to the supervisor.
PROBE = re.compile(r'\d+<UNIX[^",>]*>, "user\.testxxx", ')

# What shows that the trace is whole: from the exec, over every request, to the exit.
WITNESSES = {"execve", "accept", "accept4", "exit_group"}


def violations(trace: str, cwd: str = "/srv/mysite") -> list[str]:
    """The forbidden calls among the lines that `strace -f -yy` wrote."""
    calls = re.finditer(r"^(?:\d+ +)?(\w+)\((.*)$", trace, re.MULTILINE)
    return [
        call[0]
        for call in calls
        if call[1] in NEVER or (call[1] in NOT_NEAR and is_near(call, cwd))
    ]


def is_near(call: re.Match[str], cwd: str) -> bool:
    name, arguments = call.groups()
    if name == "shutdown":
        return "->" not in arguments  # only a connection has a peer
    if name == "fsetxattr" and PROBE.match(arguments):
        return False
    if re.match(r"\d+<(UNIX|TCP|UDP|socket)", arguments):
        return True
    base = re.match(r"(?:AT_FDCWD|\d+)<(/[^>]*)>", arguments)
    directory = base[1] if base else cwd
    names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments) or [""]
    paths = [os.path.normpath(os.path.join(directory, name)) for name in names]
    return any(path == NEAR or path.startswith(f"{NEAR}/") for path in paths)


@pytest.mark.parametrize(
    "line",
    [
        '12 bind(4<UNIX-STREAM:[77]>, {sa_family=AF_UNIX, sun_path="/tmp/x"}, 110) = 0',
        "12 listen(3<UNIX-STREAM:[77]>, 128) = 0",
        "umask(000) = 077",
        '12 chmod("/run/mysite.sock", 0666) = -1 EROFS (Read-only file system)',
        '12 fchmodat(AT_FDCWD, "/run/mysite.sock", 0666) = -1 EROFS (Read-only file system)',
        '12 unlink("../../run/mysite.sock") = -1 EROFS (Read-only file system)',
        '12 unlinkat(AT_FDCWD</run>, "mysite.sock", 0) = -1 EROFS (Read-only file system)',
        '12 unlinkat(9</run>, "mysite.sock", 0) = -1 EROFS (Read-only file system)',
        '12 rename("/tmp/a", "/run/mysite.sock") = -1 EROFS (Read-only file system)',
        '12 fchmod(3<UNIX-STREAM:[77,"/run/mysite.sock"]>, 0666) = 0',
        "12 fchown(9</run>, 1, 1) = -1 EROFS (Read-only file system)",
        '12 shutdown(3<UNIX-STREAM:[77,"/run/mysite.sock"]>, SHUT_RDWR) = 0',
        '12 fsetxattr(3<UNIX-STREAM:[77,"/run/mysite.sock"]>, "user.testxxx", "1", 1, 0) = 0',
        '12 fsetxattr(3<UNIX-STREAM:[77]>, "user.mine", "1", 1, 0) = 0',
    ],
)
def test_what_is_a_violation(line: str) -> None:
    assert violations(f"1 close(5) = 0\n{line}\n1 close(6) = 0") == [line]


@pytest.mark.parametrize(
    "line",
    [
        '12 accept4(3<UNIX-STREAM:[77,"/run/mysite.sock"]>, NULL, NULL, SOCK_CLOEXEC) = 5',
        '12 unlink("/var/lib/mysite/db.sqlite3-journal") = 0',
        '12 fsetxattr(5<UNIX:[78]>, "user.testxxx", "1", 1, 0) = -1 EPERM (Not permitted)',
        "12 fchmod(9</var/lib/private/mysite/db.sqlite3-journal>, 0600) = 0",
        '12 chmod("static/running.css", 0644) = 0',
        '12 shutdown(5<UNIX-STREAM:[78->79,"/run/mysite.sock"]>, SHUT_WR) = 0',
        '12 write(2<UNIX-STREAM:[80->81]>, "chmod("/run/mysite.sock", 0)", 29) = 29',
    ],
)
def test_what_is_none(line: str) -> None:
    assert violations(line) == []


def traced(site: Machine, start: str, requests: int) -> str:
    """The trace of the service, started as `start`, from its exec over `requests` to its exit."""
    site.write(
        "/run/systemd/system/mysite.service.d/stopped.conf",
        f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$; exec {start}'\n",
    )
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "--no-block", "mysite")

    def stopped() -> bool:
        pid = site.show("mysite", "MainPID")
        return pid != "0" and " (sh) T " in site.read(f"/proc/{pid}/stat")

    site.wait(stopped, "the shell has stopped itself")
    pid = site.show("mysite", "MainPID")
    calls = ",".join(f"?{name}" for name in sorted(NEVER | NOT_NEAR | WITNESSES))
    strace = ["strace", "-f", "-yy", "-e", f"trace={calls}", "-o", "/tmp/trace", "-p", pid]
    with site.popen(*strace, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr
        assert "attached" in tracer.stderr.readline()
        site.run("kill", "-CONT", pid)
        site.curl(f"/environ?n=[1-{requests}]")
        site.run("systemctl", "stop", "mysite.service")
        tracer.communicate(timeout=60)
    return site.read("/tmp/trace")


def test_the_runtime_never_touches_its_socket(site: Machine) -> None:
    start = site.show("mysite", "ExecStart")
    command = re.search(r"argv\[\]=(.*?) ;", start)
    assert command
    trace = traced(site, command[1], requests=100)
    assert re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE)[0] == "execve"
    assert len(re.findall(r"\baccept4?\b.* = \d", trace, re.MULTILINE)) >= 100
    assert re.search(r"exit_group\(0\b", trace)
    assert violations(trace) == []


def test_a_runtime_that_did_would_be_seen(site: Machine) -> None:
    site.write(
        "/srv/mysite/meddler.py",
        "import os\n"
        "from mysite.wsgi import application\n"
        "for attempt in (lambda: os.chmod('/run/mysite.sock', 0o666), lambda: os.umask(0)):\n"
        "    try: attempt()\n"
        "    except OSError: pass\n",
    )
    trace = traced(site, f"{site.python} -m sdactivate serve meddler:application", requests=1)
    assert len(violations(trace)) == 2
