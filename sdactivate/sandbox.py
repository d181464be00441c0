"""The table of hardening lines: each with its reason, its cost in exposure and what relaxes it.

A service that only needs an inherited socket can do without nearly everything else, and each
row takes one thing away: what, with which line, why, since which systemd, where it is
documented, and which *need* of a site gives it back. With all of them `systemd-analyze security`
says 0.2. Common ground: it imports no wing.
"""

import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "network": "connections to other machines",
        "network-local": "connections to TCP services of this host",
        "jit": "memory that is both writable and executable, and programs that it has written",
        "home": "code or data under /home, /root or /run/user",
        "device": "device nodes",
        "control": "the system bus, and the sockets that command systemd or a container engine",
        "proc": "what /proc says of the machine: memory, processors, load",
        "peer-ids": "users and groups of the peers (SO_PEERCRED)",
        "peer-proc": "the peers' entries in /proc",
    }
)
"""What a site may need beyond its socket and its own directories. Each relaxes only its lines."""

TOPICS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "A user of its own, without any privilege and no way to get one.",
        "files": "It writes to its own directories only, and what it writes is its own.",
        "control": "Sockets that command the machine are out of reach.",
        "network": "No network: the socket it inherits is not affected by any of these.",
        "kernel": "Nothing of the kernel's or of other processes is in sight.",
        "calls": "The system calls that a service needs, and none that manage the machine.",
    }
)
"""The groups of lines, in their order in the unit, each with its comment."""


BEYOND_NEEDS = ("run-as", "own", "listens")
"""What relaxes lines besides a site's needs: a user of the administrator's choice; a user's own
manager, which makes no user; a service that makes listening sockets itself, such as another server
or a command of manage.py."""


class Directive(NamedTuple):
    """One line of the sandbox."""

    topic: str
    name: str
    value: str
    """As written; "" empties a list."""
    why: str
    """What it takes away, in one sentence."""
    since: int
    """The first systemd that knows it with this value."""
    source: str
    relaxed: Mapping[str, str | None] = MappingProxyType({})
    """Need: the value it has then; None: the line is left out."""
    cost: float = 0.0
    """Points of exposure, of 10, that leaving this directive out of the whole sandbox adds, as
    `systemd-analyze security` of 252 rounds them; on the first of several rows of one name."""

    @property
    def line(self) -> str:
        """The line of the unit: ProtectClock=yes."""
        return f"{self.name}={self.value}"


EXEC = "systemd.exec(5)"
RESOURCES = "systemd.resource-control(5)"

ENGINES = " ".join(
    f"-{path}"
    for path in (
        *("/run/dbus", "/run/docker.sock", "/run/docker", "/run/containerd", "/run/podman"),
        *("/run/crio", "/run/k3s", "/run/buildkit", "/run/libvirt", "/run/snapd.socket"),
        *("/var/lib/lxd/unix.socket", "/var/lib/incus/unix.socket"),
        "/var/snap/lxd/common/lxd/unix.socket",
    )
)
"""The system bus, and what starts containers and machines; "-": where it is there."""

