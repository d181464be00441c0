"""The names that docs/stability.md promises, as the code of today has them.

One name a line, its kind first:

    verb doctor                     a verb of the command
    option gen --group              an option of a verb; of gen also a key in a file of sites
    kind nginx                      a value of gen --kind
    setting threads                 in code; --threads and SDACTIVATE_THREADS derive from it
    python serve(application)       a public name, alone, with a parameter or with an attribute
    file system/mysite.socket       a file that gen writes for the site mysite
    line mysite.socket ListenStream=/run/mysite.sock
    rule SDA001                     of the doctor
    check sdactivate.W001           of manage.py check
    manage.py serve                 a command of sdactivate.django
    json who way[].mode             a key of --format json

`python -m tests.stable_names` prints them: tests/stable_names/next.txt.
"""

import ast
import contextlib
import importlib
import inspect
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sdactivate
from sdactivate import cli
from sdactivate.doctor import rules
from sdactivate.generate.kinds import KINDS
from sdactivate.operate.layout import Release
from sdactivate.operate.status import Helper, Status
from sdactivate.settings import TABLE

HERE = Path(__file__).parent
PACKAGE = Path(sdactivate.__file__).parent

# Everything that gives a site a file.
SITE = (
    *("mysite", "--app", "mysite.wsgi:application", "--chdir", "/srv/mysite", "--run-as", "site"),
    *("--front", "nginx", "--server-name", "mysite.test", "--media", "/media/=/srv/media"),
    *("--command", "clearsessions", "--every", "daily", "--by-hand", "migrate"),
    *("--worker", "mail=celery -A mysite worker", "--member", "www-data"),
    *("--listen", "/run/mysite.sock", "--listen", "metrics=/run/metrics/mysite.sock"),
)
# Where a verb's JSON is written down, as a literal.
JSON = {
    "doctor": ("doctor/report.py", "as_json"),
    "doctor --learn": ("doctor/learn/lessons.py", "as_data"),
    "explain": ("doctor/explain.py", "as_json"),
    "who": ("access/who_report.py", "as_json"),
}


def names() -> list[str]:
    """Return the names of today, sorted."""
    return sorted({*_of_the_command(), *_of_python(), *_of_files(), *_of_django(), *_of_json()})


def _of_the_command() -> Iterator[str]:
    for verb, parser in cli.parser().verbs.items():
        yield f"verb {verb}"
        for option in parser._option_string_actions:
            if option.startswith("--"):
                yield f"option {verb} {option}"
    yield from (f"kind {kind}" for kind in KINDS)
    yield from (f"setting {row.name}" for row in TABLE)
    yield from (f"rule {rule.id}" for rule in rules.TABLE)


def _of_python() -> Iterator[str]:
    for name in sdactivate.__all__:
        yield f"python {name}"
        value = getattr(sdactivate, name)
        if inspect.isfunction(value):
            yield from (f"python {name}({one.name})" for one in _parameters(value))
        elif inspect.isclass(value) and not issubclass(value, Exception):
            attributes = {*getattr(value, "__annotations__", ()), *vars(value)}
            own = (one for one in attributes if not one.startswith("_"))
            yield from (f"python {name}.{one}" for one in own)
    module = importlib.import_module("sdactivate.django.protected")
    for one in _parameters(module.protected_file):
        yield f"python django.protected.protected_file({one.name})"


def _parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _of_files() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert cli.main(["gen", *SITE, "--kind", "all", "--out", directory]) == 0
        for path in Path(directory).rglob("*"):
            if path.is_file():
                yield f"file {path.relative_to(directory)}"
    unit = io.StringIO()
    with contextlib.redirect_stdout(unit):
        assert cli.main(["gen", "mysite", "--group", "www-data"]) == 0
    for line in unit.getvalue().splitlines():
        if line.startswith(("ListenStream=", "SocketMode=", "SocketUser=", "SocketGroup=")):
            yield f"line mysite.socket {line}"


def _of_django() -> Iterator[str]:
    source = (PACKAGE / "django" / "checks.py").read_text()
    yield from (f"check {found}" for found in re.findall(r'"(sdactivate\.W\d+)"', source))
    for path in (PACKAGE / "django" / "management" / "commands").glob("[!_]*.py"):
        yield f"manage.py {path.stem}"


def _of_json() -> Iterator[str]:
    for verb, (module, function) in JSON.items():
        tree = ast.parse((PACKAGE / module).read_text())
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for key in _keys(functions[function], functions):
            yield f"json {verb} {key}"
    for field in Status._fields:
        yield f"json status sites[].{field}"
    for field in Helper._fields:
        yield f"json status sites[].background[].{field}"
        yield f"json status sites[].timers[].{field}"
    for field in (*Release._fields, "state"):
        yield f"json releases releases[].{field}"


def _keys(node: ast.AST, functions: dict[str, ast.FunctionDef], at: str = "") -> Iterator[str]:
    """The keys of the literal that a function returns, with those of the functions it calls."""
    match node:
        case ast.FunctionDef():
            for each in ast.walk(node):
                if isinstance(each, ast.Return) and each.value:
                    yield from _keys(each.value, functions, at)
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                if key is None:
                    yield from _keys(value, functions, at)
                elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield f"{at}{key.value}"
                    yield from _keys(value, functions, f"{at}{key.value}.")
        case ast.ListComp():
            yield from _keys(node.elt, functions, f"{at.removesuffix('.')}[].")
        case ast.IfExp():
            yield from _keys(node.body, functions, at)
        case ast.Call(func=ast.Name(id=name)) if name in functions:
            yield from _keys(functions[name], functions, at)
