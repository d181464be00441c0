"""Read a Django site's settings without running them: names bound to literals, and plain paths.

The settings are found by DJANGO_SETTINGS_MODULE, in the unit's variables or in the module of the
application. Computed values (from the environment, from another module) are unknown, except for
paths in the usual forms: BASE_DIR / "static", os.path.join(BASE_DIR, "static").
"""

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sdactivate.doctor import text_file, uwsgi_options, variables
from sdactivate.doctor.checks import common
from sdactivate.systemd.unitfile import Unit

NAMES_IT = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*[\],]\s*=?\s*["']([\w.]+)["']""")
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
    return text_file.read(path)


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
    path, text = _module(service, read)
    return _bound(text, path) if path else None


def _module(service: Unit, read: Read) -> tuple[str, str]:
    """Return the path and the text of a site's settings; ("", "") where they can't be read."""
    roots = list(_roots(service))
    for module in _settings(service, roots, read):
        for root in roots:
            stem = os.path.join(root, *module.split("."))
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                text = read(path)
                if text is not None:
                    return path, text
    return "", ""


class Settings(NamedTuple):
    """The settings of a site as its module has them."""

    file: str
    values: Mapping[str, object]
    """The names that are bound once, to a literal or a plain path."""
    bound: Mapping[str, int]
    """All names that are bound, with the line that binds them last."""
    is_whole: bool
    """Whether nothing else can bind a name: no `from … import *`, and no call of globals()."""

    def lacks(self, name: str) -> bool:
        """Whether a setting certainly has Django's default."""
        return self.is_whole and name not in self.bound

    def words(self, name: str) -> list[str]:
        """Return a setting that is a list or tuple of strings; [] for another."""
        value = self.values.get(name)
        held = value if isinstance(value, list | tuple) else []
        return [it for it in held if isinstance(it, str)]

    def text(self, name: str) -> str:
        """Return a setting that is a string or a path; "" for another."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""


def settings(service: Unit, read: Read = read_module) -> Settings | None:
    """Return the settings of the site that a service runs; None where they can't be read."""
    path, text = _module(service, read)
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _held(path, body) if path else None


def _held(path: str, body: list[ast.stmt]) -> Settings:
    values: dict[str, object] = {}
    bound: dict[str, int] = {}
    whole = True
    for statement in body:
        whole = whole and not (
            isinstance(statement, ast.ImportFrom) and any(it.name == "*" for it in statement.names)
        )
        names = {
            it.id
            for it in ast.walk(statement)
            if isinstance(it, ast.Name) and isinstance(it.ctx, ast.Store)
        }
        whole = whole and not any(
            isinstance(it, ast.Name) and it.id in ("globals", "locals", "vars", "exec")
            for it in ast.walk(statement)
        )
        plain = isinstance(statement, ast.Assign) and len(names) == 1
        for name in names:
            values.pop(name, None)
            if plain and name not in bound and (found := _value(statement, values, path)):
                values[name] = found[0]
            bound[name] = statement.lineno
    return Settings(path, values, bound, whole)


def _value(statement: ast.stmt, known: Mapping[str, object], path: str) -> tuple[object] | None:
    """Return what a statement binds, as the only item of a tuple; None where it is not plain."""
    assert isinstance(statement, ast.Assign)
    try:
        return (ast.literal_eval(statement.value),)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    try:
        found = _path(statement.value, known, path)
    except RecursionError:
        return None
    return None if found is None else (found,)


_UP = ("parent", "dirname")
_SAME = ("Path", "resolve", "absolute", "abspath", "realpath", "str", "fspath")


def _path(node: ast.expr, known: Mapping[str, object], file: str) -> str | None:
    """Return the path that an expression of the usual forms stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        value = file if node.id == "__file__" else known.get(node.id)
        return value if isinstance(value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [_path(it, known, file) for it in (node.left, node.right)]
        return None if None in parts else os.path.join(*(it for it in parts if it is not None))
    if isinstance(node, ast.Attribute) and node.attr in _UP:
        inner = _path(node.value, known, file)
        return None if inner is None else os.path.dirname(inner)
    if not isinstance(node, ast.Call):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    called = node.func.id if isinstance(node.func, ast.Name) else called
    arguments = [_path(it, known, file) for it in node.args]
    if isinstance(node.func, ast.Attribute) and (called == "joinpath" or not node.args):
        arguments.insert(0, _path(node.func.value, known, file))  # Path(__file__).resolve()
    held = [it for it in arguments if it is not None]
    if len(held) != len(arguments) or not held:
        return None
    if called in ("join", "joinpath", "Path"):
        return os.path.normpath(os.path.join(*held))
    if called in _UP:
        return os.path.dirname(held[0])
    return held[0] if called in _SAME else None


def _roots(service: Unit) -> Iterator[str]:
    words = common.words(service)
    named = [common.resolve(service.value("WorkingDirectory").lstrip("-"), service)]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _ROOTS:
            named.append(value if equals else (words[place + 1 :] or [""])[0])
    named += variables.value(service, "PYTHONPATH").split(":")
    if common.server(service) == "uwsgi":
        named += uwsgi_options.values(service, "chdir", "pythonpath", "pp", "python-path")
    yield from dict.fromkeys(it for it in named if it.startswith("/"))


def _settings(service: Unit, roots: list[str], read: Read) -> Iterator[str]:
    if held := variables.value(service, "DJANGO_SETTINGS_MODULE"):
        yield held
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
                if text and (says := NAMES_IT.search(text)):
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