TABLE: tuple[Directive, ...] = (
    Directive(
        "identity",
        "DynamicUser",
        "yes",
        "The user exists only while the service runs and owns nothing else on the machine.",
        235,
        EXEC,
        {"run-as": None, "own": None},
    ),
    Directive(
        "identity",
        "NoNewPrivileges",
        "yes",
        "No program it starts gains privileges: setuid bits and file capabilities are ignored.",
        187,
        EXEC,
    ),
    Directive(
        "identity",
        "CapabilityBoundingSet",
        "",
        "No capability can ever be had, not even by root inside.",
        21,
        EXEC,
        cost=1.7,
    ),
    Directive(
        "identity",
        "AmbientCapabilities",
        "",
        "No capability is handed to the process at its start.",
        229,
        EXEC,
    ),
    Directive(
        "identity",
        "PrivateUsers",
        "yes",
        "Other users do not exist: every foreign owner is seen as nobody.",
        232,
        EXEC,
        {"peer-ids": None},
        cost=0.2,
    ),
    Directive(
        "identity",
        "RestrictSUIDSGID",
        "yes",
        "It can make no setuid or setgid file.",
        242,
        EXEC,
    ),
    Directive(
        "identity",
        "KeyringMode",
        "private",
        "It has a kernel keyring of its own and shares none with the user's other processes.",
        235,
        EXEC,
    ),
    Directive(
        "identity",
        "RemoveIPC",
        "yes",
        "Shared memory and queues that it leaves behind are removed with it.",
        212,
        EXEC,
        {"run-as": None, "own": None},
    ),
    Directive(
        "files",
        "UMask",
        "0077",
        "What it writes, nobody else reads.",
        21,
        EXEC,
    ),
    Directive(
        "files",
        "ProtectSystem",
        "strict",
        "The whole file system is read-only but for its own directories.",
        232,
        EXEC,
    ),
    Directive(
        "files",
        "ProtectHome",
        "yes",
        "/home, /root and /run/user are empty.",
        214,
        EXEC,
        {"home": "read-only", "own": "read-only"},
        cost=0.1,
    ),
    Directive(
        "files",
        "PrivateTmp",
        "yes",
        "/tmp and /var/tmp are its own and vanish with it.",  # noqa: S108 - a sentence
        21,
        EXEC,
    ),
    Directive(
        "files",
        "PrivateDevices",
        "yes",
        "/dev holds pseudo devices only: null, zero, full, random, urandom, tty.",
        209,
        EXEC,
        {"device": None},
        cost=0.2,
    ),
    Directive(
        "files",
        "DevicePolicy",
        "closed",
        "The kernel lets it open no device but the pseudo ones.",
        208,
        RESOURCES,
    ),
    Directive(
        "files",
        "PrivateMounts",
        "yes",
        "Mounts made inside are not seen outside.",
        239,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "files",
        "NoExecPaths",
        "-/tmp -/var/tmp -/dev/shm",
        "Nothing that it has written can be executed.",
        248,
        EXEC,
        {"jit": None},
    ),
    Directive(
        "control",
        "InaccessiblePaths",
        ENGINES,
        "The system bus and container engines can't be reached: they act for others.",
        231,
        EXEC,
        {"control": None, "own": f"{ENGINES} -%t/bus -%t/systemd/private"},
    ),
    Directive(
        "control",
        "TemporaryFileSystem",
        "/run/systemd:ro /run/systemd/system:ro",
        "Of systemd's own sockets and files none is there ...",
        238,
        EXEC,
        {"control": None},
    ),
    Directive(
        "control",
        "BindReadOnlyPaths",
        "-/run/systemd/notify -/run/systemd/journal -/run/systemd/userdb",
        "... but those that tell of readiness, log, and name users.",
        233,
        EXEC,
        {
            "control": None,
            "network": "-/run/systemd/notify -/run/systemd/journal -/run/systemd/userdb "
            "-/run/systemd/resolve",
        },
    ),
    Directive(
        "network",
        "PrivateNetwork",
        "yes",
        "It has a loopback interface of its own and no other.",
        33,
        EXEC,
        {"network": None, "network-local": None},
        cost=0.4,
    ),
    Directive(
        "network",
        "RestrictAddressFamilies",
        "AF_UNIX",
        "It can make unix sockets only: databases and mail are reached by theirs.",
        211,
        EXEC,
        {
            "network": "AF_UNIX AF_INET AF_INET6",
            "network-local": "AF_UNIX AF_INET AF_INET6",
        },
        cost=0.7,
    ),
    Directive(
        "network",
        "IPAddressDeny",
        "any",
        "The kernel drops every IP packet of its own sockets.",
        235,
        RESOURCES,
        {"network": None},
        cost=0.2,
    ),
    Directive(
        "network",
        "SocketBindDeny",
        "any",
        "It can open no port, where systemd is built with BPF: the socket unit has done that.",
        249,
        RESOURCES,
    ),
    Directive(
        "network",
        "PrivateIPC",
        "yes",
        "System V and POSIX message queues are its own.",
        248,
        EXEC,
    ),
    Directive(
        "kernel",
        "ProtectClock",
        "yes",
        "It can't set the clock.",
        245,
        EXEC,
        cost=0.1,
    ),
    Directive(
        "kernel",
        "ProtectHostname",
        "yes",
        "It can't rename the machine.",
        242,
        EXEC,
    ),
    Directive(
        "kernel",
        "ProtectKernelLogs",
        "yes",
        "It reads no kernel log, whose addresses help an attacker.",
        244,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProtectKernelModules",
        "yes",
        "It can load no kernel module.",
        232,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProtectKernelTunables",
        "yes",
        "The kernel's variables in /proc/sys and /sys are read-only.",
        232,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProtectControlGroups",
        "yes",
        "Control groups are read-only.",
        232,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProtectProc",
        "invisible",
        "Other users' processes are not listed in /proc.",
        247,
        EXEC,
        {"peer-proc": None},
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProcSubset",
        "pid",
        "/proc holds processes only, nothing about the machine.",
        247,
        EXEC,
        {"proc": None},
    ),
    Directive(
        "calls",
        "SystemCallArchitectures",
        "native",
        "Calls of other architectures, a way round the filter, are refused.",
        209,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "@system-service",
        "Only what services usually call is allowed ...",
        239,
        EXEC,
        cost=1.6,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "~@privileged @resources",
        "... and of that nothing that changes privileges, priorities or limits.",
        239,
        EXEC,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "~listen @keyring",
        "It can't change the backlog of the socket it inherits, and has no use for keys.",
        239,
        EXEC,
        {"listens": "~@keyring"},
    ),
    Directive(
        "calls",
        "SystemCallErrorNumber",
        "EPERM",
        "A refused call fails with an error that a program can handle; it does not kill.",
        209,
        EXEC,
    ),
    Directive(
        "calls",
        "RestrictNamespaces",
        "yes",
        "It can make no namespace, the usual first step out of a sandbox.",
        233,
        EXEC,
        cost=0.7,
    ),
    Directive(
        "calls",
        "RestrictRealtime",
        "yes",
        "It can't take the processor for itself.",
        231,
        EXEC,
        cost=0.1,
    ),
    Directive(
        "calls",
        "LockPersonality",
        "yes",
        "The kernel's behaviour towards it can't be changed to an older, weaker one.",
        235,
        EXEC,
    ),
    Directive(
        "calls",
        "MemoryDenyWriteExecute",
        "yes",
        "No memory is both writable and executable, which injected code would need.",
        231,
        EXEC,
        {"jit": None},
    ),
)


