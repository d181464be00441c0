"""What --learn makes of strace's lines: which directive refused, and what allows it."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdactivate.cli import main
from sdactivate.doctor.learn import hook_directory, limits, tracebacks
from sdactivate.doctor.learn.calls import MARK, OPEN, Call, Mark, parse, unquoted
from sdactivate.doctor.learn.causes import Answer, explain
from sdactivate.doctor.learn.facts import Sandbox, There, on_this_host
from sdactivate.doctor.learn.lessons import CAUGHT, learn, reliefs
from sdactivate.doctor.learn.report import as_text
from sdactivate.doctor.learn.watch import Seen, Watch
from sdactivate.sandbox import OPTIONS

# As `systemctl show` has a generated unit, with what the tests' lines ask about.
CLOSED = {
    "SystemCallFilter": "access chmod clone connect fchmod mkdir mmap mprotect open openat "
    "sched_setscheduler shmat socket unshare execve bind kill clone3 mkdirat rename",
    "SystemCallErrorNumber": "1",
    "RestrictAddressFamilies": "AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoExecPaths": "-/var/lib/s -/tmp -/var/tmp -/dev/shm",
    "PrivateNetwork": "yes",
    "IPAddressDeny": "::/0 0.0.0.0/0",
    "IPAddressAllow": "",
    "SocketBindDeny": "any",
    "InaccessiblePaths": "-/run/dbus -/run/docker.sock -/srv/closed",
    "TemporaryFileSystem": "/run/systemd:ro /run/systemd/system:ro",
    "BindReadOnlyPaths": "-/run/systemd/notify:/run/systemd/notify:rbind",
    "ProtectHome": "yes",
    "ProtectSystem": "strict",
    "StateDirectory": "s",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "ProtectKernelTunables": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "CapabilityBoundingSet": "",
    "User": "s",
    "WorkingDirectory": "/srv/code",
    "LimitNOFILESoft": "1024",
    "TasksMax": "1024",
}
LOCAL = {
    **CLOSED,
    "PrivateNetwork": "no",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
}
OPEN_UNIT = {"TasksMax": "18446744073709551615", "CapabilityBoundingSet": "cap_chown cap_kill"}

DIRECTORY, FILE, SOCKET, CHARACTER, BLOCK = (
    *(stat.S_IFDIR, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK),
)
HOST = {
    "/run": There(DIRECTORY | 0o755, 0, "root"),
    "/run/redis": There(DIRECTORY | 0o755, 0, "redis"),
    "/run/redis/redis.sock": There(SOCKET | 0o770, 7, "redis"),
    "/run/docker.sock": There(SOCKET | 0o660, 0, "docker"),
    "/run/dbus/system_bus_socket": There(SOCKET | 0o666, 0, "root"),
    "/run/systemd/private": There(SOCKET | 0o777, 0, "root"),
    "/srv": There(DIRECTORY | 0o755, 0, "root"),
    "/srv/code": There(DIRECTORY | 0o755, 0, "root"),
    "/srv/media": There(DIRECTORY | 0o777, 0, "root"),
    "/srv/ro": There(DIRECTORY | 0o777, 0, "root", is_mounted_read_only=True),
    "/srv/secret": There(FILE | 0o640, 0, "shadow"),
    "/srv/shared": There(FILE | 0o640, 0, "team"),
    "/home/me/data": There(FILE | 0o644, 0, "me"),
    "/proc/meminfo": There(FILE | 0o444, 0, "root"),
    "/proc/sys/vm/overcommit_memory": There(FILE | 0o644, 0, "root"),
    "/proc/77/status": There(FILE | 0o444, 0, "root"),
    "/dev/video0": There(CHARACTER | 0o660, 0, "video"),
    "/dev/sda": There(BLOCK | 0o660, 0, "disk"),
    "/tmp/mysql.sock": There(SOCKET | 0o777, 0, "root"),
    "/tmp/x": There(FILE | 0o755, 0, "root"),
}
NOBODY = 1 << 22  # above every PID: its name is not that of a process of this machine
INET = '{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr("{}")}}, 16'


def answer(line: str, unit: dict[str, str] | None = None) -> Answer | None:
    call = parse(line, "/srv/code")
    assert isinstance(call, Call), line
    return explain(call, Sandbox(CLOSED if unit is None else unit), HOST.get)


def fails(call: str, errno: str = "EPERM") -> str:
    return f"{NOBODY}<python3> {call}{' ' * 5}= -1 {errno} (Words of it)"


def unix(path: str, errno: str) -> str:
    return fails(f'connect(3, {{sa_family=AF_UNIX, sun_path="{path}"}}, 24)', errno)


def opens(path: str, flags: str, errno: str) -> str:
    return fails(f'openat(AT_FDCWD, "{path}", {flags})', errno)


def connect(port: int, address: str) -> str:
    return f"connect(3<socket:[5]>, {INET.format(port, address)})"


@pytest.mark.parametrize(
    ("line", "directive", "option"),
    [
        (fails("listen(3<socket:[1]>, 128)"), "SystemCallFilter", "--allow-syscall listen"),
        (fails("keyctl(KEYCTL_READ, 1)"), "SystemCallFilter", "--allow-syscall keyctl"),
        (fails('chown("/tmp/q", 0, 0)'), "SystemCallFilter", None),  # a privilege, too
        (
            "12 --- SIGSYS {si_signo=SIGSYS, si_code=SYS_SECCOMP, si_call_addr=0x7f, "
            "si_syscall=__NR_listen, si_arch=AUDIT_ARCH_X86_64} ---",
            *("SystemCallFilter", "--allow-syscall listen"),
        ),
        (
            fails("socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP)", "EAFNOSUPPORT"),
            *("RestrictAddressFamilies", "--network local"),
        ),
        (fails("socket(AF_VSOCK, 1, 0)", "EAFNOSUPPORT"), "RestrictAddressFamilies", None),
        (
            fails(connect(5432, "127.0.0.1"), "ECONNREFUSED"),
            *("RestrictAddressFamilies", "--network local"),
        ),
        (fails(connect(587, "192.0.2.7"), "ENETUNREACH"), "RestrictAddressFamilies", "--network"),
        (fails(connect(53, "127.0.0.53"), "ECONNREFUSED"), "RestrictAddressFamilies", "--network"),
        (
            fails('connect(3, {sa_family=AF_UNIX, sun_path=@"x"}, 4)', "ECONNREFUSED"),
            *("PrivateNetwork", "--network local"),
        ),
        (fails(f"bind(3, {INET.format(8000, '127.0.0.1')})"), "SocketBindDeny", None),
        (fails("unshare(CLONE_NEWUSER)"), "RestrictNamespaces", None),
        (fails("sched_setscheduler(0, SCHED_FIFO, [1])"), "RestrictRealtime", None),
        (fails('chmod("/tmp/q", 04755)'), "RestrictSUIDSGID", None),
        (fails('mkdir("/var/lib/s/x", 02755)'), "RestrictSUIDSGID", None),
        (
            fails("mmap(NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE, -1, 0)"),
            *("MemoryDenyWriteExecute", "--jit"),
        ),
        (fails("mprotect(0x7f, 9, PROT_EXEC)", "EACCES"), "MemoryDenyWriteExecute", "--jit"),
        (
            fails("mmap(NULL, 9, PROT_READ|PROT_EXEC, MAP_PRIVATE, 5</var/lib/s/x.so>, 0)"),
            *("NoExecPaths", "--jit"),
        ),
        (fails('execve("/tmp/x", ["/tmp/x"], 0x7f)', "EACCES"), "NoExecPaths", "--jit"),
        (
            fails('openat(AT_FDCWD</srv/code>, "/srv/media/a/b", O_WRONLY|O_CREAT, 0666)', "EROFS"),
            *("ProtectSystem", "--writable /srv/media"),
        ),
        (
            fails('mkdirat(4</srv/media>, "a", 0777)', "EROFS"),
            *("ProtectSystem", "--writable /srv/media"),
        ),
        (fails('openat(AT_FDCWD, "x", O_WRONLY|O_CREAT, 0666)', "EROFS"), "ProtectSystem", None),
        (fails('mkdir("/srv/other", 0777)', "EROFS"), "ProtectSystem", None),  # all of /srv
        (opens("/home/me/data", "O_RDONLY", "EACCES"), "ProtectHome", "--home"),
        (opens("/home/me/data", "O_RDWR", "EACCES"), "ProtectHome", None),
        (opens("/proc/meminfo", "O_RDONLY", "ENOENT"), "ProcSubset", "--proc"),
        (opens("/proc/77/status", "O_RDONLY", "ENOENT"), "ProtectProc", None),
        (
            opens("/dev/video0", "O_RDWR", "ENOENT"),
            *("PrivateDevices", "--device /dev/video0"),
        ),
        (opens("/dev/sda", "O_RDONLY", "ENOENT"), "PrivateDevices", None),
        (
            unix("/run/dbus/system_bus_socket", "EACCES"),
            *("InaccessiblePaths", "--control-sockets"),
        ),
        (
            unix("/var/run/docker.sock", "EACCES"),
            *("", None),  # /var/run leads to /run on a host; here it is not there
        ),
        (
            unix("/run/systemd/private", "ENOENT"),
            *("TemporaryFileSystem", "--control-sockets"),
        ),
        (
            unix("/tmp/mysql.sock", "ENOENT"),
            *("PrivateTmp", None),
        ),
        (
            opens("/proc/sys/vm/overcommit_memory", "O_WRONLY", "EROFS"),
            *("ProtectKernelTunables", None),
        ),
        (fails("fcntl(0, F_DUPFD, 0)", "EMFILE"), "LimitNOFILE", None),
        (fails("clone(child_stack=NULL, flags=SIGCHLD)", "EAGAIN"), "TasksMax", "--tasks-max 2048"),
    ],
)  # fmt: skip
def test_what_the_sandbox_refused(line: str, directive: str, option: str | None) -> None:
    found = answer(line)
    assert found is not None
    assert (found.directive, str(found.relax) if found.relax else None) == (directive, option)
    assert found.relax or found.advice or not directive
    # What a unit does not have, it has not refused. (The limit of files is nobody's directive.)
    other = answer(line, OPEN_UNIT)
    assert not (other and other.directive) or directive == "LimitNOFILE"


@pytest.mark.parametrize(
    "line",
    [
        fails('newfstatat(AT_FDCWD, "/usr/lib/x.abi3.so", 0x7f, 0)', "ENOENT"),  # a search
        opens("/proc/nosuch", "O_RDONLY", "ENOENT"),
        opens("/dev/nosuch", "O_RDWR", "ENOENT"),
        opens("/tmp/nosuch", "O_RDONLY", "ENOENT"),
        opens("/home/nosuch", "O_RDONLY", "ENOENT"),
        fails('execve("/usr/local/bin/sh", ["sh"], 0x7f)', "ENOENT"),
        fails("ioctl(3</srv/x>, TCGETS, 0x7f)", "ENOTTY"),
        unix("/var/run/nscd/socket", "ENOENT"),
    ],
)
def test_what_says_nothing(line: str) -> None:
    assert answer(line) is None


@pytest.mark.parametrize(
    ("line", "unit", "option"),
    [
        (opens("/srv/secret", "O_RDONLY", "EACCES"), CLOSED, None),
        (opens("/srv/shared", "O_RDONLY", "EACCES"), CLOSED, "--join team"),
        (
            unix("/run/redis/redis.sock", "EACCES"),
            *(CLOSED, "--join redis"),
        ),
        (  # never a group that has the machine
            unix("/run/docker.sock", "EACCES"),
            *(OPEN_UNIT, None),
        ),
        (fails('mkdir("/srv/ro/x", 0777)', "EROFS"), CLOSED, None),
        (fails("kill(1<systemd>, 0)"), CLOSED, None),
    ],
)  # fmt: skip
def test_what_is_not_the_sandbox_s(line: str, unit: dict[str, str], option: str | None) -> None:
    found = answer(line, unit)
    assert found is not None
    assert (found.directive, str(found.relax) if found.relax else None) == ("", option)


def test_addresses_where_this_host_alone_is_allowed() -> None:
    out = answer(fails(connect(587, "192.0.2.7"), "EINPROGRESS"), LOCAL)
    assert out
    assert (out.directive, str(out.relax)) == ("IPAddressDeny", "--network")
    left = f"{NOBODY}<python3> {connect(587, '192.0.2.7')[:-1]} <detached ...>"
    call = parse(left)
    assert isinstance(call, Call)
    assert call.errno == OPEN
    assert explain(call, Sandbox(LOCAL), HOST.get) == out
    # Nobody listens there: no directive has a part in that.
    assert answer(fails(connect(5432, "127.0.0.1"), "ECONNREFUSED"), LOCAL) is None


def test_every_option_that_is_named_is_one() -> None:
    from sdactivate.generate.options import SITE

    assert {row.key for row in OPTIONS.values()} <= {row.name for row in SITE}
    assert all(row.gives and (row.need or row.line) for row in OPTIONS.values())


# -- lines that others choose ---------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def quoted(text: str) -> str:
    """A string as strace writes it: octal for what is not printable ASCII."""
    made = ""
    for byte in text.encode():
        letter = chr(byte)
        plain = letter.isascii() and letter.isprintable() and letter not in '"\\'
        made += letter if plain else f"\\{letter}" if letter in '"\\' else f"\\{byte:03o}"
    return f'"{made}"'


@given(TEXT)
def test_a_string_is_what_it_was(text: str) -> None:
    assert unquoted(quoted(text)[1:-1]) == text


@given(TEXT, st.sampled_from(["EACCES", "EROFS", "ENOENT"]))
@example('") = -1 EPERM (x)\n12 listen(3, 1) = -1 EPERM (y)', "ENOENT")
@example("/srv/a, PROT_EXEC, sa_family=AF_INET, sin_port=htons(1), inet_addr(", "EACCES")
def test_a_name_is_taken_for_nothing_else(name: str, errno: str) -> None:
    """A file called like a line of strace's is a file."""
    line = fails(f"openat(AT_FDCWD</srv>, {quoted(name)}, O_RDONLY|O_CLOEXEC)", errno)
    call = parse(line)
    assert isinstance(call, Call)
    assert (call.pid, call.process, call.name, call.errno) == (NOBODY, "python3", "openat", errno)
    found = explain(call, Sandbox(CLOSED), lambda path: None)
    assert found is None or found.directive in ("", "ProtectSystem")


