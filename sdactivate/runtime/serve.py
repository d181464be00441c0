"""sdactivate.serve(): import the application, take the sockets, run the chosen server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sdactivate import backends, stdio
from sdactivate.errors import Error
from sdactivate.runtime import gc_tuning, monkey_patching
from sdactivate.settings import resolve
from sdactivate.systemd import notify
from sdactivate.systemd.listen_fds import InheritedSocket, inherited_sockets

if TYPE_CHECKING:
    from sdactivate.runtime.plan import Plan
    from sdactivate.servers.api import Server
    from sdactivate.servers.native.wsgi import Application


def _native() -> Callable[..., Server]:
    from sdactivate.servers.native.server import Server

    return Server


def _flup() -> Callable[..., Server]:
    from sdactivate.servers.flup import Server

    return Server


def _waitress() -> Callable[..., Server]:
    from sdactivate.servers.waitress import Server

    return Server


SERVERS: dict[str, Callable[[], Callable[..., Server]]] = {
    "native": _native,
    "flup": _flup,
    "waitress": _waitress,
}
"""For each value of `server`, a function that imports and returns the class. Others are in
external_servers."""


_ANOTHER_PYTHON = (
    "{}: sdactivate serve needs CPython, and this is {}; use a virtual environment made with "
    "CPython, or start the server without sdactivate: docs/when-not.md"
)


class ImportFailed(Error):
    """`serve`: the application could not be imported, or its factory failed.

    The message ends with the traceback; `__cause__` is what was raised.
    """


def serve(application: Application | str, **settings: Any) -> None:
    """Serve `application` on the inherited sockets until the supervisor says stop, then exit.

    The end of a module that a service starts as `python -m MODULE`:

        import sdactivate

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello\\n"]

        if __name__ == "__main__":
            sdactivate.serve(application, threads=4, header_timeout="10s")

    application: a WSGI callable (PEP 3333), or its name: "mysite.wsgi:application".
    settings: the application's own defaults, by the names in docs/settings.md. A value is a
        number, a string as on the command line, a bool, or a list. The environment overrides
        it: SDACTIVATE_THREADS=4.

    It never returns, but always raises SystemExit. The code is 0 after a graceful stop, 1 if the
    application can't be imported or its sockets can't be served, and 2 for a setting that is not
    valid. The reason is written to standard error.
    """
    try:
        code = run(application, settings, {})
    except Error as error:
        from sdactivate import log

        log.say(log.ERROR, str(error))
        code = error.exit_code
    stdio.flush()
    raise SystemExit(code)


def run(application: Application | str, code: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """Serve `application` as `serve` does, and return the exit code.

    code, options: settings given in code and on the command line; the environment overrides both.
    An external server is executed, and this does not return. Raises Error if the application or the
    sockets are missing, if --allow-peer can't be checked in this sandbox, and on another Python
    than CPython.
    """
    if sys.implementation.name != "cpython":
        raise Error(_ANOTHER_PYTHON.format(sys.executable, sys.implementation.name))
    with gc_tuning.later():
        from sdactivate.runtime import main_process

        plan = _plan(application, code, options)
    try:
        return main_process.run(plan)
    finally:
        stdio.restore()


def _plan(
    application: Application | str, code: Mapping[str, Any], options: Mapping[str, Any]
) -> Plan:
    """Return the plan for `run`, or execute the external server."""
    from sdactivate import log
    from sdactivate.runtime.plan import Plan
    from sdactivate.runtime.reexec import Invocation

    log.start()
    invocation = Invocation.now()
    supervisor = notify.Supervisor(os.environ)
    settings = resolve(code, options, os.environ)
    backend = backends.find(settings.server)
    if not backend.in_process:
        from sdactivate import external_servers
        from sdactivate.runtime.exec_server import become

        become(external_servers.SERVERS[backend.name], application, settings)
    if isinstance(application, str):
        backend.interface(application)
    sockets = inherited_sockets(settings.fd)
    served, figures = sockets, list[InheritedSocket]()
    if settings.metrics:
        from sdactivate.runtime import metrics

        served, figures = metrics.split(sockets, settings)
    if settings.ready_path or settings.live_path:
        from sdactivate.servers.native import probes

        probes.check(served, settings)
    if settings.notify_fd:
        notify.write_ready_to(settings.notify_fd)
    server = SERVERS[settings.server]()
    gate = None
    if settings.allow_peer:
        from sdactivate.runtime.peers.gate import Gate

        gate = Gate(settings.allow_peer, [inherited.sock for inherited in served])
    loaded: list[Application] = []

    def load() -> None:
        if not loaded:
            with gc_tuning.later():
                loaded.append(find(application) if isinstance(application, str) else application)
            stdio.keep_numbers()
            monkey_patching.check(
                application if isinstance(application, str) else "the application"
            )

    def make(poke: Callable[[], None], other: Application | None = None) -> Server:
        return server(other or loaded[0], served, settings, poke, gate)

    return Plan(load, make, sockets, settings, invocation, supervisor, figures)


def find(text: str) -> Callable[..., Any]:
    """Import the application that `text` names (`app_name.parse`), and return it.

    Raises UsageError for an invalid name, and ImportFailed if it does not exist, or its import or
    factory fails. That message ends with the traceback's last line, and `__cause__` is the original
    exception.
    """
    from sdactivate import app_name

    name = app_name.parse(text)
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _run_file(name.file) if name.file else _import(name.module, text)
    where = f"the file {name.file}" if name.file else f"the module {name.module}"
    for part in name.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ImportFailed(f"{where} has no {name.attribute!r}") from None
    if name.is_factory and callable(found):
        with _explained(f"calling {text}"):
            found = found()
    if not callable(found):
        raise ImportFailed(f"{text} is of type {type(found).__name__!r}, which can't be called")
    return found  # type: ignore[no-any-return]


def _import(module: str, text: str) -> Any:
    from importlib import import_module

    try:
        with _explained(f"importing {module}"):
            return import_module(module)
    except ImportFailed as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{module}.".startswith(f"{missing.name}."):
            raise ImportFailed(
                f"there is no module {missing.name!r} to import {text} from, in {os.getcwd()} or "
                "the interpreter's path; set WorkingDirectory= (gen --chdir) to the directory "
                "that contains it, or set PYTHONPATH"
            ) from missing
        raise


def _run_file(path: str) -> Any:
    """Load a file as a module; its name need not be a module's name."""
    from types import ModuleType

    stem = "".join(c if c.isalnum() else "_" for c in os.path.basename(path).rpartition(".")[0])
    # Prefixed, since the plain name could be that of another module: site.wsgi
    module = ModuleType(f"_wsgi_{stem}")
    module.__file__ = path
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ImportFailed(
            f"can't read {path} in {os.getcwd()}: {error.strerror}; give the file's absolute path"
        ) from error
    sys.modules[module.__name__] = module  # so that its classes can be pickled
    with _explained(f"running {path}"):
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102
    return module


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn exceptions of the site's code into ImportFailed."""
    try:
        yield
    except (Exception, SystemExit) as error:
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip()
        raise ImportFailed(f"{what} failed:\n{text}") from error
