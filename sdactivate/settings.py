"""The table of server settings: names, defaults, help; read from code, options and environment.

A setting has one name and can be given in three places. The later ones override the earlier:

1. `serve(application, threads=4)` in the code: the application's own default;
2. `sdactivate serve --threads 4` on the command line;
3. `SDACTIVATE_THREADS=4` in the environment, since operators edit units, not code.

The runtime reads the values, the generator writes them into units, and the command line and the
documentation list them. This module imports none of these.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sdactivate import backends, trust
from sdactivate.errors import UsageError
from sdactivate.peer_rules import parse_rule
from sdactivate.protected import VARIABLE
from sdactivate.suggest import meant

PREFIX = "SDACTIVATE_"


class Variable(NamedTuple):
    """A variable with the prefix that is not a setting: its values, (): any text; its meaning."""

    choices: tuple[str, ...]
    help: str


NOT_SETTINGS: dict[str, Variable] = {
    "SDACTIVATE_ACCEL": Variable(
        ("0", "1"),
        "0: the native server runs in pure Python; 1 or not set: it uses its compiled hot path, "
        "if that is installed",
    ),
    VARIABLE: Variable(
        (),
        "tells `sdactivate.django.protected` about the front, with any server; gen writes it for "
        "--protected",
    ),
}
"""By name."""


class Settings(NamedTuple):
    """The settings of one serving process, complete and valid. See `TABLE` for each."""

    server: str = "native"
    protocol: str = "auto"
    threads: int = 8
    workers: int = 1
    preload: bool = True
    connections: int = 1000
    header_bytes: int = 65536
    header_count: int = 100
    request_line: int = 8190
    body_bytes: int = 100 << 20
    body_buffer: int = 1 << 20
    held_bytes: int = 64 << 20
    stream: tuple[str, ...] = ()
    lent_threads: int = 64
    header_timeout: float = 30.0
    body_timeout: float = 60.0
    write_timeout: float = 60.0
    body_rate: int = 240
    write_rate: int = 240
    keepalive_timeout: float = 75.0
    graceful_timeout: float = 30.0
    start_timeout: float = 60.0
    health: str = ""
    ready_path: str = ""
    live_path: str = ""
    drain_delay: float = 0.0
    metrics: str = ""
    idle_timeout: float = 0.0
    worker_timeout: float = 0.0
    max_requests: int = 0
    max_requests_jitter: int = 0
    max_memory: int = 0
    trust: tuple[str, ...] = ()
    trust_headers: tuple[str, ...] = ()
    remote_user: bool = False
    allow_peer: tuple[str, ...] = ()
    access_log: bool = False
    read_at_start: tuple[str, ...] = ()
    fd: tuple[int, ...] = ()
    notify_fd: int = 0


class Setting(NamedTuple):
    """One row: how a value is read, its unit if it has one, and its purpose."""

    name: str
    read: Callable[[str], Any]
    unit: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The option on the command line: --header-timeout."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The variable in the environment: SDACTIVATE_HEADER_TIMEOUT."""
        return PREFIX + self.name.upper()

    @property
    def default(self) -> Any:
        """The default value."""
        return getattr(DEFAULTS, self.name)

    def parse(self, text: str, where: str) -> Any:
        """Return the value of `text`.

        `where` names the place that the text came from, such as --threads, for the message of the
        UsageError that is raised if it is not valid.
        """
        try:
            value = self.read(text.strip())
        except UsageError as error:  # the message already quotes the word
            raise UsageError(f"{where}={text!r}: {error}") from None
        except ValueError as error:
            raise UsageError(f"{where}={text!r} {error}") from None
        if self.choices and value not in self.choices:
            raise UsageError(f"{where}={text!r} is not one of {', '.join(self.choices)}")
        return value


def text(value: str) -> str:
    """Any text."""
    return value


