"""System checks for `manage.py check`: settings that are wrong behind an activated socket.

One table, `CHECKS`: a function that yields what is wrong (nothing if all is well), a hint, and
whether it runs on every `manage.py check` or only with --deploy. What Django's own checks already
report (security.W018, W020 and the like) is left to them.
"""

import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.checks import Warning as CheckWarning
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, default_storage
from django.utils.log import AdminEmailHandler

from sdactivate.errors import Error
from sdactivate.settings import BY_NAME, seconds
from sdactivate.systemd.systemctl import listed, one, show

TAG = "sdactivate"


class _Question(Protocol):
    def __call__(self) -> Iterator[str]: ...


class Check(NamedTuple):
    """One row."""

    id: str
    ask: _Question
    hint: str
    deploy: bool = True


def _debug_under_activation() -> Iterator[str]:
    # These are set only in a process that a supervisor has started. `serve` runs this check, too.
    if settings.DEBUG and not {"LISTEN_FDS", "NOTIFY_SOCKET"}.isdisjoint(os.environ):
        yield (
            "DEBUG is on in a process that a supervisor started: error pages show settings and "
            "source code to visitors, and every query is kept in memory."
        )


def _world_connectable() -> Iterator[str]:
    path = _socket()
    try:
        found = os.stat(path)
        directories = [os.stat(each).st_mode for each in Path(path).resolve().parents]
    except OSError:
        return
    reached = all(mode & stat.S_IXOTH for mode in directories)
    if stat.S_ISSOCK(found.st_mode) and found.st_mode & stat.S_IWOTH and reached:
        yield (
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: every user of this machine can "
            "connect and send whatever the web server may send, a logged-in user's name included."
        )


def _socket() -> str:
    """The site's socket: SDACTIVATE_SOCKET in the settings, else /run/NAME.sock."""
    name = (settings.WSGI_APPLICATION or settings.ROOT_URLCONF).partition(".")[0]
    return str(getattr(settings, "SDACTIVATE_SOCKET", f"/run/{name}.sock"))


def _forwarded_header() -> Iterator[str]:
    if header := settings.SECURE_PROXY_SSL_HEADER:
        yield (
            f"SECURE_PROXY_SSL_HEADER trusts {header[0]}, which a web server that speaks SCGI, "
            "FastCGI or uwsgi doesn't set: if it passes on the client's own, any client can "
            "pretend to use HTTPS."
        )


def _any_host() -> Iterator[str]:
    if "*" in settings.ALLOWED_HOSTS:
        yield "ALLOWED_HOSTS contains '*': links and mails can contain any Host a client sends."


def _static_files() -> Iterator[str]:
    if "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
        return
    if (settings.STATIC_URL or "").startswith(("http:", "https:", "//")):
        return
    try:
        if not isinstance(staticfiles_storage, FileSystemStorage):
            return  # the files are stored elsewhere
        root: Any = staticfiles_storage.base_location
    except (ImportError, ImproperlyConfigured):
        return  # collectstatic reports it
    if not root:
        yield "STATIC_ROOT is not set: there is no directory for the web server to serve."
    elif not Path(root).is_dir() or not any(Path(root).iterdir()):
        yield f"STATIC_ROOT, {root}, is empty or does not exist: pages will have no styles."


def _idle_timeout() -> float:
    """The idle timeout in seconds: from the environment, else from the options of `serve`.

    `manage.py check --deploy` is run by hand, in another environment, so it reads the service's.
    """
    given = _of_service("idle_timeout") if "--deploy" in sys.argv else ""
    for word, following in zip(sys.argv, [*sys.argv[1:], "0"], strict=True):
        option, equals, value = word.partition("=")
        if option == "--idle-timeout":
            given = value if equals else following
    try:
        return seconds(os.environ.get("SDACTIVATE_IDLE_TIMEOUT", given or "0"))
    except ValueError:  # the server reports it
        return 0


