"""systemd socket activation for Python web applications, Django first.

The names below are the whole public interface. Each is imported from its module when it is first
used, so that `import sdactivate` in a wsgi.py is cheap.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdactivate.errors import Error, UsageError
    from sdactivate.runtime.serve import serve
    from sdactivate.site import Site
    from sdactivate.systemd.descriptors import ActivationError
    from sdactivate.systemd.listen_fds import InheritedSocket, inherited_sockets
    from sdactivate.systemd.notify import notify

__version__ = "0.2.0"

__all__ = [
    "ActivationError",
    "Error",
    "InheritedSocket",
    "Site",
    "UsageError",
    "__version__",
    "inherited_sockets",
    "notify",
    "serve",
]

_ROOMS = {
    "ActivationError": "sdactivate.systemd.descriptors",
    "Error": "sdactivate.errors",
    "InheritedSocket": "sdactivate.systemd.listen_fds",
    "Site": "sdactivate.site",
    "UsageError": "sdactivate.errors",
    "inherited_sockets": "sdactivate.systemd.listen_fds",
    "notify": "sdactivate.systemd.notify",
    "serve": "sdactivate.runtime.serve",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