@given(st.text(max_size=200))
@example("12<python3> +++ exited with 0 +++")
@example('12 openat(AT_FDCWD, "')
@example("99999999999999999999999 x() = -1 EPERM (x)")
@example("12<a> b> openat(1, 2) = -1 EACCES (x)")
@example(fails(connect(99999, "9.9")))
def test_any_line_is_read(line: str) -> None:
    found = parse(line, "/srv")
    if isinstance(found, Call):
        explain(found, Sandbox(CLOSED), lambda path: None)


@given(
    st.sampled_from(["openat", "connect", "mmap", "chmod", "rename", "bind", "clone", "socket"]),
    st.text('AF_INETPRO"\\{}()[]<>,=| /0123456789XEC', max_size=80),
    st.sampled_from(["EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT", "ENOMEM", "?"]),
    st.dictionaries(st.sampled_from(sorted(CLOSED)), st.text(max_size=20)),
)
def test_any_call_in_any_unit_has_an_answer_or_none(
    name: str, arguments: str, errno: str, properties: dict[str, str]
) -> None:
    """Nor is anything looked for but absolute paths."""

    def look(path: str) -> There | None:
        assert path.startswith("/")
        return HOST.get(path)

    call = parse(fails(f"{name}({arguments})", errno), "/srv")
    if isinstance(call, Call):
        found = explain(call, Sandbox(properties), look)
        assert found is None or found.what