def _of_service(setting: str) -> str:
    """The value of a setting in the site's service, drop-ins included; "" if it has none."""
    unit = Path(_socket()).with_suffix(".service").name
    try:
        shown = show(unit, "Environment", "ExecStart")
    except (Error, OSError):
        return ""
    row = BY_NAME[setting]
    for variable in listed(one(shown, "Environment")):
        name, _, value = variable.partition("=")
        if name == row.variable:
            return value
    option = re.search(rf" {row.option}[ =](\S+)", one(shown, "ExecStart"))
    return option[1] if option else ""


def _connections_outlive() -> Iterator[str]:
    idle = _idle_timeout()
    for alias, database in settings.DATABASES.items():
        age = database.get("CONN_MAX_AGE", 0)
        if idle and (age is None or age > idle):
            shown = "open without limit" if age is None else f"open for {age} s"
            yield (
                f"DATABASES[{alias!r}] keeps connections {shown} (CONN_MAX_AGE), but an idle site "
                f"exits after {idle:g} s: until then it holds an unused connection."
            )


def _several_machines() -> bool:
    """Whether the site is behind a balancer: `ready_path` or `drain_delay` is set."""
    for name in ("ready_path", "drain_delay"):
        given = os.environ.get(BY_NAME[name].variable, "")
        if not given and "--deploy" in sys.argv:
            given = _of_service(name)
        if given.strip() not in ("", "0"):
            return True
    return False


def _database_of_one() -> Iterator[str]:
    for alias, database in settings.DATABASES.items() if _several_machines() else ():
        if database.get("ENGINE", "").endswith("sqlite3"):
            yield (
                f"DATABASES[{alias!r}] is SQLite, a file on this machine: behind a balancer each "
                "machine has a database of its own."
            )


def _cache_of_one(alias: str) -> str:
    """Where the cache `alias` is, if it is only on this machine; "" if machines can share it."""
    backend = settings.CACHES.get(alias, {}).get("BACKEND", "")
    kinds = {"LocMemCache": "in the memory of one process", "FileBasedCache": "in files"}
    return kinds.get(backend.rpartition(".")[2], "")


def _caches_of_one() -> Iterator[str]:
    for alias in settings.CACHES if _several_machines() else ():
        if where := _cache_of_one(alias):
            yield (
                f"CACHES[{alias!r}] is {where} on this machine: behind a balancer, the other "
                "machines do not see what one of them caches or deletes."
            )


def _sessions_of_one() -> Iterator[str]:
    if not _several_machines() or not any("sessions" in app for app in settings.INSTALLED_APPS):
        return
    engine, alias = settings.SESSION_ENGINE, settings.SESSION_CACHE_ALIAS
    where = "in files" if engine.endswith(".file") else ""
    if engine.endswith(".cache"):
        where = _cache_of_one(alias)
    if where:
        yield (
            f"SESSION_ENGINE, {engine}, keeps sessions {where} on this machine: behind a balancer, "
            "visitors are logged out whenever another machine answers."
        )


def _uploads_of_one() -> Iterator[str]:
    if not settings.MEDIA_ROOT or not _several_machines():
        return
    try:
        local = isinstance(default_storage, FileSystemStorage)
    except (ImportError, ImproperlyConfigured):
        return  # reported when it is used
    if local:
        yield (
            f"Uploads go to MEDIA_ROOT, {settings.MEDIA_ROOT}: unless all machines behind the "
            "balancer share that directory, each has only the uploads that were sent to it."
        )


_SECRETS_ARE_SHORTER = 4096  # bytes; larger files are not compared with SECRET_KEY


def _secret_of_one() -> Iterator[str]:
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory or not _several_machines():
        return
    for path in sorted(Path(directory).glob("*")):
        try:
            if not path.is_file() or path.stat().st_size > _SECRETS_ARE_SHORTER:
                continue
            text = path.read_text(errors="replace").strip()
        except OSError:
            continue
        if text and text == settings.SECRET_KEY.strip():
            yield (
                f"SECRET_KEY is in {path}, which was created on this machine: another machine "
                "behind the balancer has another key, and refuses this one's sessions and links."
            )


