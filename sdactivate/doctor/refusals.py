"""Find the line of the unit that causes an application's error: what the sandbox refuses.

The kernel returns ordinary error numbers to a sandboxed process, and the application reports those:
"[Errno 97]", "unable to open database file". A row of `TABLE` has the error's text and the
directives that can cause it. It applies if the unit has one of them, explicitly or implied by
DynamicUser= (systemd.exec(5)). So no row applies to a unit without a sandbox.

To add a row, give the text of the exception, the directives, what they refuse, the lines or the
advice that allow only that, and the option of gen and install that does the same.

The functions depend only on the text and the unit.
"""

import posixpath
import re
from collections.abc import Callable
from typing import NamedTuple

from sdactivate.doctor.checks.common import is_dynamic, under
from sdactivate.doctor.finding import Advice, Fix, Lines
from sdactivate.doctor.never_given import commands_the_machine, is_the_system
from sdactivate.errors import UsageError
from sdactivate.sandbox import HOMES
from sdactivate.systemd import escape
from sdactivate.systemd.unitfile import Entry, Unit

_OFF = ("", "no", "false", "off", "0", "n", "f", "default", "all", "infinity", "auto")
_IMPLIED = ("ProtectSystem", "ProtectHome", "PrivateTmp", "RestrictSUIDSGID", "NoNewPrivileges")
"""The directives that DynamicUser=yes turns on."""
_CONTROL = ("/run/dbus", "/run/docker.sock", "/run/systemd", "/var/run/docker.sock")


class Refusal(NamedTuple):
    """A line of the unit that refuses what the application asks for."""

    at: Entry | Unit
    """The line, or the service whose DynamicUser= implies it."""
    directive: str
    what: str
    fix: Fix
    option: str
    """The option of gen and install that does the same, "" if there is none."""


_Relax = Callable[[Unit, str], Fix]


class Row(NamedTuple):
    """An error's text, the directives that cause it, what they refuse, and how to allow it.

    The pattern's group `path` is the file in the error. where: the directories that may contain
    it, () for any.
    """

    pattern: re.Pattern[str]
    directives: tuple[str, ...]
    what: str
    relax: _Relax
    option: str = ""
    where: tuple[str, ...] = ()


def _row(
    pattern: str,
    directives: str,
    what: str,
    relax: _Relax,
    option: str = "",
    where: tuple[str, ...] = (),
) -> Row:
    return Row(re.compile(pattern), tuple(directives.split()), what, relax, option, where)


def _lines(*lines: str) -> _Relax:
    return lambda unit, path: Lines(unit.name, "Service", lines)


def _advice(text: str) -> _Relax:
    def advice(unit: Unit, path: str) -> Fix:
        word = _word(path) or path or "the path"
        return Advice(text.format(path=path or "the path", word=word, name=unit.prefix))

    return advice


def _word(path: str) -> str:
    """Return `path` as written in a list in a unit; "" if that is impossible or not certain.

    Python shows strings as literals: a backslash there means that the real path is different.
    """
    try:
        return "" if "\\" in path else escape.word(path)
    except UsageError:
        return ""


def _writable(unit: Unit, path: str) -> Fix:
    """Suggest its own state directory first: files elsewhere may belong to others."""
    directory = _word(posixpath.dirname(posixpath.normpath(path))) if path.startswith("/") else ""
    if not directory or is_the_system(posixpath.dirname(path)):
        return _advice(
            "configure it to write to its state directory (StateDirectory={name} is "
            "/var/lib/{name}), or set ReadWritePaths= to the directory that it writes to"
        )(unit, path)
    return Lines(unit.name, "Service", (f"ReadWritePaths={directory}",))


def _device(unit: Unit, path: str) -> Fix:
    path = posixpath.normpath(path)
    # Which device a number means is not known here
    unknown = not under(path, "/dev") or under(path, "/dev/char", "/dev/block")
    word = _word(path)
    if unknown or not word or commands_the_machine(path):
        return Advice(
            "access to a disk, the memory or the like gives control of the machine: do what needs "
            "it outside the site. For any other device set DeviceAllow= and PrivateDevices=no"
        )
    return Lines(unit.name, "Service", (f"DeviceAllow={word} rw", "PrivateDevices=no"))


_LOCAL = _lines("RestrictAddressFamilies=AF_INET AF_INET6", "PrivateNetwork=no",
                "IPAddressAllow=localhost")  # fmt: skip
_NETWORK = _advice(
    "if it has to reach other machines, set PrivateNetwork=no, IPAddressDeny= (empty) and "
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
)
_PATH = r"(?:: '(?P<path>[^']{1,4096})')?"

