"""Site: the one validated description of a deployed application, shared by every wing.

The generator writes it as units, the launcher opens its sockets, the fronts point at them, the
doctor compares it with what runs. So the grammar of each value is here, once: names (systemd's),
users and groups, modes, listen addresses, paths, applications. Every function takes what a
person wrote, returns what it means, and raises UsageError with the value and what is allowed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, NamedTuple

from sdactivate import settings as runtime
from sdactivate import systemd
from sdactivate.errors import UsageError

PATH_MAX = 107
"""Bytes of a unix socket's address, without the NUL that ends it: unix(7)."""

# --- modes ----------------------------------------------------------------------------------

_OCTAL = re.compile("0?[0-7]{3}")
_CLAUSE = re.compile("([ugoa]+)=([rwx]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse_mode(text: str) -> int:
    """Return the permission bits that `text` names: "0660", "660" or "u=rw,g=rw,o=".

    The symbolic form is chmod(1)'s with "=" only: a socket that is yet to be made has no bits
    to add to or to take from. Whoever it does not name gets nothing.

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
                f"{text!r}: a mode is octal such as 0660, or u=rw,g=rw,o= ; "
                f"setuid, setgid and sticky bits, '+' and '-' mean nothing on a socket"
            )
        seen += who
        for one in who:
            mode |= sum(_BITS[bit] for bit in set(found[2])) << _SHIFT[one]
    return mode


# --- listen addresses -----------------------------------------------------------------------

Family = Literal["unix", "abstract", "inet", "inet6", "vsock"]


class ListenAddress(NamedTuple):
    """Where a site is reached. `str()` of it is how ListenStream= takes it: systemd.socket(5)."""

    family: Family
    host: str
    """The path of a unix socket; the name of an abstract one, without "@"; the IP address; the
    CID, which may be empty for any."""
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
        """The path of a unix socket in the file system; empty for every other address."""
        return self.host if self.family == "unix" else ""


_NAMED = re.compile(r"([^/@\[=:]+)=(.*)", re.DOTALL)
_INET = re.compile(r"\[(?P<v6>[^\]]*)\]:(?P<port6>\d+)|(?P<v4>[^:]*):(?P<port4>\d+)", re.ASCII)
_VSOCK = re.compile(r"vsock:(?P<cid>\d*):(?P<port>\d+)", re.ASCII)


def parse_listen(text: str) -> ListenAddress:
    """Return the address that `text` names.

    It is an absolute path (at most 107 bytes), "@abstract", "192.0.2.1:8000", "[::1]:8000" or
    "vsock:CID:PORT" (an empty CID: any). "localhost" is 127.0.0.1; other host names are not
    looked up, as systemd looks up none. In front of it may stand the name of the descriptor:
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
        if "%" not in found["v6"]:  # a zone: fe80::1%eth0 would need the interface at boot
            return ListenAddress("inet6", str(IPv6Address(found["v6"])), port)
    except AddressValueError:
        pass
    return None


def _parse_unix(text: str) -> ListenAddress:
    systemd.one_line(text)
    if len(text.encode()) > PATH_MAX:
        raise UsageError(f"{text!r}: a unix socket's address has at most {PATH_MAX} bytes: unix(7)")
    if text.startswith("@"):
        if text == "@":
            raise UsageError("'@': an abstract socket has a name, such as @mysite")
        return ListenAddress("abstract", text[1:])
    if text.endswith("/"):
        raise UsageError(f"{text!r}: this is a directory; a socket's path ends with its name")
    return ListenAddress("unix", absolute_path(text))


_DESCRIPTOR = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def descriptor_name(text: str) -> str:
    """Return `text` if it can name a descriptor and a part of a socket unit's name.

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

    Raises UsageError for a relative path, for "." and ".." (a unit's directories are compared
    by their names), for a component over 255 bytes or a path over 4095, and for what no line of
    a unit can hold.
    """
    systemd.one_line(text)
    parts = [part for part in text.split("/") if part]
    if not text.startswith("/") or any(part in (".", "..") for part in parts):
        raise UsageError(f"{text!r}: an absolute path without '.' and '..' is wanted")
    path = "/" + "/".join(parts)
    if len(path.encode()) > 4095 or any(len(part.encode()) > 255 for part in parts):
        raise UsageError(f"{text!r}: the kernel takes no path as long as this")
    return systemd.one_line(path)


def device_node(text: str) -> str:
    """Return `text`, the path of a device under /dev: systemd.resource-control(5), DeviceAllow=.

    Raises UsageError for any other path.
    """
    if not (path := absolute_path(text)).startswith("/dev/"):
        raise UsageError(f"{text!r}: a device is named by its path under /dev")
    return path


def program(text: str) -> str:
    """Return `text`, the absolute path of a program that ExecStart= can name.

    Raises UsageError otherwise; see `systemd.program`.
    """
    return systemd.program(absolute_path(text))


_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def application(text: str) -> str:
    """Return `text` if it names an application: "mysite.wsgi:application".

    Raises UsageError for anything but dotted identifiers around one colon.
    """
    module, colon, name = text.partition(":")
    if not (colon and _DOTTED.fullmatch(module) and _DOTTED.fullmatch(name)):
        raise UsageError(
            f"{text!r}: an application is MODULE:NAME, such as mysite.wsgi:application"
        )
    return text


_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def variable(text: str) -> tuple[str, str]:
    """Return the name and the value of `text`, "NAME=VALUE", for the environment.

    Raises UsageError for a name that is no variable's, for a name that begins with SDACTIVATE_
    (the option is the one way), for LISTEN_… and NOTIFY_SOCKET (systemd's to set), and for
    control characters in the value.
    """
    name, equals, value = text.partition("=")
    if not (equals and _VARIABLE.fullmatch(name)):
        raise UsageError(f"{text!r}: a variable is NAME=VALUE; a name has letters, digits and '_'")
    if name.startswith(runtime.PREFIX):
        option = "--" + name[len(runtime.PREFIX) :].lower().replace("_", "-")
        raise UsageError(f"{text!r}: the runtime's settings are options; is {option} meant?")
    if name.startswith("LISTEN_") or name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        raise UsageError(f"{text!r}: {name} is systemd's to set")
    systemd.word(value)
    return name, value


_CREDENTIAL = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")


def credential(text: str) -> tuple[str, str]:
    """Return the name and the path of `text`, "NAME=PATH": systemd.exec(5), LoadCredential=.

    Raises UsageError for a name that no file could have and for a path that is not absolute.
    """
    name, equals, path = text.partition("=")
    if not (equals and _CREDENTIAL.fullmatch(name)):
        raise UsageError(
            f"{text!r}: a credential is NAME=PATH; a name has letters, digits, '-', '_' and '.'"
        )
    return name, absolute_path(path)


_MEMORY = re.compile("[1-9][0-9]{0,15}[KMGT]?|(?:[1-9][0-9]?|100)%")


def memory(text: str) -> str:
    """Return `text`, a limit for MemoryMax=: bytes, with K, M, G or T, or a percentage.

    Raises UsageError for anything else.
    """
    if not _MEMORY.fullmatch(text):
        raise UsageError(f"{text!r}: an amount of memory is bytes such as 512M or 2G, or 25%")
    return text


def cpu_quota(text: str) -> str:
    """Return `text`, a limit for CPUQuota=: a percentage of one processor.

    Raises UsageError for anything else.
    """
    if not re.fullmatch("[1-9][0-9]{0,5}%", text):
        raise UsageError(f"{text!r}: processor time is a percentage such as 50%; 200% is two")
    return text


def tasks(text: str) -> str:
    """Return `text`, a limit for TasksMax=: a number of processes and threads.

    Raises UsageError for anything else.
    """
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise UsageError(f"{text!r}: a number of processes and threads, one or more, is wanted")
    return text


# Narrower than the grammar of accounts: systemd makes no dynamic user of another name.
_DYNAMIC = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,30}")