# -- from which line ------------------------------------------------------------------------------


def noted(*lines: str) -> Watch:
    watch = Watch("/srv")
    for line in lines:
        watch._note(parse(line, "/srv"))
    return watch


def mark(kind: str, *lines: str) -> str:
    text = MARK + "\n".join([kind, *lines])
    return fails(f"access({quoted(text)}, F_OK)", "ENOENT")


MEMINFO = opens("/proc/meminfo", "O_RDONLY", "ENOENT")
LIBRARY = "/opt/v/lib/python3.11/site-packages/psutil/_common.py:9:open_binary"


def test_the_line_is_that_of_the_site() -> None:
    watch = noted(
        MEMINFO,
        mark("FileNotFoundError:2:77", LIBRARY, "/srv/views.py:12:chart"),
        mark("reached", "77"),
    )
    (lesson,) = learn(watch.seen.values(), Sandbox(CLOSED), HOST.get, hooked=True)
    assert lesson.line == "/srv/views.py:12 in chart"
    assert lesson.raised == "FileNotFoundError"
    assert lesson.is_needed
    assert [str(it) for it in reliefs([lesson])] == ["--proc"]


def test_what_a_library_handles_is_not_needed() -> None:
    watch = noted(MEMINFO, mark("FileNotFoundError:2:77", LIBRARY, "/srv/views.py:12:chart"))
    (lesson,) = learn(watch.seen.values(), Sandbox(CLOSED), HOST.get, hooked=True)
    assert (lesson.is_handled, lesson.is_needed) == (True, False)
    (lesson,) = learn(noted(MEMINFO).seen.values(), Sandbox(CLOSED), HOST.get, hooked=True)
    assert (lesson.raised, lesson.is_needed) == (CAUGHT, False)
    assert reliefs([lesson]) == []


