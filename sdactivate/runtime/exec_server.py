"""Execute another server (gunicorn, uWSGI …) on the sockets that this process inherited.

The inherited sockets are checked as for the native server and announced again in the form of
sd_listen_fds(3): as the descriptors from 3 on, for this PID, which exec does not change. So a
server that supports only systemd works under every other supervisor, too.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from sdactivate import external_servers, stdio
from sdactivate.errors import Error, UsageError
from sdactivate.external_servers import ExternalServer
from sdactivate.systemd import pass_fds
from sdactivate.systemd.listen_fds import inherited_sockets

if TYPE_CHECKING:
    from sdactivate.settings import Settings

_FAMILIES = {
    socket.AF_UNIX: "unix",
    socket.AF_INET: "inet",
    socket.AF_INET6: "inet6",
    socket.AF_VSOCK: "vsock",
}


class NotInstalled(Error):
    """`serve`: the server of the setting `server` is not installed for this interpreter."""


def become(server: ExternalServer, application: Any, settings: Settings) -> NoReturn:
    """Execute `server` on the sockets that this process has inherited.

    application: MODULE:NAME, which the server imports itself.

    Raises UsageError for an application that is not a name and as `external_servers.command` does,
    NotInstalled if the server is missing, and ActivationError as `inherited_sockets` does.
    """
    if not isinstance(application, str):
        raise UsageError(
            f"--server {server.name} is a separate program that imports the application itself: "
            "give serve() a name, such as 'mysite.wsgi:application'"
        )
    server.backend.interface(application)
    external_servers.check_settings(server, settings)
    python = sys.executable
    if not is_installed(server, python):
        raise NotInstalled(
            f"{server.name} is not installed for {python}; install it with "
            f"`{server.backend.install_command(python)}`"
        )
    sockets = inherited_sockets(settings.fd)
    families = [_FAMILIES[inherited.sock.family] for inherited in sockets]
    argv = external_servers.command(server, python, application, settings, families)
    names = [inherited.name for inherited in sockets]
    stdio.flush()
    placed = pass_fds.place([inherited.sock.detach() for inherited in sockets])
    pass_fds.close_others(placed)
    pass_fds.execute(argv, os.environ, len(names), names)


def is_installed(server: ExternalServer, python: str) -> bool:
    """Return whether `server` is installed for `python`, which is this interpreter."""
    if server.is_program:
        return os.access(external_servers.program(server, python), os.X_OK)
    return find_spec(server.name) is not None