def count(value: str) -> int:
    """A whole number, zero or more."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError("is not a whole number of at least 0")
    return int(value)


def positive(value: str) -> int:
    """A whole number, one or more."""
    if not (value.isascii() and value.isdigit() and (number := int(value))):
        raise ValueError("is not a whole number of at least 1")
    return number


_SECONDS = {
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _amount(word: str) -> tuple[float, str]:
    """Split "1.5h" into 1.5 and "h"."""
    digits = len(word) - len(word.lstrip("0123456789."))
    return float(word[:digits]), word[digits:]


def seconds(value: str) -> float:
    """A span of time, zero or more, as systemd.time(7) writes it: 90, 1.5, 500ms, "1h 30min"."""
    try:
        parts = [_amount(word) for word in value.split()]
        if not parts:
            raise ValueError
        return sum(number * _SECONDS[unit] for number, unit in parts)
    except (ValueError, KeyError):
        raise ValueError("is not a time span such as 30, 500ms, 10min or '1h 30min'") from None


def size(value: str) -> int:
    """A number of bytes, zero or more, with K, M or G for powers of 1024: 65536, 64K, 10M."""
    try:
        number, unit = _amount(value)
        return int(number * _BYTES[unit.upper().removesuffix("B").removesuffix("I")])
    except (ValueError, KeyError, OverflowError):
        raise ValueError("is not a size in bytes such as 65536, 64K or 10M") from None


def yes_or_no(value: str) -> bool:
    """yes or no; also true, false, on, off, 1 and 0: systemd.syntax(7)."""
    if value.lower() in ("1", "yes", "true", "on", "y", "t"):
        return True
    if value.lower() in ("0", "no", "false", "off", "n", "f"):
        return False
    raise ValueError("is neither yes nor no")


def words(value: str) -> tuple[str, ...]:
    """Several values, separated by commas or spaces."""
    return tuple(value.replace(",", " ").split())


def peers(value: str) -> tuple[str, ...]:
    """Rules unit:NAME, user:NAME or group:NAME, separated by commas or spaces."""
    return tuple(str(parse_rule(rule)) for rule in words(value))


def header_names(value: str) -> tuple[str, ...]:
    """Names of header fields, separated by commas or spaces."""
    return tuple(dict.fromkeys(map(trust.header_name, words(value))))


def url_paths(value: str) -> tuple[str, ...]:
    """Paths of URLs, each from the first slash on, separated by commas or spaces."""
    for word in (found := words(value)):
        if word[0] != "/":
            raise UsageError(f"{word!r} is not the path of a URL, such as /upload")
    return found


_HEALTH = re.compile(
    r"(https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)?/(?!/)[!\"$-~]*", re.ASCII
)


_PROBE = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


def health_url(value: str) -> str:
    """The path or the full URL of a page; empty: none."""
    if value and not _HEALTH.fullmatch(value):
        raise ValueError(
            "is not the path or the URL of a page, such as /up or https://example.org/up; "
            "percent-encode spaces and non-ASCII characters (%20), and leave out any #fragment"
        )
    return value


def probe_path(value: str) -> str:
    """The path of a URL: letters, digits and . _ ~ - between slashes; empty: none."""
    if value and not _PROBE.fullmatch(value):
        raise ValueError(
            "is not a path of letters, digits and . _ ~ - between slashes, such as /ready"
        )
    return value


def descriptor_name(value: str) -> str:
    """The name of a file descriptor, as in FileDescriptorName=; empty: none."""
    if not all(" " < character < "\x7f" and character != ":" for character in value):
        raise ValueError("is not the name of a socket, such as metrics")
    return value


def paths(value: str) -> tuple[str, ...]:
    """Absolute paths, separated by spaces; those with spaces are quoted as for a shell."""
    import shlex

    try:
        found = tuple(shlex.split(value))
    except ValueError:
        raise ValueError("has a quote that is not closed") from None
    for path in found:
        if path[:1] != "/":
            raise UsageError(f"{path!r} is not an absolute path, such as /etc/mysite.env")
    return found


def descriptors(value: str) -> tuple[int, ...]:
    """Numbers of file descriptors, separated by commas or spaces."""
    return tuple(count(word) for word in words(value))


DEFAULTS = Settings()

TABLE: tuple[Setting, ...] = (
    Setting("server", text, "", "the server; see docs/servers.md", backends.NAMES),
    Setting(
        "protocol",
        text,
        "",
        "the protocol that the front speaks; auto: on a unix socket the first byte of each "
        "connection decides, on TCP and vsock it is http",
        ("auto", "scgi", "fastcgi", "uwsgi", "http"),
    ),
    Setting("threads", positive, "", "the most requests that one worker process serves at a time"),
    Setting("workers", positive, "", "worker processes, which share the socket"),
    Setting("preload", yes_or_no, "", "import the application once, before the workers fork"),
    Setting("connections", positive, "", "the most open connections of one worker process"),
    Setting("header_bytes", size, "bytes", "the longest header of a request"),
    Setting("header_count", positive, "", "the most header fields of an HTTP request"),
    Setting("request_line", size, "bytes", "the longest request line of an HTTP request"),
    Setting(
        "body_bytes",
        size,
        "bytes",
        "the largest request body, whatever limit the front has; 0: no limit",
    ),
    Setting(
        "body_buffer",
        size,
        "bytes",
        "the size up to which an arriving request body is kept in memory; a larger one goes to a "
        "file in $CACHE_DIRECTORY, or without that in $TMPDIR or /var/tmp",
    ),
    Setting(
        "held_bytes",
        size,
        "bytes",
        "memory of one worker process for the bodies of requests and responses of slow peers; "
        "beyond it they go to files as well",
    ),
    Setting(
        "stream",
        url_paths,
        "",
        "URL paths below which neither the server nor the generated front buffers: a request "
        "body over body_buffer is streamed to the application as it arrives, and occupies a "
        "thread meanwhile. Elsewhere a request gets a thread when its body is complete",
    ),
    Setting(
        "lent_threads",
        count,
        "",
        "the most extra threads of one worker process for slow peers of responses that are "
        "generated piece by piece; if more are needed, the slowest peer is disconnected",
    ),
    Setting(
        "header_timeout",
        seconds,
        "seconds",
        "the longest time from the first byte of a request to its complete header",
    ),
    Setting("body_timeout", seconds, "seconds", "the longest pause within a request's body"),
    Setting(
        "write_timeout",
        seconds,
        "seconds",
        "the longest time in which a peer may accept no byte of a response",
    ),
    Setting(
        "body_rate",
        size,
        "bytes",
        "the lowest average rate, in bytes per second, at which a peer may send a request body, "
        "after the first 20 seconds; 0: no limit",
    ),
    Setting(
        "write_rate",
        size,
        "bytes",
        "the lowest average rate, in bytes per second, at which a peer may accept a response, "
        "after the first 20 seconds and 64 KiB; 0: no limit",
    ),
    Setting("keepalive_timeout", seconds, "seconds", "how long an idle connection is kept open"),
    Setting(
        "graceful_timeout", seconds, "seconds", "how long accepted requests may take during a stop"
    ),
    Setting(
        "start_timeout",
        seconds,
        "seconds",
        "how long worker processes, or the new process at a reload, may take to become ready",
    ),
    Setting(
        "health",
        health_url,
        "",
        "a page that must answer 2xx or 3xx before this process serves, at a start and at a "
        "reload: /up, or https://example.org/up if the application checks the host or HTTPS",
    ),
    Setting(
        "ready_path",
        probe_path,
        "",
        "a path that the server itself answers on TCP sockets, to the peers in `trust`: 200, or "
        "503 once a stop is announced (drain_delay). For a load balancer's health check",
    ),
    Setting(
        "live_path",
        probe_path,
        "",
        "like ready_path, but always 200 while the process runs. For an orchestrator's liveness "
        "probe",
    ),
    Setting(
        "drain_delay",
        seconds,
        "seconds",
        "how long the process goes on serving after it is told to stop; ready_path answers 503 "
        "meanwhile. Set it to the time that the load balancer needs to notice",
    ),
    Setting(
        "metrics",
        descriptor_name,
        "",
        "the name of the socket that serves /metrics in OpenMetrics format: FileDescriptorName=, "
        "or --listen metrics=/run/mysite-metrics.sock. On TCP only the peers in `trust` may read "
        "it",
    ),
    Setting("idle_timeout", seconds, "seconds", "exit after this long without a request; 0: never"),
    Setting(
        "worker_timeout",
        seconds,
        "seconds",
        "replace a worker process in which a request takes longer than this; 0: never",
    ),
    Setting(
        "max_requests", count, "", "replace a worker process after this many requests; 0: never"
    ),
    Setting(
        "max_requests_jitter",
        count,
        "",
        "add a random number of requests, up to this, to max_requests",
    ),
    Setting(
        "max_memory",
        size,
        "bytes",
        "replace a worker process whose memory has grown to this; 0: never",
    ),
    Setting(
        "trust",
        words,
        "",
        "TCP peers that may speak for their clients, as addresses or networks. Over HTTP their "
        f"{' and '.join(trust.BY_DEFAULT)} are trusted, over SCGI, FastCGI and uwsgi all "
        "variables. On a unix socket every peer that may connect is trusted",
    ),
    Setting(
        "trust_headers",
        header_names,
        "",
        f"header fields to trust in addition to {' and '.join(trust.BY_DEFAULT)}; name only "
        f"fields that the front sets itself: {', '.join(trust.SELECTABLE)}",
    ),
    Setting(
        "remote_user",
        yes_or_no,
        "",
        "over HTTP, take REMOTE_USER from the front's Remote-User header: only for a front that "
        "sets it. The other protocols have a variable for it that clients can't set",
    ),
    Setting(
        "allow_peer",
        peers,
        "",
        "the only peers to serve: unit:nginx.service, user:www-data, group:web",
    ),
    Setting(
        "access_log",
        yes_or_no,
        "",
        "log every request: in the journal with structured fields, elsewhere as a line",
    ),
    Setting(
        "read_at_start",
        paths,
        "",
        "files that systemd reads at a start but not at a reload (EnvironmentFile=, "
        "LoadCredential=); a reload reports those that have changed. `gen` writes this setting",
    ),
    Setting(
        "fd",
        descriptors,
        "",
        "file descriptors that are listening sockets, for a supervisor that passes them without "
        "announcing them: circus and s6-fdholder",
    ),
    Setting(
        "notify_fd",
        count,
        "",
        "a file descriptor to write a line to when ready: s6's notification-fd; 0: none",
    ),
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}


def resolve(
    code: Mapping[str, Any], options: Mapping[str, Any], environ: Mapping[str, str]
) -> Settings:
    """Return the settings of a process: `code`, overridden by `options`, by `environ`.

    Raises UsageError for a name that is not a setting and for a value that is not valid. That
    includes a misspelt SDACTIVATE_ variable: ignoring it would hide the mistake until production.
    """
    values: dict[str, Any] = {}
    for source in (code, options):
        for name, value in source.items():
            if name not in BY_NAME:
                raise UsageError(f"{name}: there is no such setting; {meant(name, BY_NAME)}")
            if value is not None:
                text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
                values[name] = BY_NAME[name].parse(text, name)
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            if variable in NOT_SETTINGS:
                if (choices := NOT_SETTINGS[variable].choices) and text not in choices:
                    raise UsageError(f"{variable}: {text!r} is not {' or '.join(choices)}")
                continue
            name = variable[len(PREFIX) :].lower()
            if name not in BY_NAME:
                known = (PREFIX + one.upper() for one in BY_NAME)
                raise UsageError(f"{variable}: there is no such setting; {meant(variable, known)}")
            values[name] = BY_NAME[name].parse(text, variable)
    return Settings(**values)
