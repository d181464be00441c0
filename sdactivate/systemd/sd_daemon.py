"""systemd-python's `daemon`, or an error that says which packages to install: sd-daemon(3)."""

import sys

from sdactivate.errors import Error


class MissingLibrary(Error, ImportError):
    """systemd-python is not installed for this interpreter."""


try:
    from systemd import daemon
except ImportError as error:
    raise MissingLibrary(
        f"{sys.executable} can't import systemd-python ({error}): install python3-systemd "
        "if it is the distribution's interpreter (apt), or gcc, pkg-config, libsystemd-dev and "
        "python3-dev, and then `pip install systemd-python`, which compiles it"
    ) from None

__all__ = ["MissingLibrary", "daemon"]
