"""The table of hardening lines: each with its reason, its exposure points and what relaxes it.

A service that only needs an inherited socket can do without nearly everything else, and each row
removes one thing. It names the line of the unit, the reason, the first version of systemd that
knows it, and the *need* of a site that relaxes it. With all rows `systemd-analyze security` reports
0.2.
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
        "control": "the system bus, and the sockets that control systemd or a container engine",
        "proc": "what /proc shows of the machine: memory, processors, load",
        "peer-ids": "the peers' users and groups (SO_PEERCRED)",
        "peer-proc": "the peers' entries in /proc",
    }
)
"""What a site may need beyond its socket and its own directories. Each need relaxes only the lines
that prevent it."""

TOPICS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "A user of its own, without privileges or a way to get any.",
        "files": "It can write only to its own directories, and others can't read what it writes.",
        "control": "It can't reach sockets that control the machine.",
        "network": "No network. None of these lines affects the inherited socket.",
        "kernel": "It can't see the kernel's settings or other processes.",
        "calls": "Only the system calls that a service needs, none that manage the machine.",
    }
)
"""The groups of lines, in their order in the unit, each with its comment."""


BEYOND_NEEDS = ("run-as", "own", "listens")
"""What relaxes lines besides a site's needs: a user that the administrator chose; a user's own
service manager, which can't create users; a service that creates listening sockets itself, such as
another server or a command of manage.py."""


class Directive(NamedTuple):
    """One line of the sandbox."""

    topic: str
    name: str
    value: str
    """The value as written in the unit; "" empties a list."""
    why: str
    """What the line removes, in one sentence."""
    since: int
    """The first version of systemd that knows the directive with this value."""
    source: str
    relaxed: Mapping[str, str | None] = MappingProxyType({})
    """For each need, the relaxed value; None: the line is left out."""
    cost: float = 0.0
    """Exposure points, of 10, that `systemd-analyze security` of systemd 252 adds, rounded, if only
    this directive is left out. Of several rows with one name, the first one has them."""

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
"""The system bus, and the sockets that start containers and machines; "-": if it exists."""

TABLE: tuple[Directive, ...] = (
    Directive(
        "identity",
        "DynamicUser",
        "yes",
        "The user exists only while the service runs, and owns nothing else on the machine.",
        235,
        EXEC,
        {"run-as": None, "own": None},
    ),
    Directive(
        "identity",
        "NoNewPrivileges",
        "yes",
        "Programs that it starts gain no privileges: setuid bits and file capabilities are "
        "ignored.",
        187,
        EXEC,
    ),
    Directive(
        "identity",
        "CapabilityBoundingSet",
        "",
        "No process in it can get a capability, not even as root.",
        21,
        EXEC,
        cost=1.7,
    ),
    Directive(
        "identity",
        "AmbientCapabilities",
        "",
        "The process starts without capabilities.",
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
        "It can't create setuid or setgid files.",
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
        "Other users can't read the files that it creates.",
        21,
        EXEC,
    ),
    Directive(
        "files",
        "ProtectSystem",
        "strict",
        "The whole file system is read-only, except its own directories.",
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
        "/tmp and /var/tmp are private, and removed when it stops.",  # noqa: S108 - a sentence
        21,
        EXEC,
    ),
    Directive(
        "files",
        "PrivateDevices",
        "yes",
        "/dev has only pseudo devices: null, zero, full, random, urandom, tty.",
        209,
        EXEC,
        {"device": None},
        cost=0.2,
    ),
    Directive(
        "files",
        "DevicePolicy",
        "closed",
        "The kernel refuses to open any device except the pseudo devices.",
        208,
        RESOURCES,
    ),
    Directive(
        "files",
        "PrivateMounts",
        "yes",
        "Mounts made inside are not visible outside.",
        239,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "files",
        "NoExecPaths",
        "-/tmp -/var/tmp -/dev/shm",
        "Files that it has written can't be executed.",
        248,
        EXEC,
        {"jit": None},
    ),
    Directive(
        "control",
        "InaccessiblePaths",
        ENGINES,
        "The system bus and container engines can't be reached: they run things as root for "
        "callers.",
        231,
        EXEC,
        {"control": None, "own": f"{ENGINES} -%t/bus -%t/systemd/private"},
    ),
    Directive(
        "control",
        "TemporaryFileSystem",
        "/run/systemd:ro /run/systemd/system:ro",
        "systemd's own sockets and files are hidden ...",
        238,
        EXEC,
        {"control": None},
    ),
    Directive(
        "control",
        "BindReadOnlyPaths",
        "-/run/systemd/notify -/run/systemd/journal -/run/systemd/userdb",
        "... except those for readiness, logging and user names.",
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
        "It has only a loopback interface, and one of its own.",
        33,
        EXEC,
        {"network": None, "network-local": None},
        cost=0.4,
    ),
    Directive(
        "network",
        "RestrictAddressFamilies",
        "AF_UNIX",
        "It can create only unix sockets: connect to databases and mail servers by these.",
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
        "The kernel drops every IP packet of the sockets that it creates.",
        235,
        RESOURCES,
        {"network": None},
        cost=0.2,
    ),
    Directive(
        "network",
        "SocketBindDeny",
        "any",
        "It can't listen on a port (if systemd is built with BPF): the socket unit does that.",
        249,
        RESOURCES,
    ),
    Directive(
        "network",
        "PrivateIPC",
        "yes",
        "System V IPC and POSIX message queues are private.",
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
        "It can't change the host name.",
        242,
        EXEC,
    ),
    Directive(
        "kernel",
        "ProtectKernelLogs",
        "yes",
        "It can't read the kernel log, whose addresses help an attacker.",
        244,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProtectKernelModules",
        "yes",
        "It can't load kernel modules.",
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
        "Other users' processes are hidden in /proc.",
        247,
        EXEC,
        {"peer-proc": None},
        cost=0.2,
    ),
    Directive(
        "kernel",
        "ProcSubset",
        "pid",
        "/proc shows only processes, nothing about the machine.",
        247,
        EXEC,
        {"proc": None},
    ),
    Directive(
        "calls",
        "SystemCallArchitectures",
        "native",
        "System calls of other architectures, which could bypass the filter, are refused.",
        209,
        EXEC,
        cost=0.2,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "@system-service",
        "Only the system calls that services usually make are allowed ...",
        239,
        EXEC,
        cost=1.6,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "~@privileged @resources",
        "... except those that change privileges, priorities or limits.",
        239,
        EXEC,
    ),
    Directive(
        "calls",
        "SystemCallFilter",
        "~listen @keyring",
        "It can't change the backlog of the inherited socket, or use kernel keyrings.",
        239,
        EXEC,
        {"listens": "~@keyring"},
    ),
    Directive(
        "calls",
        "SystemCallErrorNumber",
        "EPERM",
        "A refused system call fails with an error that the program can handle, instead of "
        "killing it.",
        209,
        EXEC,
    ),
    Directive(
        "calls",
        "RestrictNamespaces",
        "yes",
        "It can't create namespaces, the usual first step out of a sandbox.",
        233,
        EXEC,
        cost=0.7,
    ),
    Directive(
        "calls",
        "RestrictRealtime",
        "yes",
        "It can't get realtime scheduling, which could take the whole processor.",
        231,
        EXEC,
        cost=0.1,
    ),
    Directive(
        "calls",
        "LockPersonality",
        "yes",
        "It can't switch the kernel to an older, weaker execution domain.",
        235,
        EXEC,
    ),
    Directive(
        "calls",
        "MemoryDenyWriteExecute",
        "yes",
        "Memory can't be both writable and executable, which injected code would need.",
        231,
        EXEC,
        {"jit": None},
    ),
)


def lines(needs: Iterable[str], version: int) -> list[Directive]:
    """Return the rows for a service with `needs`, on systemd `version`, relaxed where needed.

    Each need is a key of NEEDS or one of BEYOND_NEEDS. (A user's own manager can apply the rest
    because of PrivateUsers=.) If two needs relax the same line, the first one in its row decides.
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
    """Return the rows for the directive `name`: none, one, or for SystemCallFilter several."""
    return [row for row in TABLE if row.name == name]