def test_another_exception_is_another_call_s() -> None:
    """Its number does not fit; nor is one of another thread's."""
    watch = noted(MEMINFO, mark("PermissionError:13:77", "/srv/a.py:1:f"))
    assert [one.raised for one in watch.seen.values()] == [""]
    watch = noted(
        MEMINFO, mark("FileNotFoundError:2:77", "/srv/a.py:1:f").replace(f"{NOBODY}<", "1<")
    )
    assert [one.raised for one in watch.seen.values()] == [""]


def test_a_name_that_was_looked_up_is_told_with_the_address() -> None:
    watch = noted(
        mark("lookup", "smtp.example.org", "587"),
        fails(connect(587, "192.0.2.7"), "ENETUNREACH"),
    )
    (lesson,) = learn(watch.seen.values(), Sandbox(CLOSED), HOST.get, hooked=True)
    assert lesson.wanted == "smtp.example.org:587"


LOG = """\
Internal Server Error: /upload
Traceback (most recent call last):
  File "/opt/v/lib/python3.11/site-packages/django/core/handlers/exception.py", line 55, in inner
    response = get_response(request)
  File "/srv/mysite/views.py", line 12, in upload
    open("/srv/media/a", "w")
    ^^^^^^^^^^^^^^^^^^^^^^^^
OSError: [Errno 30] Read-only file system: '/srv/media/a'
"""


