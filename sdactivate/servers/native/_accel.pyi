"""The native server's hot path, compiled: see _accel.c."""

from collections.abc import Callable, Set
from types import ModuleType
from typing import Any, Literal

INTERFACE: int

# Kinds of variables
VARIABLE: int
DROPPED: int
ODD: int
METHOD: int
HOST: int
LENGTH: int
HTTPS: int
SCHEME: int
QUERY: int
PORT: int
PROTOCOL: int
SOFTWARE: int
SERVER: int
MOUNT: int
PATH: int
# Kinds of fields
FIELD: int
FORWARDED: int
IGNORED: int
PARSERS: int
FIELD_HOST: int
FIELD_LENGTH: int
CONNECTION: int
# How a response is framed, and what comes behind it
SCGI: int
UWSGI: int
HTTP: int
FASTCGI: int
CLOSE: int
KEEP: int
SETTLE: int

def accept(fd: int, /) -> int | None: ...
def blank(size: int, /) -> bytes: ...
def receive(fd: int, size: int, /) -> bytes: ...

class Variables:
    def __init__(
        self,
        base: dict[str, Any],
        methods: Set[str],
        hosts: Set[str],
        mounts: Set[str],
        meaning: Callable[[bytes], tuple[str | None, int]],
        /,
    ) -> None: ...
    def scgi(self, data: bytes | bytearray, limit: int, /) -> tuple[dict[str, Any], int] | None: ...
    def uwsgi(
        self, data: bytes | bytearray, limit: int, /
    ) -> tuple[dict[str, Any], int] | None: ...
    def fastcgi(
        self, data: bytes | bytearray, limit: int, /
    ) -> tuple[dict[str, Any], int, bool, int] | None: ...

class Fields:
    def __init__(
        self, hosts: Set[str], meaning: Callable[[bytes], tuple[str | None, int]], /
    ) -> None: ...
    def read(
        self,
        data: bytes | bytearray,
        base: dict[str, Any],
        header_bytes: int,
        header_count: int,
        request_line: int,
        /,
    ) -> tuple[dict[str, Any], dict[str, str] | None, bool, int, int] | None: ...

class Exchange:
    connection: Any
    failed: bool
    is_error: bool
    def run(self, application: Callable[..., Any], /) -> None: ...
    def where(self) -> str: ...
    def say_error(self, began: float, /) -> None: ...
    def record(self, milliseconds: float, /) -> None: ...
    def __call__(self, status: str, headers: Any, exc_info: Any = ..., /) -> Any: ...

class Responder:
    def __init__(
        self,
        response: Callable[..., Any],
        statuses: dict[str, bool],
        fields: Callable[[], bytes],
        forks: ModuleType,
        gone: type[BaseException],
        meaning: Callable[[bytes], tuple[None, int]],
        /,
    ) -> None: ...
    def exchange(
        self,
        connection: Any,
        environ: dict[str, Any],
        loop: Any,
        dialect: int,
        after: int,
        number: int,
        /,
    ) -> Exchange: ...

class Handler:
    def __init__(
        self,
        variables: Variables,
        fields: Fields,
        cgi: Responder,
        http: Responder,
        server: Any,
        pool: Any,
        workers: dict[int, Any],
        loop: Any,
        base: dict[str, Any],
        buffer: Callable[..., Any],
        tell: Callable[[dict[str, str], str], dict[str, str]],
        mount: Callable[[dict[str, Any], str], None],
        malformed: type[Exception],
        kept: Any,
        last: Any,
        limits: tuple[int, int, int],
        most: int,
        timeout: float,
        is_logged: bool,
    ) -> None: ...
    def http(
        self, connection: Any, data: bytes, /
    ) -> bool | tuple[dict[str, Any], dict[str, str] | None, bool, int, int]: ...
    def turn(self, connection: Any, /) -> bool: ...
    def one_shot(
        self, connection: Any, data: bytes | bytearray, dialect: int, /
    ) -> Literal[True] | tuple[dict[str, Any], int] | None: ...
