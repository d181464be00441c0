"""Parse values: modes, listen addresses, paths, variables, memory and CPU limits.

The generator's options, the launcher's options and the fields of a `Site` are parsed by the same
functions. Each takes text, returns its value, and raises UsageError, which quotes the text and says
what is allowed. Names whose grammar systemd defines are in `systemd`.
"""

import re
from typing import Literal, NamedTuple

from sdactivate import app_name
from sdactivate.errors import UsageError
from sdactivate.settings import PREFIX
from sdactivate.systemd import escape, names

PATH_MAX = 107
"""Bytes of a unix socket's address, without the NUL that ends it: unix(7)."""

# --- modes ----------------------------------------------------------------------------------

_OCTAL = re.compile("0?[0-7]{3}")
_CLAUSE = re.compile("([ugoa]+)=([rwx]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse_mode(text: str) -> int:
    """Return the permission bits that `text` names: "0660", "660" or "u=rw,g=rw,o=".

    The symbolic form is chmod(1)'s, with "=" only, since a new socket has no bits to change. A
    class that is not named gets no bits.

    Raises UsageError for setuid, setgid and sticky bits (they mean nothing on a socket), for
    "+" and "-", and for anything unreadable.
    """
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    mode = 0
    seen = ""
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        who = found[1].replace("a", "ugo") if found else ""
        if not found or any(seen.count(one) + who.count(one) > 1 for one in who):
            raise UsageError(
                f"{text!r}: a mode is octal, such as 0660, or symbolic, such as u=rw,g=rw,o= ; "
                "setuid, setgid and sticky bits, '+' and '-' can't be used for a socket"
            )
        seen += who
        for one in who:
            mode |= sum(_BITS[bit] for bit in set(found[2])) << _SHIFT[one]
    return mode


# --- listen addresses -----------------------------------------------------------------------

Family = Literal["unix", "abstract", "inet", "inet6", "vsock"]


class ListenAddress(NamedTuple):
    """A listen address. `str()` returns the form of ListenStream=: systemd.socket(5)."""

    family: Family
    host: str
    """The path of a unix socket, the name of an abstract one without "@", the IP address, or the
    CID, which is empty for any."""
    port: int = 0
    """The port of inet, inet6 and vsock; 0 otherwise."""
    name: str = ""
    """The descriptor's name (LISTEN_FDNAMES); empty: the site's."""

    def __str__(self) -> str:
        match self.family:
            case "unix":
                return self.host
            case "abstract":
                return f"@{self.host}"
            case "inet":
                return f"{self.host}:{self.port}"
            case "inet6":
                return f"[{self.host}]:{self.port}"
            case "vsock":
                return f"vsock:{self.host}:{self.port}"

    @property
    def path(self) -> str:
        """The path of a unix socket that is a file; empty for every other address."""
        return self.host if self.family == "unix" else ""


_NAMED = re.compile(r"([^/@\[=:]+)=(.*)", re.DOTALL)
_INET = re.compile(r"\[(?P<v6>[^\]]*)\]:(?P<port6>\d+)|(?P<v4>[^:]*):(?P<port4>\d+)", re.ASCII)
_VSOCK = re.compile(r"vsock:(?P<cid>\d*):(?P<port>\d+)", re.ASCII)


def parse_listen(text: str) -> ListenAddress:
    """Return the listen address in `text`.

    It is an absolute path (at most 107 bytes), "@abstract", "192.0.2.1:8000", "[::1]:8000" or
    "vsock:CID:PORT" (an empty CID: any). "localhost" is 127.0.0.1; other host names are not
    resolved, as in systemd. The name of the descriptor may come first:
    "admin=/run/mysite-admin.sock".

    Raises UsageError for anything else, and for a path with "." or ".." in it.
    """
    if (named := _NAMED.fullmatch(text)) and not _NAMED.fullmatch(named[2]):
        return parse_listen(named[2])._replace(name=descriptor_name(named[1]))
    if text.startswith(("/", "@")):
        return _parse_unix(text)
    if found := _VSOCK.fullmatch(text):
        if (cid := int(found["cid"] or 0)) < 1 << 32 and 0 < (port := int(found["port"])) < 1 << 32:
            return ListenAddress("vsock", str(cid) if found["cid"] else "", port)
    elif (found := _INET.fullmatch(text)) and (address := _parse_inet(found)):
        return address
    raise UsageError(
        f"{text!r}: a listen address is an absolute path, @abstract, 127.0.0.1:8000, "
        f"[::1]:8000 or vsock:CID:PORT; host names are not looked up"
    )


def _parse_inet(found: re.Match[str]) -> ListenAddress | None:
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    port = int(found["port4"] or found["port6"])
    if not 0 < port < 1 << 16:
        return None
    try:
        if found["v6"] is None:
            host = "127.0.0.1" if found["v4"] == "localhost" else found["v4"]
            return ListenAddress("inet", str(IPv4Address(host)), port)
        # Not with a zone, such as fe80::1%eth0: the interface would have to exist at boot
        if "%" not in found["v6"]:
            return ListenAddress("inet6", str(IPv6Address(found["v6"])), port)
    except AddressValueError:
        pass
    return None


def _parse_unix(text: str) -> ListenAddress:
    escape.one_line(text)
    if len(text.encode()) > PATH_MAX:
        raise UsageError(f"{text!r}: a unix socket's address has at most {PATH_MAX} bytes: unix(7)")
    if text.startswith("@"):
        if text == "@":
            raise UsageError("'@': an abstract socket needs a name, such as @mysite")
        return ListenAddress("abstract", text[1:])
    if text.endswith("/"):
        raise UsageError(f"{text!r}: this names a directory; end it with the socket's file name")
    return ListenAddress("unix", absolute_path(text))


_DESCRIPTOR = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def descriptor_name(text: str) -> str:
    """Return `text` if it can name a file descriptor and be a part of a socket unit's name.

    Raises UsageError otherwise.
    """
    if not _DESCRIPTOR.fullmatch(text):
        raise UsageError(
            f"{text!r}: a descriptor's name has at most 64 letters, digits, '-', '_' and '.'"
        )
    return text


# --- paths, applications --------------------------------------------------------------------


def absolute_path(text: str) -> str:
    """Return `text`, an absolute path, without doubled or trailing slashes.

    Raises UsageError for a relative path, for "." and ".." (paths in units are compared as text),
    for a component over 255 bytes or a path over 4095, and for characters that a unit file can't
    contain.
    """
    escape.one_line(text)
    parts = [part for part in text.split("/") if part]
    if not text.startswith("/") or any(part in (".", "..") for part in parts):
        raise UsageError(f"{text!r} is not an absolute path without '.' and '..'")
    path = "/" + "/".join(parts)
    if len(path.encode()) > 4095 or any(len(part.encode()) > 255 for part in parts):
        raise UsageError(
            f"{text!r}: the path is too long for the kernel: at most 255 bytes a name, 4095 in all"
        )
    return escape.one_line(path)


def device_node(text: str) -> str:
    """Return `text`, the path of a device under /dev: systemd.resource-control(5), DeviceAllow=.

    Raises UsageError for any other path.
    """
    if not (path := absolute_path(text)).startswith("/dev/"):
        raise UsageError(f"{text!r}: not a path under /dev")
    return path


def system_call(text: str) -> str:
    """Return `text`, a system call or a group (@NAME): systemd.exec(5), SystemCallFilter=.

    Raises UsageError if it can't be such a name.
    """
    if not re.fullmatch("@?[a-z0-9_-]{1,64}", text):
        raise UsageError(
            f"{text!r} is not the name of a system call, such as listen, or of a group, such as "
            "@keyring; `systemd-analyze syscall-filter` lists the groups"
        )
    return text


def program(text: str) -> str:
    """Return `text`, the absolute path of a program that ExecStart= can name.

    Raises UsageError otherwise; see `escape.program`.
    """
    return escape.program(absolute_path(text))


def application(text: str) -> str:
    """Return the application that `text` names in its longest form: "mysite.wsgi:application".

    Raises UsageError as `app_name.parse` does.
    """
    return str(app_name.parse(text))


_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def variable(text: str) -> tuple[str, str]:
    """Return the name and the value of `text`, "NAME=VALUE", for the environment.

    Raises UsageError for an invalid name, for a name that begins with SDACTIVATE_ (use the option
    instead), for LISTEN_… and NOTIFY_SOCKET (systemd sets them), and for control characters in the
    value.
    """
    name, equals, value = text.partition("=")
    if not (equals and _VARIABLE.fullmatch(name)):
        raise UsageError(f"{text!r}: a variable is NAME=VALUE; a name has letters, digits and '_'")
    if name.startswith(PREFIX):
        option = "--" + name[len(PREFIX) :].lower().replace("_", "-")
        raise UsageError(f"{text!r}: the runtime's settings are options; did you mean {option}?")
    if name.startswith("LISTEN_") or name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        raise UsageError(f"{text!r}: systemd sets {name} itself; leave it out")
    escape.word(value)
    return name, value


_CREDENTIAL = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")


def credential(text: str) -> tuple[str, str]:
    """Return the name and the path of `text`, "NAME=PATH": systemd.exec(5), LoadCredential=.

    Raises UsageError for a name that can't be a file name and for a path that is not absolute.
    """
    name, equals, path = text.partition("=")
    if not (equals and _CREDENTIAL.fullmatch(name)):
        raise UsageError(
            f"{text!r}: a credential is NAME=PATH; a name has letters, digits, '-', '_' and '.'"
        )
    return name, absolute_path(path)


def shell_words(text: str) -> tuple[str, ...]:
    """Split `text` into words. Quotes work as in a shell; nothing else of the shell's syntax does.

    Raises UsageError for an unclosed quote.
    """
    import shlex  # takes longer to import than most commands run

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None


_MEMORY = re.compile("[1-9][0-9]{0,15}[KMGT]?|(?:[1-9][0-9]?|100)%")


LOCAL = "local"
"""The value of --network that allows TCP to this host only."""


def network(text: str) -> str:
    """Return `text`, the value of --network: "local", TCP to this host only.

    Raises UsageError for anything else. Without a value, --network allows every machine.
    """
    if text != LOCAL:
        raise UsageError(
            f"{text!r}: give {LOCAL} for TCP to this host only, or no value for every machine (in "
            "a file: true); put NAME before the options"
        )
    return text


def joined(text: str) -> str:
    """Return `text` if it names a group that a site may be in: systemd.exec(5).

    Raises UsageError for root's group, whose members could write files of root.
    """
    if text in ("root", "0"):
        raise UsageError(f"{text!r}: a site must not be in root's group; name another group")
    return names.account(text)


def memory(text: str) -> str:
    """Return `text`, a limit for MemoryMax=: bytes, with K, M, G or T, or a percentage.

    Raises UsageError for anything else.
    """
    if not _MEMORY.fullmatch(text):
        raise UsageError(f"{text!r}: not an amount of memory, such as 512M, 2G or 25%")
    return text


def cpu_quota(text: str) -> str:
    """Return `text`, a limit for CPUQuota=: a percentage of one processor.

    Raises UsageError for anything else.
    """
    if not re.fullmatch("[1-9][0-9]{0,5}%", text):
        raise UsageError(
            f"{text!r}: not a percentage of processor time, such as 50%; 200% is two processors"
        )
    return text


def tasks(text: str) -> str:
    """Return `text`, a limit for TasksMax=: a number of processes and threads.

    Raises UsageError for anything else.
    """
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise UsageError(f"{text!r} is not a number of processes and threads of at least 1")
    return text