def test_the_line_is_found_in_the_journal() -> None:
    seen = noted(fails('openat(AT_FDCWD, "/srv/media/a", O_WRONLY|O_CREAT, 0666)', "EROFS")).seen
    logged = tracebacks.read(LOG.splitlines())
    (lesson,) = learn(seen.values(), Sandbox(CLOSED), HOST.get, logged, hooked=False)
    assert (lesson.line, lesson.raised) == ("/srv/mysite/views.py:12 in upload", "OSError")
    other = tracebacks.read(LOG.replace("media/a", "media/b").splitlines())
    (lesson,) = learn(seen.values(), Sandbox(CLOSED), HOST.get, other, hooked=False)
    assert (lesson.line, lesson.is_needed) == ("", True)
    text = as_text([lesson], {}, "mysite.service, 60 s", by_requests=True)
    assert "not known: no traceback in the journal has it" in text
    assert "Allow none that you cannot explain" in text
    assert "Allow none" not in as_text([lesson], {}, "a command", by_requests=False)


@given(st.text(max_size=300))
def test_any_log_is_read(text: str) -> None:
    tracebacks.read([*text.splitlines(), "Traceback (most recent call last):", *text.split("\n")])


def test_a_hostile_name_steers_no_terminal() -> None:
    line = fails(f"openat(AT_FDCWD, {quoted('/srv/media/' + chr(27) + '[2J' + chr(0x202E))}, "
                 "O_WRONLY)", "EROFS")  # fmt: skip
    found = learn(noted(line).seen.values(), Sandbox(CLOSED), HOST.get, hooked=False)
    text = as_text(found, {}, "x", by_requests=False)
    assert text.replace("\n", "").isprintable()


