"""Site: the validated description of one deployed application, shared by all parts.

The generator turns it into units, the launcher opens its sockets, the fronts connect to them, and
the doctor compares it with what runs. `values` parses each value; conflicting values are refused
here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from sdactivate import backends, values
from sdactivate import settings as runtime
from sdactivate.backends import Backend
from sdactivate.errors import UsageError
from sdactivate.protected import Protected
from sdactivate.systemd import escape, names
from sdactivate.values import ListenAddress, parse_listen

# Narrower than the grammar of accounts: systemd creates dynamic users only with such names.
_DYNAMIC = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,30}")


@dataclass(frozen=True)
class Site:
    """The description of one deployed application, checked when it is made.

    It can't be changed afterwards. Only `name` is required:

        from sdactivate import Site

        site = Site("mysite", group="www-data", settings={"threads": "4"})
        print(site.path)            # /run/mysite.sock
        print(site.service_user)    # mysite
        print(f"{site.mode:04o}")   # 0660

    Raises UsageError, which names the field, the value and what is allowed, for a value that is not
    valid and for a combination that can't work.
    """

    name: str
    """What its units, descriptor and directories are called: letters, digits, "-", "_" and "."."""

    # the socket
    listen: tuple[ListenAddress, ...] = ()
    """The addresses it listens on, as `sdactivate.values.parse_listen` returns them; empty:
    /run/NAME.sock."""
    user: str = "root"
    """The owner of the sockets in the file system."""
    group: str = "root"
    """The group of the sockets, whose members may connect."""
    mode: int = 0o660
    """The permission bits of the sockets. connect() needs write permission: unix(7)."""

    # the service
    app: str = ""
    """The application, as "mysite.wsgi:application"."""
    chdir: str = ""
    """The working directory, from which the application is imported."""
    python: str = ""
    """The interpreter's absolute path, usually in a virtual environment."""
    run_as: str = ""
    """The user that it runs as; empty: a dynamic user, which exists only while it runs."""
    join: tuple[str, ...] = ()
    """Further groups of that user: those of the sockets that it connects to."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables of its environment: pairs of name and value."""
    env_file: tuple[str, ...] = ()
    """Files of environment variables, read by systemd as root."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the server, by name, as text: {"threads": "4"}. Others keep their defaults."""

    # what it needs beyond its socket and its own directories: `sdactivate.sandbox`
    network: bool | str = False
    """Connections to other machines; "local": only TCP to this host."""
    jit: bool = False
    """Memory that is both writable and executable: JIT compilers, some ctypes callbacks."""
    home: bool = False
    """Reading below /home, /root and /run/user."""
    proc: bool = False
    """Reading what /proc says of the machine: /proc/meminfo, /proc/cpuinfo, /proc/stat."""
    writable: tuple[str, ...] = ()
    """Paths that it may write to, in addition to its state and cache directories."""
    uploads: tuple[str, ...] = ()
    """Directories of users' uploads, which it may write to and its front reads."""
    protected: Protected | None = None
    """Files that its front sends only when the application says so: `sdactivate.protected`."""
    device: tuple[str, ...] = ()
    """Device nodes that it may use."""
    control_sockets: bool = False
    """The system bus, and the sockets that control systemd or a container engine."""
    allow_syscall: tuple[str, ...] = ()
    """System calls, or groups of them (@keyring), that the sandbox would otherwise refuse."""

    # what the service manager gives it
    credential: tuple[tuple[str, str], ...] = ()
    """Secrets: pairs of name and path. It finds them as $CREDENTIALS_DIRECTORY/NAME."""
    encrypted_credential: tuple[tuple[str, str], ...] = ()
    """The same, for files that systemd-creds(1) has encrypted."""
    memory_max: str = ""
    """The most memory, in bytes, with K, M, G or T, or as a percentage; above it, it is killed."""
    cpu_quota: str = ""
    """The most processor time, as a percentage of one processor: "200%" is two."""
    tasks_max: str = ""
    """The most processes and threads, together."""

    def __post_init__(self) -> None:
        for name, read in READ.items():
            value = getattr(self, name)
            write = _WRITE.get(name, str)
            for one in value if isinstance(value, tuple) else (value,):
                if one != "" or name == "name":
                    _checked(name, read, write(one))
        for address in self.listen:
            _checked("listen", _check_address, address)
        if not isinstance(self.network, bool):
            _checked("network", values.network, self.network)
        if self.run_as in ("root", "0"):
            raise UsageError(
                "run_as='root': root can change every socket; name an unprivileged user, or "
                "leave it out for a dynamic one"
            )
        for name, text in self.settings.items():
            if name not in runtime.BY_NAME:
                raise UsageError(f"settings: there is no setting {name!r}")
            runtime.BY_NAME[name].parse(text, f"settings: {name}")
            _checked("settings", escape.word, text)
        self._check_protocols()
        credentials = (*self.credential, *self.encrypted_credential)
        for what, given in (
            ("env: the variable", [name for name, _ in self.env]),
            ("credential: the name", [name for name, _ in credentials]),
            ("listen: the name", [address.name for address in self.addresses if address.name]),
            ("listen: the address", [str(address) for address in self.addresses]),
        ):
            if twice := [value for value in given if given.count(value) > 1]:
                raise UsageError(f"{what} {twice[0]!r} is given twice")
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def _check_protocols(self) -> None:
        """Raise UsageError for a socket whose protocol the server does not speak."""
        backend = backends.BACKENDS.get(self.settings.get("server", ""))
        if backend is None or "http" in backend.protocols:
            return
        if self.settings.get("protocol", "auto") != "auto":
            return
        for address in self.addresses:
            if address.family in ("unix", "abstract") or address.name in backend.protocols:
                continue
            raise UsageError(
                f"--listen {address}: on TCP and vsock the default protocol is http, and "
                f"{backend.name} does not speak it: choose --protocol "
                f"{' or '.join(backend.protocols)}"
            )

    @cached_property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The site's addresses: those given, or else /run/NAME.sock."""
        return self.listen or (parse_listen(f"/run/{self.name}.sock"),)

    @property
    def socket_units(self) -> dict[str, list[ListenAddress]]:
        """The socket units, by their names without the suffix, with the addresses of each.

        All descriptors of a unit have one name (FileDescriptorName=), so an address with a name of
        its own gets a unit of its own: admin=/run/x.sock is in NAME-admin.socket.
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
        """The user that the service runs as: run_as, or the dynamic user's name.

        systemd refuses a dynamic user with the name of an existing group, so a site whose sockets'
        group has the site's name runs as NAME-app.
        """
        if self.run_as:
            return self.run_as
        user = f"{self.name}-app" if self.group == self.name else self.name
        if _DYNAMIC.fullmatch(user):
            return user
        from hashlib import sha256

        return f"site-{sha256(self.name.encode()).hexdigest()[:16]}"

    @property
    def backend(self) -> Backend:
        """The server's row. Raises UsageError for a server that can't inherit a socket."""
        return backends.find(self.settings.get("server", runtime.Settings().server))

    @property
    def path(self) -> str:
        """The path of its first unix socket that is a file; empty if it has none."""
        return next((address.path for address in self.addresses if address.path), "")


def _check_address(address: ListenAddress) -> None:
    text = _WRITE["listen"](address)
    if parse_listen(text) != address:
        raise UsageError(f"{text!r}: this address is not in the form that parse_listen returns")
    if address.path.startswith("/var/run/"):
        raise UsageError(
            f"{text!r}: /var/run is a symbolic link that systemd replaces; write {text[4:]}"
        )


READ: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "name": names.unit_name,
        "listen": parse_listen,
        "user": names.account,
        "group": names.account,
        "mode": values.parse_mode,
        "app": values.application,
        "chdir": values.absolute_path,
        "python": values.program,
        "run_as": names.account,
        "join": values.joined,
        "env": values.variable,
        "env_file": values.absolute_path,
        "writable": values.absolute_path,
        "uploads": values.absolute_path,
        "device": values.device_node,
        "allow_syscall": values.system_call,
        "credential": values.credential,
        "encrypted_credential": values.credential,
        "memory_max": values.memory,
        "cpu_quota": values.cpu_quota,
        "tasks_max": values.tasks,
    }
)
"""The parser of each field, or of each item of a field. The options use it, and so does Site
itself, which parses its values again. Settings are parsed by the rows of `sdactivate.settings`."""

_WRITE: Mapping[str, Callable[[Any], str]] = {
    "listen": lambda address: f"{address.name}={address}" if address.name else str(address),
    "mode": lambda mode: f"{mode:04o}",
    **dict.fromkeys(("env", "credential", "encrypted_credential"), "=".join),
}
"""The text form of values that are not strings."""


def _checked(name: str, check: Callable[[Any], Any], value: object) -> None:
    try:
        check(value)
    except UsageError as error:
        raise UsageError(f"{name}={error}") from None
