"""The fronts' own checkers, run on a generated text: `nginx -t` and the like, without a machine."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

_MODULES = Path("/usr/lib/apache2/modules")
_APACHE = (
    *("mpm_event", "authz_core", "authn_core", "alias", "headers", "proxy", "proxy_scgi"),
    *("proxy_fcgi", "proxy_http", "rewrite", "ssl", "remoteip", "setenvif", "auth_basic"),
    *("authn_file", "authz_user", "dir"),
)


def _nginx(directory: Path, text: str) -> list[str]:
    # nginx -t binds what it listens on.
    text = text.replace("/run/mysite-front/", f"{directory}/")
    (directory / "site.conf").write_text(text)
    (directory / "nginx.conf").write_text(
        f"pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {directory}/site.conf; }}\n"
    )
    return ["unshare", "--net", "nginx", "-t", "-q", "-c", f"{directory}/nginx.conf"]


def _apache(directory: Path, text: str) -> list[str]:
    lines = [f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _APACHE]
    lines += [f"ServerRoot {directory}", "ServerName test", f"PidFile {directory}/pid"]
    lines += ["ErrorLog /dev/stderr", "Listen 80"]
    (directory / "apache.conf").write_text("\n".join(lines) + "\n" + text)
    return ["apache2", "-t", "-f", f"{directory}/apache.conf"]


def _lighttpd(directory: Path, text: str) -> list[str]:
    before = f'server.modules = ()\nserver.document-root = "{directory}"\n'
    (directory / "lighttpd.conf").write_text(before + text)
    return ["lighttpd", "-tt", "-f", f"{directory}/lighttpd.conf"]


def _caddy(directory: Path, text: str) -> list[str]:
    (directory / "Caddyfile").write_text(text)
    config = f"{directory}/Caddyfile"
    home = f"HOME={directory}"
    return ["env", home, "caddy", "validate", "--adapter", "caddyfile", "--config", config]


def _haproxy(directory: Path, text: str) -> list[str]:
    (directory / "haproxy.cfg").write_text(text)
    return ["haproxy", "-c", "-q", "-f", f"{directory}/haproxy.cfg"]


_COMMANDS: dict[str, tuple[str, Callable[[Path, str], list[str]]]] = {
    "nginx": ("nginx", _nginx),
    "apache": ("apache2", _apache),
    "lighttpd": ("lighttpd", _lighttpd),
    "caddy": ("caddy", _caddy),
    "haproxy": ("haproxy", _haproxy),
}

CHECKED = tuple(_COMMANDS)
"""The fronts that have a checker."""


def program(front: str) -> str | None:
    """Return the path of the front's program; None where it is not installed."""
    return shutil.which(
        _COMMANDS[front][0], path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
    )


def complaint(front: str, text: str, directory: Path) -> str:
    """Return what the front's checker says of a site's `text`; "" where it takes it."""
    argv = _COMMANDS[front][1](directory, text)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return f"{done.stdout}{done.stderr}\n{text}" if done.returncode else ""