def lines(needs: Iterable[str], version: int) -> list[Directive]:
    """Return the rows for a service with `needs`, on systemd `version`, relaxed where needed.

    Each need is a key of NEEDS or one of BEYOND_NEEDS. (A user's own manager can do the rest
    because of PrivateUsers=.) Where two relax the same line, the first in its row decides.
    """
    rows = []
    wanted = set(needs)
    for row in TABLE:
        if row.since > version:
            continue
        values = [value for need, value in row.relaxed.items() if need in wanted]
        if None in values:
            continue
        rows.append(row._replace(value=values[0]) if values else row)  # type: ignore[arg-type]
    return rows


def named(name: str) -> list[Directive]:
    """Return the rows for the directive `name`: none, one, or several for SystemCallFilter."""
    return [row for row in TABLE if row.name == name]


def relaxed(need: str) -> list[str]:
    """Return the lines that relax a whole sandbox for one `need`, to stand after its own.

    need: a key of NEEDS. A list whose lines would be left out is emptied, a switch turned off.
    """
    made = []
    for row in TABLE:
        if need in row.relaxed:
            off = "no" if row.value == "yes" else _OFF.get(row.name, "")
            value = row.relaxed[need]
            made.append(f"{row.name}={off if value is None else value}")
    return [*made, "IPAddressAllow=localhost"] if need == "network-local" else made


_OFF = {"ProcSubset": "all", "ProtectProc": "default"}
"""What turns off a directive that is no switch and no list."""


class Option(NamedTuple):
    """An option of a site that relaxes the sandbox: how it is written, and what it does."""

    key: str
    """In a file of sites; with -- in front on the command line."""
    need: str = ""
    """Of NEEDS, whose lines it relaxes."""
    value: str = ""
    """The word that it always has: local."""
    many: bool = False
    """It takes a value and may be given several times."""
    line: str = ""
    """The line of the unit that it writes; {} is its value."""
    gives: str = ""
    """What a service can do with it, and so an intruder in it."""


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "network": Option(
            "network", "network", gives="it can connect to any machine, and send data there"
        ),
        "network-local": Option(
            *("network", "network-local", "local"),
            gives="it can connect to every TCP service of this host, protected or not",
        ),
        "jit": Option(
            *("jit", "jit"),
            gives="code that an attacker has it write to memory or to a file can be executed",
        ),
        "home": Option("home", "home", gives="it can read what its user may under /home and /root"),
        "control": Option(
            *("control-sockets", "control"),
            gives="it can ask the bus, systemd and container engines to act for it, as root",
        ),
        "proc": Option("proc", "proc", gives="it can read what /proc says of the machine"),
        "device": Option(
            *("device", "device"),
            many=True,
            line="DeviceAllow={} rw",
            gives="it can use the device; the host's /dev is visible",
        ),
        "writable": Option(
            *("writable", ""),
            many=True,
            line="ReadWritePaths={}",
            gives="it can change what is there, and what reads it must not trust it",
        ),
        "allow-syscall": Option(
            *("allow-syscall", ""),
            many=True,
            line="SystemCallFilter={}",
            gives="the kernel's code behind the call can be reached",
        ),
        "join": Option(
            *("join", ""),
            many=True,
            line="SupplementaryGroups={}",
            gives="it can use all that the group may, not this one socket alone",
        ),
        "memory-max": Option(
            "memory-max", line="MemoryMax={}", gives="it can take more of the machine's memory"
        ),
        "tasks-max": Option(
            "tasks-max", line="TasksMax={}", gives="it can start more processes and threads"
        ),
    }
)
"""What relaxes a sandbox, by a name of its own: the options of gen that say so."""


HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""


def below_home(path: str) -> str:
    """Return the name below HOMES that `path` has, itself or where its links on this host lead.

    "" where there is none. A virtual environment's interpreter is a link to the one that has made
    it, which pyenv and uv keep in their user's home.
    """
    for name in (path, os.path.realpath(path)):
        if any(f"{name}/".startswith(f"{home}/") for home in HOMES):
            return name
    return ""