def test_the_wider_option_stands_for_the_narrower() -> None:
    seen = noted(
        fails(connect(5432, "127.0.0.1"), "ECONNREFUSED"),
        fails(connect(587, "192.0.2.7"), "ENETUNREACH"),
        fails('mkdir("/srv/media/a", 0777)', "EROFS"),
    ).seen
    found = learn(seen.values(), Sandbox(CLOSED), HOST.get, hooked=False)
    assert [str(it) for it in reliefs(found)] == ["--network", "--writable /srv/media"]


def test_memory_that_was_refused_is_told_by_the_kernel(tmp_path: Path) -> None:
    assert limits.killed(str(tmp_path)) == 0
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 2\noom_kill 2\n")
    assert limits.killed(str(tmp_path)) == 2
    assert limits.told(
        ["x", "s.service: A process of this unit has been killed by the OOM killer."]
    )
    ((found, times),) = limits.answers(2, str(64 << 20))
    assert (found.directive, str(found.relax), times) == ("MemoryMax", "--memory-max 128M", 2)
    assert not list(limits.answers(0, "infinity"))
    (lesson,) = learn((), Sandbox(CLOSED), HOST.get, counted=[(found, times)], hooked=True)
    assert lesson.is_needed
    assert "no system call shows it" in as_text([lesson], {}, "x", by_requests=False)


def test_a_mark_is_no_call() -> None:
    found = parse(mark("FileNotFoundError:2:77", "/srv/a b.py:1:f"))
    assert found == Mark(NOBODY, "FileNotFoundError", 2, "77", ("/srv/a b.py:1:f",))
    assert isinstance(Seen(Call(1, "", "x", "EPERM", ""), "x"), Seen)


# -- what others choose ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["up\\7x", "up\\377x", "a\\nb"])
def test_a_path_that_no_unit_can_name_is_no_option(name: str) -> None:
    """Where one was, the whole report ended by it, or the file of sites was broken."""
    host = {**HOST, f"/srv/{unquoted(name)}": There(DIRECTORY | 0o777, 0, "root")}
    call = parse(fails(f'mkdir("/srv/{name}/d", 0777)', "EROFS"), "/")
    assert isinstance(call, Call)
    found = explain(call, Sandbox(CLOSED), host.get)
    assert found
    assert found.directive == "ProtectSystem"
    assert found.relax is None
    assert "unit files can't contain this path" in found.advice