TABLE: tuple[Row, ...] = (
    _row(
        r"\[Errno 97\]|Address family not supported by protocol",
        "RestrictAddressFamilies", "sockets of that address family", _LOCAL, "--network local",
    ),
    _row(
        r"\[Errno 101\]|Network is unreachable",
        "PrivateNetwork", "any network except its own loopback interface", _NETWORK, "--network",
    ),
    _row(
        r"name resolution|Name or service not known|\[Errno -[235]\]|getaddrinfo failed",
        "PrivateNetwork RestrictAddressFamilies IPAddressDeny", "looking up names",
        _NETWORK, "--network",
    ),
    _row(
        r"(?:localhost|127\.0\.0\.1|::1).*(?:\[Errno 111\]|[Cc]onnection refused)"
        r"|(?:\[Errno 111\]|[Cc]onnection refused).*(?:localhost|127\.0\.0\.1|::1)",
        "PrivateNetwork", "the host's loopback interface (the service has its "
                          "own)", _LOCAL, "--network local",
    ),
    _row(
        rf"Read-only file system{_PATH}|\bEROFS\b|attempt to write a readonly database",
        "ProtectSystem ReadOnlyPaths", "writing there", _writable, "--writable PATH",
    ),
    _row(
        r"unable to open database file",
        "ProtectSystem ProtectHome PrivateTmp",
        "opening SQLite's file, or creating the journal beside it",
        _advice(
            "move the database to the state directory (StateDirectory={name} is /var/lib/{name}, "
            "$STATE_DIRECTORY), or set ReadWritePaths= to the database's directory"
        ),
        "--writable PATH",
    ),
    _row(
        r"(?:\[Errno (?:2|13)\]|No such file|Permission denied).*?(?P<path>/(?:home|root|run/user)/"
        r"[^'\"\s:]*)",
        "ProtectHome", "everything below /home, /root and /run/user",
        _advice("set ProtectHome=tmpfs and BindPaths={word} (BindReadOnlyPaths= if it only reads "
                "there), or move {path} to /srv or /opt"),
        "--home", HOMES,
    ),
    _row(
        r"\[Errno 2\] No such file or directory: '(?P<path>/proc/(?!self/|\d)[^']*)'",
        "ProcSubset", "files of /proc that are about the machine", _lines("ProcSubset=all"),
    ),
    _row(
        r"\[Errno (?:1|2|6|13)\] [^:]*: '(?P<path>/dev/[^']*)'",
        "PrivateDevices DevicePolicy", "that device",
        _device, "--device PATH", ("/dev",),
    ),
    _row(
        r"\[Errno (?:2|111)\] [^:]*: '(?P<path>/(?:var/)?tmp/[^']*)'",
        "PrivateTmp", "the /tmp that others see",
        _advice("use a path under /run for both, or set PrivateTmp=no"),
        "", ("/tmp", "/var/tmp"),  # noqa: S108
    ),
    _row(
        r"\[Errno 13\] Permission denied: '(?P<path>/(?:(?:var/)?tmp|dev/shm)/[^']*)'",
        "NoExecPaths", "running what it has written", _advice("set NoExecPaths= to an empty "
                                                              "value"), "--jit",
        ("/tmp", "/var/tmp", "/dev/shm"),  # noqa: S108
    ),
    _row(
        r"(?:Permission denied|Connection refused|No such file).*?(?P<path>/(?:var/)?run/"
        r"(?:dbus|docker\.sock|systemd)[^'\"\s:]*)",
        "InaccessiblePaths TemporaryFileSystem", "sockets that control the machine",
        _advice("if it has to control systemd or containers, set InaccessiblePaths= to an empty "
                "value"),
        "--control-sockets", _CONTROL,
    ),
    _row(
        r"failed to map segment|cannot (?:enable executable|apply additional memory)|"
        r"write.?execute|[Ww]\^[Xx]|LLVM ERROR: .*(?:memory|permission)",
        "MemoryDenyWriteExecute", "memory that is writable and executable",
        _lines("MemoryDenyWriteExecute=no"), "--jit",
    ),
    _row(
        r"can't start new thread|\[Errno 11\] Resource temporarily unavailable",
        "TasksMax LimitNPROC", "more processes and threads",
        _advice("set a larger TasksMax="), "--tasks-max",
    ),
    _row(
        r"\[Errno 24\]|Too many open files", "LimitNOFILE", "more open files",
        _advice("set a larger LimitNOFILE=, or find out which files stay open"),
    ),
    _row(
        r"\[Errno 12\]|Cannot allocate memory|^MemoryError", "MemoryMax LimitAS", "more memory",
        _advice("set a larger MemoryMax="), "--memory-max",
    ),
    _row(
        r"\[Errno 1\] Operation not permitted|Bad system call",
        "SystemCallFilter IPAddressDeny RestrictSUIDSGID RestrictNamespaces CapabilityBoundingSet",
        "a system call or an address",
        _advice(
            "find the call (strace -f -p MAINPID -e status=failed), then set SystemCallFilter=THE "
            "CALL"
        ),
        "--allow-syscall NAME",
    ),
)  # fmt: skip
"""The first row that matches, and of whose directives the unit has one, is used."""


def refusal(text: str, unit: Unit) -> Refusal | None:
    """Return the line of `unit` that causes the error `text`, None if none does."""
    for row in TABLE:
        if not (found := row.pattern.search(text)):
            continue
        path = found.groupdict().get("path") or ""
        if row.where and not under(path, *row.where):
            continue
        for directive in row.directives:
            if (at := _at(unit, directive)) is not None:
                return Refusal(at, directive, row.what, row.relax(unit, path), row.option)
    return None


def _at(unit: Unit, directive: str) -> Entry | Unit | None:
    """Return the line that turns a directive on; the unit, if DynamicUser= implies it."""
    entries = [it for it in unit.entries if (it.section, it.key) == ("Service", directive)]
    if entries:
        return None if entries[-1].value.lower() in _OFF else entries[-1]
    return unit if is_dynamic(unit) and directive in _IMPLIED else None
