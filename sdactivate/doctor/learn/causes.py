"""Find the directive of the unit that refused a call, and the option that allows it.

The rules of a table use three things: the call, the unit's properties from `systemctl show`, and
what the host has at a path. Nothing here reads the machine. A call that would also fail outside the
sandbox was not refused by it: for example, the file is missing, or its mode denies the site's user.
"""

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from sdactivate.doctor.learn.calls import OPEN, Call, words_of
from sdactivate.doctor.learn.facts import Look, Sandbox, There, is_below
from sdactivate.doctor.never_given import commands_the_machine, is_the_system
from sdactivate.errors import UsageError
from sdactivate.sandbox import ENGINES, HOMES, OPTIONS
from sdactivate.systemd import escape

# -- what is answered -----------------------------------------------------------------------------


class Relax(NamedTuple):
    """The option of a site that would allow it, with its value."""

    option: str
    """A key of `sandbox.OPTIONS`."""
    value: str = ""

    def __str__(self) -> str:
        row = OPTIONS[self.option]
        value = self.value or row.value
        return f"--{row.key}{f' {value}' if value else ''}"


class Answer(NamedTuple):
    """Why a call was refused, and what to do."""

    directive: str
    """The directive that refused it, such as ProtectSystem; "" if it was not the sandbox."""
    what: str
    """What was refused, in words; the same for all similar calls."""
    relax: Relax | None = None
    """What allows exactly this; None if no option does, or none should."""
    advice: str = ""
    """What to do instead, or in addition."""
    is_probe: bool = False
    """Whether libraries try this routinely and work without it."""


Rule = Callable[["Asked"], "Answer | None"]


class Asked(NamedTuple):
    """The facts that a rule uses."""

    call: Call
    unit: Sandbox
    look: Look

    @property
    def path(self) -> str:
        """The path that the call probably failed at: of two, the second if the first exists."""
        paths = self.call.paths
        if len(paths) > 1 and self.look(paths[0]) is not None and self.call.errno != "EROFS":
            return paths[1]
        return paths[0] if paths else ""

    @property
    def is_file(self) -> bool:
        """Whether the path is a file's, not a socket's address."""
        return self.path.startswith("/") and self.call.name not in _SOCKET_CALLS

    @property
    def there(self) -> There | None:
        """What the host has at the path."""
        return self.look(self.path) if self.path.startswith("/") else None

    @property
    def writes(self) -> bool:
        """Whether the call would change something."""
        call = self.call
        if call.name in ("open", "openat", "openat2"):
            return bool(re.search(r"\bO_(WRONLY|RDWR|CREAT|TRUNC)\b", outside_strings(call)))
        if call.name in ("access", "faccessat", "faccessat2"):
            return "W_OK" in outside_strings(call)
        return call.name in _CHANGING