@pytest.mark.parametrize(
    ("path", "mode", "group", "device"),
    [
        ("/dev/sg0", 0o660, "cdrom", ""),
        ("/dev/char/21:0", 0o660, "cdrom", "/dev/sg0"),
        ("/dev/nvme0", 0o600, "root", ""),
        ("/dev/nvme0", 0o666, "root", ""),
        ("/dev/cpu/0/msr", 0o666, "root", ""),
        ("/dev/mapper/control", 0o600, "root", ""),
        ("/dev/of-a-new-driver", 0o600, "root", ""),
        ("/dev/of-a-new-driver", 0o660, "disk", ""),
    ],
)
def test_a_device_that_commands_the_machine_is_not_given(
    path: str, mode: int, group: str, device: str
) -> None:
    there = There(CHARACTER | mode, 0, group, device=device)
    call = parse(opens(path, "O_RDWR", "ENOENT"), "/")
    assert isinstance(call, Call)
    found = explain(call, Sandbox(CLOSED), lambda at: there if at == path else None)
    assert found
    assert found.relax is None
    assert "the device can control this host" in found.advice


def test_a_device_is_known_by_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    found = on_this_host(str(tmp_path / "link"))
    assert found
    assert found.device == "/dev/null"


def piped(data: bytes) -> Watch:
    watch = Watch("/srv")
    ours, theirs = os.pipe()
    reader = threading.Thread(target=watch._read_output(ours))
    reader.start()
    with open(theirs, "wb") as output:
        output.write(data)
    reader.join()
    return watch


def test_a_line_without_an_end_is_left_out_and_counted() -> None:
    """strace limits strings, but not paths: two of 4 KB are 32 KB."""
    path = "\\377" * 4000
    long = fails(f'rename("/{path}", "/{path}b")', "ENOENT")
    watch = piped(f"{MEMINFO}\n{long}\n{MEMINFO}\n{fails('keyctl(1)')}\n{long}".encode())
    assert watch.dropped == 2
    assert [it.count for it in watch.seen.values()] == [2, 1]


def test_what_is_kept_is_bounded_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdactivate.doctor.learn.watch._MOST_LETTERS", 30000)
    lines = [opens(f"/srv/{number}{'x' * 1900}", "O_RDONLY", "EACCES") for number in range(30)]
    watch = noted(*lines, *lines[:1])
    assert (len(watch.seen), watch.dropped) == (10, 20)
    assert next(iter(watch.seen.values())).count == 2
    assert max(len(it.call.arguments) for it in watch.seen.values()) == 1000


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    """What is younger may be in use, and what is a link is not ours."""
    prefix = f"{tmp_path}/learn-"
    (kept := tmp_path / "kept").mkdir()
    for name in ("old", "new"):
        (directory := Path(f"{prefix}{name}")).mkdir()
        (directory / "sitecustomize.py").touch()
    Path(f"{prefix}link").symlink_to(kept)
    os.utime(f"{prefix}old", (0, 0))
    os.utime(kept, (0, 0))
    with hook_directory.made(prefix) as made:
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o755
        assert os.listdir(made) == ["sitecustomize.py"]
    assert sorted(os.listdir(tmp_path)) == ["kept", "learn-link", "learn-new"]


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learn", "x"], "NAME goes before --learn"),
        (["x", "--while", "true"], "--while needs --learn"),
        (["x", "--apply"], "--apply needs --learn"),
        (["x", "y", "--learn"], "--learn watches one site"),
        (["x", "--learn", "--while", ""], "--while '': name a command"),
        (["x", "--learn", "--while", "'"], "--while"),
        (["x", "--learn", "--fix"], "--learn can be combined only with"),
        (["x", "--learn", "0"], "is not a time span of more than 0"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert said in capsys.readouterr().err
