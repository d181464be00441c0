"""Read a Django site's settings without running them: only names bound to literals.

The settings are found by DJANGO_SETTINGS_MODULE, in the unit's Environment= or in the module of the
application. Computed values (from the environment, from another module) are unknown.
"""

import ast
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sdactivate.doctor import uwsgi_options
from sdactivate.doctor.checks import common
from sdactivate.systemd.unitfile import Unit

_MOST = 1 << 18  # bytes of a module that are read
_NAMES_IT = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*[\],]\s*=?\s*["']([\w.]+)["']""")
_APPLICATION = re.compile(r"((?:\w+\.)*\w+)(?::\w+(?:\(\))?)?")
_ROOTS = ("--chdir", "--pythonpath", "--app-dir")
_OF_DEBUG = (".localhost", "127.0.0.1", "[::1]")
"""The hosts that DEBUG = True allows if ALLOWED_HOSTS is empty."""


class Allowed(NamedTuple):
    """The hosts that a site answers for, and where they are set."""

    hosts: tuple[str, ...]
    file: str
    line: int

    def has(self, host: str) -> bool:
        """Return whether requests for `host` are answered. A leading dot covers all subdomains."""
        name = _without_port(host).lower().rstrip(".")
        return any(
            pattern == "*"
            or pattern.lower() == name
            or (pattern[:1] == "." and f".{name}".endswith(pattern.lower()))
            for pattern in self.hosts
        )


def read_module(path: str) -> str | None:
    """Return the text of a module; None if it can't be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except (OSError, ValueError):
        return None


Read = Callable[[str], str | None]
"""Reads a module: returns its text by its path, None if there is none."""


def application(service: Unit, read: Read = read_module) -> tuple[str, str] | None:
    """Return the path and the text of the module that a service's command names as application."""
    for word in _named(service):
        if found := _APPLICATION.fullmatch(word.removesuffix(".py").replace("/", ".")):
            for root in _roots(service):
                path = os.path.join(root, *found[1].split(".")) + ".py"
                if (text := read(path)) is not None:
                    return path, text
    return None


def _without_port(host: str) -> str:
    return re.sub(r":\d*$", "", host)


def allowed_hosts(service: Unit, read: Read = read_module) -> Allowed | None:
    """Return ALLOWED_HOSTS of the site that a service runs; None if it is not known."""
    roots = list(_roots(service))
    for module in _settings(service, roots, read):
        for root in roots:
            stem = os.path.join(root, *module.split("."))
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                text = read(path)
                if text is not None:
                    return _bound(text, path)
    return None


def _roots(service: Unit) -> Iterator[str]:
    words = [
        it for entry in service.entries_of("ExecStart") for it in common.command(entry, service)
    ]
    named = [common.resolve(service.value("WorkingDirectory").lstrip("-"), service)]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _ROOTS:
            named.append(value if equals else (words[place + 1 :] or [""])[0])
    for word in service.words("Environment"):
        if word.startswith("PYTHONPATH="):
            named += word.partition("=")[2].split(":")
    if common.server(service) == "uwsgi":
        named += uwsgi_options.values(service, "chdir", "pythonpath", "pp", "python-path")
    yield from dict.fromkeys(it for it in named if it.startswith("/"))


def _settings(service: Unit, roots: list[str], read: Read) -> Iterator[str]:
    for word in reversed(service.words("Environment")):
        if word.startswith("DJANGO_SETTINGS_MODULE="):
            yield word.partition("=")[2]
            return
    if common.server(service) == "uwsgi":
        for name, value in uwsgi_options.options(service):
            if name == "env" and value.startswith("DJANGO_SETTINGS_MODULE="):
                yield value.partition("=")[2]
                return
    for word in _named(service):
        if found := _APPLICATION.fullmatch(word.removesuffix(".py").replace("/", ".")):
            for root in roots:
                text = read(os.path.join(root, *found[1].split(".")) + ".py")
                if text and (says := _NAMES_IT.search(text)):
                    yield says[1]


def _named(service: Unit) -> list[str]:
    """Return the words of a service's command that may name its application."""
    if common.server(service) == "uwsgi":
        return uwsgi_options.values(service, "module", "wsgi", "wsgi-file")
    return [it for entry in service.entries_of("ExecStart")
            for it in common.command(entry, service)[1:]]  # fmt: skip


def _bound(text: str, path: str) -> Allowed | None:
    """Return ALLOWED_HOSTS of a module; None unless exactly one statement sets it to a literal."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    held: dict[str, list[ast.stmt]] = {"ALLOWED_HOSTS": [], "DEBUG": []}
    for statement in body:
        named = {it.id for it in ast.walk(statement) if isinstance(it, ast.Name)}
        for name in held.keys() & named:
            held[name].append(statement)
    if len(held["ALLOWED_HOSTS"]) != 1 or len(held["DEBUG"]) > 1:
        return None
    hosts = _literal(held["ALLOWED_HOSTS"][0], "ALLOWED_HOSTS")
    debug = _literal(held["DEBUG"][0], "DEBUG") if held["DEBUG"] else False
    if not isinstance(hosts, list | tuple) or not all(isinstance(it, str) for it in hosts):
        return None
    if not hosts and debug is not False:
        hosts = _OF_DEBUG
    return Allowed(tuple(hosts), path, held["ALLOWED_HOSTS"][0].lineno)


def _literal(statement: ast.stmt, name: str) -> object:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return None
    if len(statement.targets) != 1 or statement.targets[0].id != name:
        return None
    try:
        found: object = ast.literal_eval(statement.value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return found