_CHANGING = frozenset(
    {
        *("creat", "mkdir", "mkdirat", "mknod", "mknodat", "unlink", "unlinkat", "rmdir"),
        *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
        *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
        *("truncate", "ftruncate", "utime", "utimes", "utimensat", "futimesat", "fallocate"),
        *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "write"),
    }
)
_SOCKET_CALLS = frozenset({"connect", "bind", "sendto", "sendmsg", "sendmmsg"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def outside_strings(call: Call) -> str:
    """Return the arguments with empty strings: the traced program controls their contents."""
    return _STRING.sub('""', call.arguments)


def explain(call: Call, unit: Sandbox, look: Look) -> Answer | None:
    """Return why `call` failed in `unit`; None if its failure is of no interest.

    An Answer without a directive means that the sandbox did not refuse the call. `look` is called
    with absolute paths only. The first rule that matches decides.
    """
    if call.errno not in TELLING:
        return None
    asked = Asked(call, unit, look)
    for rule in RULES:
        if answer := rule(asked):
            return _as_a_unit_has_it(answer)
    return None


def _as_a_unit_has_it(answer: Answer) -> Answer:
    """Return `answer` without its option if no unit file or sites file can hold its value."""
    if answer.relax is None:
        return answer
    try:
        escape.word(answer.relax.value)
    except UsageError:
        advice = "unit files can't contain this path: rename it, in UTF-8 and without control"
        return answer._replace(relax=None, advice=f"{advice} characters")
    return answer


TELLING = frozenset(
    {
        *("EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT", "ENOSYS", "SIGSYS", OPEN),
        *("EMFILE", "EAGAIN", "ENOMEM", "ENXIO"),
        *("ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL", "EINPROGRESS"),
        *("ETIMEDOUT",),
    }
)
"""The errors with which a sandbox refuses calls. Calls with other errors are ignored."""


# -- system calls ---------------------------------------------------------------------------------

PRIVILEGED = frozenset(
    {
        *("chown", "fchown", "fchownat", "lchown", "chroot", "pivot_root", "mount", "umount2"),
        *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups"),
        *("setfsuid", "setfsgid", "capset", "reboot", "swapon", "swapoff", "init_module"),
        *("finit_module", "delete_module", "settimeofday", "clock_settime", "clock_adjtime"),
        *("adjtimex", "sethostname", "setdomainname", "acct", "quotactl", "ioperm", "iopl"),
        *("kexec_load", "bpf", "perf_event_open", "fanotify_init", "open_by_handle_at", "syslog"),
        *("nfsservctl", "vhangup", "setns", "unshare", "mknod", "mknodat"),
    }
)
"""Calls that also need a capability, which no option gives."""

_PRIORITIES = frozenset(
    {
        *("sched_setaffinity", "sched_setscheduler", "sched_setattr", "sched_setparam"),
        *("setpriority", "ioprio_set", "mbind", "set_mempolicy", "migrate_pages", "move_pages"),
        *("pkey_alloc", "io_uring_setup", "membarrier", "userfaultfd", "mlockall", "rseq"),
    }
)
"""Calls with which programs tune themselves. They work without them too."""

_CALL_WORDS: Mapping[str, str] = {
    "listen": "to listen on a socket of its own (listen), as a server, a multiprocessing manager "
    "or a forkserver process pool does",
    "sched_setaffinity": "to choose its processors (sched_setaffinity)",
    "setrlimit": "to change its limits (setrlimit)",
}


def _filtered(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if unit.allows_call(call.name) or call.errno not in (unit.refusal, "SIGSYS"):
        return None
    what = _CALL_WORDS.get(call.name, f"to make the system call {call.name}")
    if call.name in PRIVILEGED:
        needless = "the call also needs a privilege, which no option gives: change the program's "
        return Answer("SystemCallFilter", what, None, f"{needless}settings to avoid the call")
    relax = Relax("allow-syscall", call.name)
    if call.name in _PRIORITIES:
        return Answer("SystemCallFilter", what, relax, is_probe=True)
    advice = ""
    if call.name == "listen":
        advice = "or use multiprocessing's start method `fork` or `spawn`, which needs no socket"
    return Answer("SystemCallFilter", what, relax, advice)


_NAMESPACE = re.compile(r"\bCLONE_NEW[A-Z]+")


def _namespaces(asked: Asked) -> Answer | None:
    call = asked.call
    if not asked.unit.is_on("RestrictNamespaces"):
        return None
    if call.name == "clone3" and call.errno == "ENOSYS":
        what = "to call clone3; the C library uses clone instead"
        return Answer("RestrictNamespaces", what, is_probe=True)
    if call.errno != "EPERM" or call.name not in ("unshare", "clone", "clone3", "setns"):
        return None
    if call.name == "setns" or _NAMESPACE.search(outside_strings(call)):
        advice = "no option allows it: run Chromium and similar programs with --no-sandbox"
        return Answer("RestrictNamespaces", "to create a namespace", None, advice)
    return None


def _switch(name: str, calls: str, errno: str, what: str, advice: str = "") -> Rule:
    """Return a rule for a directive that refuses certain calls, and that no option relaxes."""
    names = frozenset(calls.split())

    def rule(asked: Asked) -> Answer | None:
        if asked.call.name in names and asked.call.errno == errno and asked.unit.is_on(name):
            return Answer(name, what, None, advice or "no option allows it")
        return None

    return rule


_REALTIME = re.compile(r"\bSCHED_(FIFO|RR|DEADLINE)\b")


def _realtime(asked: Asked) -> Answer | None:
    call = asked.call
    if not call.name.startswith("sched_set") or call.errno != "EPERM":
        return None
    if asked.unit.is_on("RestrictRealtime") and _REALTIME.search(outside_strings(call)):
        return Answer("RestrictRealtime", "to use real-time priority", None, "no option allows it")
    return None


def _setuid(asked: Asked) -> Answer | None:
    call = asked.call
    if call.errno != "EPERM" or not asked.unit.is_on("RestrictSUIDSGID"):
        return None
    if call.name not in _WITH_MODE:
        return None
    modes = (word for word in words_of(outside_strings(call)) if re.fullmatch("0[0-7]{1,6}", word))
    if any(int(mode, 8) & (stat.S_ISUID | stat.S_ISGID) for mode in modes) or re.search(
        r"\bS_IS[UG]ID\b", outside_strings(call)
    ):
        advice = "leave 02000 and 04000 out of the mode (Django: FILE_UPLOAD_DIRECTORY_PERMISSIONS)"
        what = f"to set a setuid or setgid bit on {asked.path}"
        return Answer("RestrictSUIDSGID", what, None, advice)
    return None


_WITH_MODE = frozenset(
    {
        *("chmod", "fchmod", "fchmodat", "fchmodat2", "mkdir", "mkdirat", "mknod", "mknodat"),
        *("open", "openat", "creat"),
    }
)


def _executable_memory(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if call.name not in ("mmap", "mprotect", "pkey_mprotect", "shmat", "mmap2"):
        return None
    if call.errno not in ("EPERM", "EACCES"):
        return None
    if not re.search(r"\b(PROT|SHM)_EXEC\b", outside_strings(call)):
        return None
    if asked.path and (top := unit.covers("NoExecPaths", asked.path)):
        return Answer("NoExecPaths", f"to execute files in {top}", Relax("jit"), _INSTALLED)
    if unit.is_on("MemoryDenyWriteExecute"):
        return Answer(
            "MemoryDenyWriteExecute",
            "to use memory that is writable and executable, which a JIT compiler or a callback of "
            "a C library needs",
            Relax("jit"),
        )
    return None


_INSTALLED = "or install the program in a directory that the site can't write to"


# -- sockets --------------------------------------------------------------------------------------

_FAMILY = re.compile(r"\b(AF_[A-Z0-9]+)\b")
_INET = ("AF_INET", "AF_INET6")
_PLACE = re.compile(
    r'sin6?_port=htons\((\d{1,5})\).*?(?:inet_addr\("([0-9.]+)"\)|'
    r'inet_pton\(AF_INET6, "([0-9a-fA-F:.]+)")'
)


def destination(call: Call) -> tuple[str, int] | None:
    """Return the IP address and the port in a call's arguments, or None."""
    if call.name not in _SOCKET_CALLS or not (found := _PLACE.search(call.arguments)):
        return None
    address = found[2] or found[3]
    try:
        return str(ip_address(address)), int(found[1])
    except ValueError:
        return None


def _family(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if call.name not in ("socket", "socketpair") or call.errno != "EAFNOSUPPORT":
        return None
    found = _FAMILY.match(call.arguments)
    if not found or unit.allows_family(found[1]):
        return None
    family = found[1]
    if family in _INET:
        return Answer(
            "RestrictAddressFamilies",
            "to create an internet socket; its destination is not known",
            Relax("network-local"),
            "or `--network` if the destination is another machine. A unix socket of the service "
            "needs neither",
        )
    if family == "AF_NETLINK":
        return Answer(
            "RestrictAddressFamilies",
            "to create a netlink socket, with which the C library asks for this host's addresses",
            is_probe=True,
        )
    advice = f"no option allows it; RestrictAddressFamilies={family} in a drop-in does"
    return Answer("RestrictAddressFamilies", f"to create a socket of {family}", None, advice)


def _internet(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if call.errno not in _UNREACHED or not (place := destination(call)) or call.name == "bind":
        return None
    address, port = place
    family = "AF_INET6" if ":" in address else "AF_INET"
    is_local = ip_address(address).is_loopback
    by = _closed(unit, family, address, call.errno)
    if not by:
        return None
    shown = f"[{address}]" if ":" in address else address
    if port == 53:
        what = f"to look up a name by DNS ({shown}:53)"
        advice = "or allow this first, to see which addresses it connects to"
        return Answer(by, what, Relax("network"), advice)
    what = f"to connect to {shown}:{port}"
    if is_local:
        return Answer(by, what, Relax("network-local"), _by_unix_socket(port))
    return Answer(by, what, Relax("network"))


_UNREACHED = frozenset(
    {
        *("EPERM", "EACCES", "ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL"),
        *("EINPROGRESS", "ETIMEDOUT", OPEN),
    }
)


def _closed(unit: Sandbox, family: str, address: str, errno: str) -> str:
    """Return the directive that blocks an address; "" if none does."""
    if not unit.allows_family(family):
        return "RestrictAddressFamilies"
    if unit.is_on("PrivateNetwork"):
        return "PrivateNetwork"
    if errno in ("EPERM", "EACCES", "EINPROGRESS", "ETIMEDOUT", OPEN):
        return "IPAddressDeny" if unit.denies_address(address) else ""
    return ""


def _by_unix_socket(port: int) -> str:
    known = _UNIX_SOCKETS.get(port)
    return f"or connect to its unix socket, which needs no network: {known}" if known else ""


_UNIX_SOCKETS = {
    5432: "an empty HOST in DATABASES (/run/postgresql)",
    3306: "HOST = '/run/mysqld/mysqld.sock'",
    6379: "unix:///run/redis/redis-server.sock, with --join redis",
    11211: "unix:/run/memcached/memcached.sock",
    25: "a socket unit for sendmail -bs (docs/hardening.md)",
}


def _port(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if (call.name, call.errno) != ("bind", "EPERM") or not (at := destination(call)):
        return None
    if not unit.is_on("SocketBindDeny"):
        return None
    advice = "let systemd open the port, with --listen"
    return Answer("SocketBindDeny", f"to bind port {at[1]}", None, advice)


def _abstract(asked: Asked) -> Answer | None:
    call, path = asked.call, asked.path
    if call.name not in _SOCKET_CALLS or not path.startswith("@") or call.errno != "ECONNREFUSED":
        return None
    if not asked.unit.is_on("PrivateNetwork"):
        return None
    what = f"to connect to the abstract socket {path}"
    return Answer("PrivateNetwork", what, Relax("network-local"))


# -- files ----------------------------------------------------------------------------------------


def _hidden(asked: Asked) -> Answer | None:
    """What InaccessiblePaths= and TemporaryFileSystem= hide: sockets that control the host."""
    call, unit, path = asked.call, asked.unit, asked.path
    if not path.startswith("/") or call.errno not in ("EACCES", "ENOENT", "ECONNREFUSED", "ENXIO"):
        return None
    real = f"/run/{path.removeprefix('/var/run/')}" if path.startswith("/var/run/") else path
    if not asked.there:
        return None
    names = [
        name for name in ("InaccessiblePaths", "TemporaryFileSystem") if unit.covers(name, real)
    ]
    if not names or (call.errno == "ENOENT") is not (names[0] == "TemporaryFileSystem"):
        return None
    if unit.covers("BindReadOnlyPaths", real) or unit.covers("BindPaths", real):
        return None
    if is_below(real, "/run/systemd/resolve"):
        what = "to reach systemd's resolver of host names, which --network includes"
        return Answer(names[0], what, is_probe=True)
    if is_below(real, "/run/systemd") or is_below(real, "/run/dbus"):
        return Answer(names[0], f"to reach {real}, which can control this host", Relax("control"))
    if any(word.lstrip("-") == unit.covers(names[0], real) for word in _OURS):
        return Answer(names[0], f"to reach {real}, which can control this host", Relax("control"))
    return Answer(names[0], f"to reach {real}", None, f"remove it from {names[0]}= of the unit")


_OURS = frozenset(ENGINES.split())


def _home(asked: Asked) -> Answer | None:
    call, unit, path = asked.call, asked.unit, asked.path
    mode = unit.value("ProtectHome")
    if not unit.is_on("ProtectHome") or not any(is_below(path, top) for top in HOMES):
        return None
    if call.errno == "EROFS" and mode == "read-only":
        advice = "write to $STATE_DIRECTORY or to a directory below /srv"
        return Answer("ProtectHome", f"to write to {path}", None, advice)
    if call.errno not in ("EACCES", "ENOENT") or mode == "read-only" or not asked.there:
        return None
    if asked.writes:
        advice = "write to $STATE_DIRECTORY or to a directory below /srv"
        return Answer("ProtectHome", f"to write to {path}", None, advice)
    return Answer("ProtectHome", f"to read {path}", Relax("home"), "or move it to /srv or /opt")


_PROCESS = re.compile(r"/proc/(\d+|self|thread-self)(/|$)")


def _proc(asked: Asked) -> Answer | None:
    call, unit, path = asked.call, asked.unit, asked.path
    if not is_below(path, "/proc") or call.errno not in ("ENOENT", "EACCES", "EPERM"):
        return None
    if _PROCESS.match(path):
        if call.errno == "ENOENT" and unit.is_on("ProtectProc") and asked.there:
            return Answer("ProtectProc", "to see other users' processes in /proc", None, _NO_PEERS)
        return None
    if call.errno == "ENOENT" and unit.value("ProcSubset") == "pid" and asked.there:
        return Answer(
            "ProcSubset",
            f"to read {path}",
            Relax("proc"),
            is_probe=is_below(path, "/proc/sys")
            or path in _ASKED_BY_LIBRARIES
            or (call.process == "node" and path in ("/proc/meminfo", "/proc/cpuinfo")),
        )
    return None


_NO_PEERS = "no option allows it"
_ASKED_BY_LIBRARIES = ("/proc/filesystems", "/proc/mounts", "/proc/version", "/proc/cgroups")


def _device(asked: Asked) -> Answer | None:
    call, unit, path = asked.call, asked.unit, asked.path
    if not is_below(path, "/dev") or path in ("/dev", "/dev/shm", "/dev/pts"):  # noqa: S108
        return None
    there = asked.there
    if not there or not (stat.S_ISCHR(there.mode) or stat.S_ISBLK(there.mode)):
        return None
    hidden = call.errno == "ENOENT" and unit.is_on("PrivateDevices")
    shut = call.errno == "EPERM" and unit.value("DevicePolicy") in ("closed", "strict")
    if not hidden and not shut:
        return None
    by = "PrivateDevices" if hidden else "DevicePolicy"
    if _commands_the_machine(path, there):
        advice = "no option allows it, because the device can control this host"
        return Answer(by, f"to open the device {path}", None, advice)
    if path in ("/dev/kmsg", "/dev/tty0", "/dev/console", "/dev/log"):
        return Answer(by, f"to open the device {path}", is_probe=True)
    return Answer(by, f"to open the device {path}", Relax("device", path))


def _commands_the_machine(path: str, there: There) -> bool:
    """Return whether a device gives access to disks or memory, or controls hardware or the kernel.

    Some are known by name. Others are recognized by their mode: only root can open them, or only a
    group that no site should be in.
    """
    if stat.S_ISBLK(there.mode):
        return True
    if commands_the_machine(path) or commands_the_machine(there.device):
        return True
    if there.mode & 0o006:
        return False
    return not there.mode & 0o060 or there.group in NEVER_JOINED


def _temporary(asked: Asked) -> Answer | None:
    call, path = asked.call, asked.path
    if call.errno not in ("ENOENT", "ECONNREFUSED") or not asked.unit.is_on("PrivateTmp"):
        return None
    if not any(is_below(path, top) and path != top for top in ("/tmp", "/var/tmp")):  # noqa: S108
        return None
    if not asked.there:
        return None
    advice = "move it below /run (a socket) or /srv (a file)"
    return Answer("PrivateTmp", f"to see {path} of this host: its /tmp is private", None, advice)


def _kernel_files(asked: Asked) -> Answer | None:
    call, unit, path = asked.call, asked.unit, asked.path
    if call.errno not in ("EROFS", "EACCES", "EPERM") or not asked.writes:
        return None
    for name, top in (
        ("ProtectControlGroups", "/sys/fs/cgroup"),
        ("ProtectKernelTunables", "/proc/sys"),
        ("ProtectKernelTunables", "/sys"),
    ):
        if is_below(path, top) and unit.is_on(name):
            return Answer(
                name, f"to change {path}", None, "no option allows it: set it outside the site"
            )
    return None


def _execute(asked: Asked) -> Answer | None:
    call, path = asked.call, asked.path
    if call.name not in ("execve", "execveat") or call.errno != "EACCES":
        return None
    if top := asked.unit.covers("NoExecPaths", path):
        return Answer("NoExecPaths", f"to execute files in {top}", Relax("jit"), _INSTALLED)
    return None


def _read_only(asked: Asked) -> Answer | None:
    call, unit, path = asked.call, asked.unit, asked.path
    if call.errno != "EROFS" or not path.startswith("/"):
        return None
    directory = _existing(asked, path)
    here = asked.look(directory)
    if here and here.is_mounted_read_only:
        return Answer("", f"to write to {directory}: this host has mounted it read-only")
    if unit.covers("ReadOnlyPaths", path):
        advice = "remove it from ReadOnlyPaths= of the unit"
        return Answer("ReadOnlyPaths", f"to write to {directory}", None, advice)
    if not unit.is_on("ProtectSystem"):
        return None
    what = f"to write to {directory}"
    if path.endswith((".pyc", "/__pycache__")) or "/__pycache__/" in path:
        advice = "`sdactivate compile` writes them, without running the code"
        return Answer("ProtectSystem", "to write .pyc files", None, advice, is_probe=True)
    code = unit.value("WorkingDirectory").lstrip("-!")
    if directory == code or is_the_system(directory):
        advice = f"write to $STATE_DIRECTORY or to a separate directory; {directory} holds "
        return Answer(
            "ProtectSystem",
            what,
            None,
            advice + ("the code" if code == directory else "the system's files"),
        )
    advice = "or write to $STATE_DIRECTORY, which needs no option"
    if here and not _may_write(here, unit):
        advice += (
            f". {directory} belongs to uid {here.uid}, group {here.group}, mode "
            f"{stat.S_IMODE(here.mode):04o}: the site's user also needs write permission there"
        )
    return Answer("ProtectSystem", what, Relax("writable", directory), advice)


def _may_write(there: There, unit: Sandbox) -> bool:
    return bool(there.mode & stat.S_IWOTH or unit.value("User") == "")


def _existing(asked: Asked, path: str) -> str:
    """Return the nearest directory above `path` that the host has, or `path` if it is one."""
    while path not in ("", "/"):
        there = asked.look(path)
        if there and stat.S_ISDIR(there.mode):
            return path
        path = path.rpartition("/")[0]
    return "/"


NEVER_JOINED = frozenset(
    {
        *("root", "0", "sudo", "wheel", "adm", "shadow", "disk", "docker", "lxd", "incus", "kvm"),
        *("libvirt", "libvirt-qemu", "podman", "systemd-journal", "kmem", "tty", "staff", "admin"),
    }
)
"""Groups whose members can control the host, or read other users' data."""


def _modes(asked: Asked) -> Answer | None:
    """What file permissions refuse, not the sandbox. Joining a group may allow it."""
    call, path = asked.call, asked.path
    if call.errno not in ("EACCES", "EPERM") or not path.startswith("/"):
        return None
    if call.errno == "EPERM" and call.name not in ("open", "openat", "openat2"):
        return Answer("", f"{call.name} of {path}: only its owner or root may")
    *above, last = _ancestors(path)
    for place in [*above, last]:
        if place.endswith("/private"):  # systemd keeps dynamic users' directories in it
            continue
        there = asked.look(place)
        if there is None:
            return Answer("", f"to make {path}" if asked.writes else f"{path}: permissions")
        is_last = place == last
        wanted = stat.S_IXOTH if not is_last else _wanted(asked, there)
        if there.mode & wanted == wanted:
            continue
        what = (
            f"{path}: {place} belongs to group {there.group}, mode {stat.S_IMODE(there.mode):04o}"
        )
        by_group = there.mode & (wanted << 3) == wanted << 3
        if by_group and there.group not in NEVER_JOINED:
            return Answer("", what, Relax("join", there.group), "or change its mode")
        return Answer("", what, None, f"`sdactivate who {place}` shows who may, and why")
    return Answer("", f"{path}: permissions, by an ACL or a security module")


def _ancestors(path: str) -> Iterator[str]:
    parts = path.split("/")[1:]
    for count in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:count])


def _wanted(asked: Asked, there: There) -> int:
    """Return the permission that the call needs on the path it names, as the bit for others."""
    if stat.S_ISSOCK(there.mode) or asked.call.name in _SOCKET_CALLS or asked.writes:
        return stat.S_IWOTH
    if asked.call.name.startswith("execve"):
        return stat.S_IXOTH
    return stat.S_IROTH


# -- limits ---------------------------------------------------------------------------------------


def _descriptors(asked: Asked) -> Answer | None:
    if asked.call.errno != "EMFILE":
        return None
    limit = asked.unit.value("LimitNOFILESoft") or asked.unit.value("LimitNOFILE")
    advice = (
        "usually files are opened and never closed: look at /proc/PID/fd first. No option raises "
        "the limit: use LimitNOFILE= in a drop-in, or resource.setrlimit up to the hard limit"
    )
    return Answer("LimitNOFILE", f"to have more than {limit} open files", None, advice)


def _tasks(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if call.name not in ("clone", "clone3", "fork", "vfork") or call.errno != "EAGAIN":
        return None
    limit = unit.value("TasksMax")
    if not limit.isdigit() or int(limit) > 1 << 40:
        return Answer("", "a new process or thread: the host's or the user's limit is reached")
    advice = "usually threads or processes never end: count them first (systemctl status)"
    what = f"to have more than {limit} processes and threads"
    return Answer("TasksMax", what, _more(limit), advice)


def _more(limit: str) -> Relax:
    return Relax("tasks-max", str(2 * int(limit)))


def _memory(asked: Asked) -> Answer | None:
    call, unit = asked.call, asked.unit
    if call.errno != "ENOMEM" or call.name not in ("mmap", "brk", "mremap", "clone", "mlock"):
        return None
    for name in ("LimitAS", "LimitDATA", "LimitMEMLOCK"):
        if (unit.value(name) not in ("", "infinity")) and (
            name != "LimitMEMLOCK" or call.name == "mlock"
        ):
            return Answer(name, "to use more memory", None, f"raise {name}= of the unit")
    return Answer("", "to use more memory: the host does not have enough")


def _foreign(asked: Asked) -> Answer | None:
    """EPERM of a call that the filter allows: the kernel's own permission check."""
    call = asked.call
    if call.errno != "EPERM":
        return None
    if call.name in PRIVILEGED and not asked.unit.value("CapabilityBoundingSet"):
        advice = "no option gives privileges: change the program's settings so that it needs none"
        return Answer("CapabilityBoundingSet", f"to use a privilege ({call.name})", None, advice)
    return Answer("", f"{call.name}: the kernel does not permit it to this user")


RULES: tuple[Rule, ...] = (
    _namespaces,
    _realtime,
    _setuid,
    _filtered,
    _switch("LockPersonality", "personality", "EPERM", "to change its personality"),
    _switch("ProtectHostname", "sethostname setdomainname", "EPERM", "to rename the machine"),
    _switch("ProtectClock", "clock_settime settimeofday adjtimex", "EPERM", "to set the clock"),
    _switch("ProtectKernelLogs", "syslog", "EPERM", "to read the kernel's log"),
    _executable_memory,
    _family,
    _internet,
    _port,
    _abstract,
    _hidden,
    _home,
    _proc,
    _device,
    _temporary,
    _kernel_files,
    _execute,
    _read_only,
    _descriptors,
    _tasks,
    _memory,
    _modes,
    _foreign,
)
"""The rules from the most specific to the most general. The first that matches decides."""


def text_of(call: Call) -> str:
    """Return the call for people: its name, shortened arguments and error."""
    shown = call.arguments if len(call.arguments) <= 120 else f"{call.arguments[:117]}..."
    return f"{call.name}({shown}): {call.errno}"