def _errors_go_nowhere() -> Iterator[str]:
    if settings.DEBUG:
        return  # Django's default LOGGING writes them to the console
    name = "django.request"
    record = logging.LogRecord(name, logging.ERROR, __file__, 0, "Internal Server Error", (), None)
    logger: logging.Logger | None = logging.getLogger(name)
    if logger is not None and logger.isEnabledFor(logging.ERROR) and logger.filter(record):
        handlers: list[logging.Handler] = []
        while logger is not None:
            handlers += logger.handlers
            logger = logger.parent if logger.propagate else None
        if not handlers and logging.lastResort is not None:
            return  # it writes to standard error
        if any(_arrives(handler, record) for handler in handlers):
            return
    yield (
        "If a view raises an exception, the answer is 500 and nothing is logged: while DEBUG is "
        "off, Django's default LOGGING only mails errors to ADMINS."
    )


def _arrives(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Whether `handler` delivers `record` to a place where it can be read."""
    if isinstance(handler, AdminEmailHandler) and not settings.ADMINS:
        return False
    if isinstance(handler, logging.NullHandler):
        return False
    return handler.level <= record.levelno and bool(handler.filter(record))


CHECKS = (
    Check(
        "sdactivate.W001",
        _world_connectable,
        "Give it mode 0660 and the web server's group: `sdactivate gen NAME --group www-data`.",
    ),
    Check(
        "sdactivate.W002",
        _forwarded_header,
        "Remove it: sdactivate tells Django the scheme that the web server itself reports "
        "(HTTPS, REQUEST_SCHEME, or X-Forwarded-Proto of a trusted peer).",
    ),
    Check("sdactivate.W003", _any_host, "List the hosts that the web server serves."),
    Check("sdactivate.W004", _debug_under_activation, "Set DEBUG = False.", deploy=False),
    Check("sdactivate.W005", _static_files, "Set STATIC_ROOT, then run manage.py collectstatic."),
    Check(
        "sdactivate.W006",
        _connections_outlive,
        "Set CONN_MAX_AGE to less than the idle timeout, or to 0.",
        deploy=False,
    ),
    Check(
        "sdactivate.W007",
        _errors_go_nowhere,
        "Have LOGGING write to standard error, which goes to the journal: the three lines are in "
        "docs/troubleshooting.md, 'A 500 and nothing in the journal'.",
        deploy=False,
    ),
    Check(
        "sdactivate.W008",
        _database_of_one,
        "Use PostgreSQL or another server that all machines can reach.",
        deploy=False,
    ),
    Check(
        "sdactivate.W009",
        _caches_of_one,
        "Use Redis or memcached, or the database (DatabaseCache).",
        deploy=False,
    ),
    Check(
        "sdactivate.W010",
        _sessions_of_one,
        "Keep sessions in the database, in a cache that all machines share, or in signed cookies.",
        deploy=False,
    ),
    Check(
        "sdactivate.W011",
        _uploads_of_one,
        "Mount one directory on all of them, or use object storage. If it is mounted already, "
        "silence this check (SILENCED_SYSTEM_CHECKS).",
        deploy=False,
    ),
    Check(
        "sdactivate.W012",
        _secret_of_one,
        "Give all machines the same key with --credential.",
        deploy=False,
    ),
)


def register_all() -> None:
    """Register every row of `CHECKS` with Django."""
    for row in CHECKS:
        register(_check_of(row), TAG, deploy=row.deploy)


def _check_of(row: Check) -> Any:
    def check(app_configs: Any = None, **kwargs: Any) -> list[CheckWarning]:
        return [CheckWarning(text, hint=row.hint, id=row.id) for text in row.ask()]

    return check
