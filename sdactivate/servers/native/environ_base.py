"""The part of the WSGI environ that is the same for every request (PEP 3333)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdactivate import log
from sdactivate.servers.native.wsgi import FileWrapper
from sdactivate.settings import Settings


class ErrorLog:
    """wsgi.errors: writes an application's text to the log, line by line."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line:
                log.say(log.ERROR, line)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


def base_environ(settings: Settings) -> dict[str, Any]:
    """The variables that are the same for every request, and the defaults of others."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": ErrorLog(),
        "wsgi.multithread": settings.threads > 1,
        "wsgi.multiprocess": settings.workers > 1,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "SCRIPT_NAME": "",
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "SERVER_SOFTWARE": "sdactivate",
    }
