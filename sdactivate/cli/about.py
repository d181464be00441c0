"""The versions that a bug report needs: `sdactivate --version --verbose`.

It prints versions only: no host names, paths, accounts or sites.
"""

import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata

from sdactivate import __version__, bundled
from sdactivate.fronts import FRONTS
from sdactivate.servers.native import accel

NONE = "none"
_LIBRARIES = ("systemd-python", "Jinja2", "flup", "httptools", "Django")

_PROGRAMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "nginx": (("nginx", "-v"),),
    "apache": (("apache2", "-v"), ("httpd", "-v")),
    "lighttpd": (("lighttpd", "-v"),),
    "caddy": (("caddy", "version"),),
    "haproxy": (("haproxy", "-v"),),
    "cherokee": (("cherokee", "--version"),),
}
"""The commands that print each front's version. The first one that answers is used."""

_VERSION = r"\d+(?:\.\d+)+"
_DEADLINE_S = 5


def version() -> str:
    """Return one line: the version, and whether the native server's compiled hot path is in use."""
    why = f": {accel.why_not}" if accel.why_not else ""
    return f"sdactivate {__version__} (native server: {accel.in_use}{why})"


def lines() -> Iterator[str]:
    """Yield the lines of `--version --verbose`, each as soon as it is known."""
    bundled.prefer()
    yield version()
    yield f"Python: {platform.python_version()} ({platform.python_implementation()})"
    yield f"systemd: {_answer(('systemctl', '--version'), r'(?<=^systemd ).*')}"
    kernel = platform.uname()
    yield f"kernel: {kernel.system} {kernel.release} {kernel.machine}"
    yield f"distribution: {_distribution()}"
    for library in _LIBRARIES:
        yield f"{library}: {_installed(library)}"
    for name, front in FRONTS.items():
        answers = (_answer(command, _VERSION) for command in _PROGRAMS[name])
        yield f"{front.title}: {next((it for it in answers if it != NONE), NONE)}"


def _distribution() -> str:
    """Return the distribution's name from os-release(5)."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", NONE)
    except OSError:
        return NONE


def _installed(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return NONE


def _answer(command: tuple[str, ...], pattern: str) -> str:
    """Return what `pattern` finds in the output of a command."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, found as the shell finds it
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return NONE
    found = re.search(pattern, done.stdout.decode(errors="replace"), re.MULTILINE)
    return found[0] if found else NONE