# --- the site -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """One deployed application, valid as it stands.

    Only `name` is always needed. A value that can't be meant raises UsageError, which names the
    field, the value and what is allowed; so does a combination that can't work.
    """

    name: str
    """What its units, descriptor and directories are called; see `systemd.unit_name`."""

    # the socket
    listen: tuple[ListenAddress, ...] = ()
    """Where it is reached; nothing: /run/NAME.sock, whose parent is root's and never goes away."""
    user: str = "root"
    """The owner of the sockets in the file system."""
    group: str = "root"
    """Their group: whoever may connect is in it."""
    mode: int = 0o660
    """Their permission bits. connect() needs write permission: unix(7)."""

    # the service
    app: str = ""
    """MODULE:NAME of the WSGI application."""
    chdir: str = ""
    """The working directory, from which the application is imported."""
    python: str = ""
    """The interpreter, by its absolute path; that of a virtual environment as a rule."""
    run_as: str = ""
    """The user it runs as; nothing: a dynamic one, which exists only while it runs."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables of its environment."""
    env_file: tuple[str, ...] = ()
    """Files of variables, read by systemd as root."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The runtime's settings (`sdactivate.settings`), by name, as text. Only these are written."""

    # what it needs beyond its socket and its own directories: `sdactivate.directives`
    network: bool = False
    """Connections to other machines."""
    jit: bool = False
    """Memory that is both writable and executable: JIT compilers, some ctypes callbacks."""
    home: bool = False
    """To read what lies under /home, /root or /run/user."""
    writable: tuple[str, ...] = ()
    """Paths that it may write to besides its state and cache directories."""
    device: tuple[str, ...] = ()
    """Device nodes that it may use."""

    # what it is given
    credential: tuple[tuple[str, str], ...] = ()
    """Name and path of secrets, which it finds under $CREDENTIALS_DIRECTORY."""
    encrypted_credential: tuple[tuple[str, str], ...] = ()
    """The same, of files that systemd-creds(1) has encrypted."""
    memory_max: str = ""
    """Bytes, with K, M, G or T, or a percentage: more than that, and the kernel kills it."""
    cpu_quota: str = ""
    """A percentage of one processor; 200% is two."""
    tasks_max: str = ""
    """Processes and threads."""

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one != "":
                    _checked(name, check, one)
        if not self.name:
            _checked("name", systemd.unit_name, self.name)
        if not 0 <= self.mode <= 0o777:
            raise UsageError(f"mode={self.mode:#o}: a socket's mode is between 0 and 0o777")
        if self.run_as in ("root", "0"):
            raise UsageError(
                "run_as='root': root can change every socket; name a user without privileges, "
                "or none for a dynamic one"
            )
        for name, value in self.env:
            _checked("env", variable, f"{name}={value}")
        for name, path in (*self.credential, *self.encrypted_credential):
            _checked("credential", credential, f"{name}={path}")
        for name, text in self.settings.items():
            if name not in runtime.BY_NAME:
                raise UsageError(f"settings: there is no setting {name!r}")
            runtime.BY_NAME[name].parse(text, f"settings: {name}")
            _checked("settings", systemd.word, text)
        credentials = (*self.credential, *self.encrypted_credential)
        for what, values in (
            ("env: the variable", [name for name, _ in self.env]),
            ("credential: the name", [name for name, _ in credentials]),
            ("listen: the name", [address.name for address in self.addresses if address.name]),
            ("listen: the address", [str(address) for address in self.addresses]),
        ):
            if twice := [value for value in values if values.count(value) > 1]:
                raise UsageError(f"{what} {twice[0]!r} is given twice")
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    @cached_property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where the site is reached: what was asked for, or else /run/NAME.sock."""
        return self.listen or (parse_listen(f"/run/{self.name}.sock"),)

    @property
    def socket_units(self) -> dict[str, list[ListenAddress]]:
        """The socket units, by name without the suffix, with the addresses of each.

        A unit's descriptors all have one name (FileDescriptorName=), so that an address with a
        name of its own gets a unit of its own: admin=/run/x.sock is in NAME-admin.socket.
        """
        units: dict[str, list[ListenAddress]] = {}
        for address in self.addresses:
            own = address.name and address.name != self.name
            units.setdefault(f"{self.name}-{address.name}" if own else self.name, []).append(
                address
            )
        return units

    @property
    def service_user(self) -> str:
        """The user that the service runs as: run_as, or the name of the dynamic one.

        A dynamic user needs a name that no group has (systemd refuses to make it otherwise), so
        that a site whose sockets belong to a group of the site's own name has NAME-app.
        """
        if self.run_as:
            return self.run_as
        user = f"{self.name}-app" if self.group == self.name else self.name
        if _DYNAMIC.fullmatch(user):
            return user
        from hashlib import sha256

        return f"site-{sha256(self.name.encode()).hexdigest()[:16]}"

    @property
    def path(self) -> str:
        """The path of its first unix socket in the file system; empty if it has none."""
        return next((address.path for address in self.addresses if address.path), "")


def _check_address(address: ListenAddress) -> None:
    text = f"{address.name}={address}" if address.name else str(address)
    if parse_listen(text) != address:
        raise UsageError(f"{text!r}: this address is not what parse_listen would make of it")
    if address.path.startswith("/var/run/"):
        raise UsageError(
            f"{text!r}: /var/run is a symbolic link that systemd replaces; write {text[4:]}"
        )


_CHECKS = {
    "name": systemd.unit_name,
    "listen": _check_address,
    "user": systemd.account,
    "group": systemd.account,
    "app": application,
    "chdir": absolute_path,
    "python": program,
    "run_as": systemd.account,
    "env_file": absolute_path,
    "writable": absolute_path,
    "device": device_node,
    "memory_max": memory,
    "cpu_quota": cpu_quota,
    "tasks_max": tasks,
}


def _checked(name: str, check: object, value: object) -> None:
    try:
        check(value)  # type: ignore[operator]
    except UsageError as error:
        raise UsageError(f"{name}={error}") from None