def relaxed(need: str) -> list[str]:
    """Return the lines that relax a complete sandbox for one `need`, to be appended to it.

    need: a key of NEEDS. Instead of leaving lines out, they empty a list or turn a switch off.
    """
    made = []
    for row in TABLE:
        if need in row.relaxed:
            off = "no" if row.value == "yes" else _OFF.get(row.name, "")
            value = row.relaxed[need]
            made.append(f"{row.name}={off if value is None else value}")
    return [*made, "IPAddressAllow=localhost"] if need == "network-local" else made


_OFF = {"ProcSubset": "all", "ProtectProc": "default"}
"""The values that turn off a directive that is neither a switch nor a list."""


class Option(NamedTuple):
    """An option of a site that relaxes the sandbox: its form, and its effect."""

    key: str
    """Its key in a sites file; on the command line with -- in front."""
    need: str = ""
    """The key of NEEDS whose lines it relaxes."""
    value: str = ""
    """Its fixed value, such as local."""
    many: bool = False
    """Whether it takes a value and may be given several times."""
    line: str = ""
    """The line that it adds to the unit; {} stands for its value."""
    gives: str = ""
    """What the service can do with it, and so an attacker who controls the service."""


OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "network": Option(
            "network", "network", gives="it can connect to every machine, and send data there"
        ),
        "network-local": Option(
            *("network", "network-local", "local"),
            gives="it can connect to every TCP service of this host, protected or not",
        ),
        "jit": Option(
            *("jit", "jit"),
            gives="an attacker can have it execute code that it has written to memory or to a file",
        ),
        "home": Option(
            "home", "home", gives="it can read all that its user may read under /home and /root"
        ),
        "control": Option(
            *("control-sockets", "control"),
            gives="it can have the bus, systemd and container engines act for it as root",
        ),
        "proc": Option("proc", "proc", gives="it can read what /proc shows of the machine"),
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
            gives="it can change files there, so programs that read them must not trust them",
        ),
        "allow-syscall": Option(
            *("allow-syscall", ""),
            many=True,
            line="SystemCallFilter={}",
            gives="it can reach the kernel code behind the system call",
        ),
        "join": Option(
            *("join", ""),
            many=True,
            line="SupplementaryGroups={}",
            gives="it can use everything that the group may use, not only this socket",
        ),
        "memory-max": Option(
            "memory-max", line="MemoryMax={}", gives="it can take more of the machine's memory"
        ),
        "tasks-max": Option(
            "tasks-max", line="TasksMax={}", gives="it can start more processes and threads"
        ),
    }
)
"""The options of gen that relax the sandbox, each with a name for reference."""


HOMES = ("/home", "/root", "/run/user")
"""The directories that ProtectHome= hides."""


def below_home(path: str) -> str:
    """Return the path below HOMES that `path` is, or that it resolves to on this host.

    "" if neither is below HOMES. A virtual environment's interpreter is a link to the one that
    created it, which pyenv and uv keep in the user's home directory.
    """
    for name in (path, os.path.realpath(path)):
        if any(f"{name}/".startswith(f"{home}/") for home in HOMES):
            return name
    return ""
