"""The log files of a front: the distribution's, and those that its configuration names.

Many sites have an error log and an access log of their own, and then the distribution's files have
nothing about them. Logs that are no files (a pipe, syslog, memory) and names with variables other
than Debian's APACHE_LOG_DIR are left out.
"""

import glob
import os
import re
import time
from collections.abc import Iterable, Mapping

from sdactivate.fronts import Front, Packaging

_RECENT = 3600  # seconds


def _directive(name: str) -> re.Pattern[str]:
    return re.compile(rf'(?:^|[;{{])[ \t]*{name}[ \t]+"?(?P<file>[^\s;"]+)', re.MULTILINE | re.I)


def _setting(name: str) -> re.Pattern[str]:
    return re.compile(rf'^[ \t]*{re.escape(name)}[ \t]*=[ \t]*"(?P<file>[^"]+)', re.MULTILINE)


_ERRORS: Mapping[str, re.Pattern[str]] = {
    "nginx": _directive("error_log"),
    "apache": _directive("ErrorLog"),
    "lighttpd": _setting("server.errorlog"),
}
_REQUESTS: Mapping[str, re.Pattern[str]] = {
    "nginx": _directive("access_log"),
    "apache": _directive("(?:CustomLog|TransferLog)"),
    "lighttpd": _setting("accesslog.filename"),
}


def error_logs(front: Front, packaging: Packaging, texts: Iterable[str]) -> list[str]:
    """Return the error logs that were written to in the last hour, the distribution's first.

    texts: the front's configuration. Empty for a front that logs to the journal.
    """
    if not packaging.log:
        return []
    return _recent([packaging.log, *named_error_logs(front, packaging, texts)])


def named_error_logs(front: Front, packaging: Packaging, texts: Iterable[str]) -> list[str]:
    """Return the error logs that a configuration names."""
    return _named(_ERRORS, front, packaging, texts)


def access_logs(front: Front, packaging: Packaging, texts: Iterable[str]) -> list[str]:
    """Return the access logs that were written to in the last hour.

    Those that the configuration names, and all in the distribution's directory.
    """
    usual = sorted(glob.glob(os.path.join(glob.escape(packaging.logs), "*access*log")))
    return _recent([*usual, *_named(_REQUESTS, front, packaging, texts)])


def _named(
    patterns: Mapping[str, re.Pattern[str]],
    front: Front,
    packaging: Packaging,
    texts: Iterable[str],
) -> list[str]:
    pattern = patterns.get(front.name)
    found = []
    for text in texts:
        for hit in pattern.finditer(text) if pattern else ():
            file = re.sub(r"\$\{?APACHE_LOG_DIR\}?", packaging.logs, hit["file"])
            if front.name == "apache" and file.startswith("logs/"):
                # Below ServerRoot, where Fedora and Arch have a link to the directory
                file = os.path.join(packaging.logs, file.removeprefix("logs/"))
            if file.startswith("/") and not re.search("[$%]", file):
                found.append(os.path.normpath(file))
    return list(dict.fromkeys(found))


def _recent(files: Iterable[str]) -> list[str]:
    return [it for it in dict.fromkeys(files) if _is_recent(it)]


def _is_recent(file: str) -> bool:
    try:
        return os.stat(file).st_mtime > time.time() - _RECENT
    except OSError:
        return False
