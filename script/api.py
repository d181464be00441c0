#!/usr/bin/env python3
"""Write docs/api.md: the public Python names, from their signatures and docstrings.

python script/api.py            write it
python script/api.py --check    exit 1 if the page differs from the code
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from script import generated  # noqa: E402

DOCUMENT = CHECKOUT / "docs" / "api.md"

HEAD = """\
# The Python API

What a program may import. `script/api.py` makes this page from the docstrings, and the tests run
its examples.
"""
PUBLIC = """\
`import sdactivate` loads nothing else: each of its names is imported when it is first used.
`sdactivate.__version__` is the version, as a string. The settings that `serve` takes are in
[settings](settings.md).
"""
DJANGO = """\
What `INSTALLED_APPS += ["sdactivate.django"]` adds, the commands of manage.py and the system
checks, is in [Django](django.md).
"""
ERRORS = """\
Each message says what to do next. `serve` and the command `sdactivate` write it to standard error
and exit with the code in the table; `inherited_sockets` and `Site` raise it. Catch
`sdactivate.Error` for all of them, `sdactivate.ActivationError` for those of the sockets.
"""
REQUEST = """\
A native server raises these in the thread that serves a request, where the application reads the
body or writes the response. They are not errors of the kit.
"""

ROOT = "sdactivate/__init__.py"
FIRST = ("serve", "inherited_sockets", "InheritedSocket", "notify", "Site")
"""The names that are not errors, in the order of the page."""
OTHERS = ("sdactivate/django/protected.py:protected_file",)
"""Public names besides those of `sdactivate.__all__`: file and name."""
WSGI = "sdactivate/servers/native/wsgi.py"
"""The module of the exceptions that an application can get during a request."""


class Raised(NamedTuple):
    """An exception class: its file, its node, and the names of its base classes."""

    file: str
    node: ast.ClassDef
    bases: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module that it is imported from."""
        return module(self.file)


def module(file: str) -> str:
    """Return the dotted name of the module in `file`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def tree(file: str) -> ast.Module:
    """Return the parsed source of `file`."""
    return ast.parse((CHECKOUT / file).read_text(encoding="utf-8"))


def definition(file: str, name: str) -> ast.FunctionDef | ast.ClassDef:
    """Return the function or class that `file` defines as `name`."""
    return next(
        node
        for node in tree(file).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    )


def public() -> dict[str, str]:
    """Return the file of each name of `sdactivate.__all__`, in alphabetical order."""
    for node in tree(ROOT).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ROOMS":
            rooms: dict[str, str] = ast.literal_eval(node.value)
            return {name: room.replace(".", "/") + ".py" for name, room in rooms.items()}
    raise ValueError(f"{ROOT} does not say where its names are")


def classes() -> dict[str, Raised]:
    """Return every class of the package by its name, with the names of its bases."""
    found = {}
    for path in sorted((CHECKOUT / "sdactivate").rglob("*.py")):
        file = str(path.relative_to(CHECKOUT))
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                found[node.name] = Raised(file, node, bases)
    return found


def errors(known: dict[str, Raised], base: str = "Error") -> Iterator[str]:
    """Yield `base` and the classes derived from it, each after its base."""
    yield base
    for name, raised in known.items():
        if raised.bases[:1] == (base,):
            yield from errors(known, name)


def bases(raised: Raised) -> str:
    """Return the base classes of an exception, for a table cell."""
    return ", ".join(f"`{name}`" for name in raised.bases)


def exit_code(known: dict[str, Raised], name: str) -> int:
    """Return the exit code of an error: its own, else its base's."""
    for node in known[name].node.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "exit_code":
            return int(ast.literal_eval(node.value))
    return exit_code(known, known[name].bases[0])


def signature(node: ast.FunctionDef, name: str) -> str:
    """Return how `name` is called, with the types."""
    given = node.args
    words = [
        *map(
            argument,
            given.args,
            [*[None] * (len(given.args) - len(given.defaults)), *given.defaults],
        ),
        *(f"*{argument(it)}" for it in [given.vararg] if it),
        *(["*"] if given.kwonlyargs and not given.vararg else []),
        *map(argument, given.kwonlyargs, given.kw_defaults),
        *(f"**{argument(it)}" for it in [given.kwarg] if it),
    ]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(words)}){returns}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){returns}"


def argument(one: ast.arg, default: ast.expr | None = None) -> str:
    """Return an argument as written in a signature, with its default."""
    value = "" if default is None else f" = {ast.unparse(default)}".replace("'", '"')
    return ast.unparse(one) + value


_ITEM = re.compile(r"(?P<names>\w+(?:, \w+)*): (?P<text>.*)")


def markdown(text: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring as Markdown: arguments as lists, examples as Python."""
    code: list[str] = []
    for block in re.split(r"\n\n", inspect.cleandoc(text)):
        if block.startswith("    "):
            code.append(inspect.cleandoc("\n" + block))
            continue
        if code:
            yield "```python\n" + "\n\n".join(code) + "\n```"
            code = []
        head, _, rest = block.partition("\n")
        if head.endswith(":") and rest.startswith("    "):
            yield f"{head}\n\n" + "\n".join(items(inspect.cleandoc("\n" + rest)))
        elif _ITEM.match(head):
            yield "\n".join(items(block))
        else:
            yield linked(block)
    if code:
        yield "```python\n" + "\n\n".join(code) + "\n```"


def items(block: str) -> Iterator[str]:
    """Yield a list of a block's items, each "name, name: text" with its further lines indented."""
    for line in block.splitlines():
        if found := _ITEM.match(line):
            names = ", ".join(f"`{name}`" for name in found["names"].split(", "))
            yield f"- {names}: {linked(found['text'])}"
        else:
            yield f"  {linked(line.strip())}"


def linked(text: str) -> str:
    """Return `text` with the pages of docs/ that it names as links."""
    return re.sub(r"\bdocs/((\w[\w-]*)\.md)\b", r"[\2](\1)", text)


def cell(text: str) -> str:
    """Return `text` as a cell of a table."""
    return linked(" ".join(text.split())).replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Return the docstring of `node`. Raises ValueError if it has none."""
    if text := ast.get_docstring(node):
        return text
    raise ValueError(f"{node.name} has no docstring")


def fields(file: str, node: ast.ClassDef) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a class's fields: name, type, default, and the docstring after it."""
    source = (CHECKOUT / file).read_text(encoding="utf-8")
    for one, behind in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(one, ast.AnnAssign):
            continue
        said = behind.value if isinstance(behind, ast.Expr) else None
        if not isinstance(said, ast.Constant):
            raise ValueError(f"{node.name}.{ast.unparse(one.target)} has no docstring")
        value = ast.get_source_segment(source, one.value) if one.value else ""
        value = {"field(default_factory=dict)": "{}"}.get(value or "", value)
        cells = (ast.unparse(one.target), ast.unparse(one.annotation), value)
        yield (
            *(f"`{it}`".replace("|", "\\|") if it else "" for it in cells),
            cell(str(said.value)),
        )


def members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the public properties of a class: name and docstring."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.decorator_list and one.name[0] != "_":
            yield f"`{one.name}`", cell(docstring(one).partition("\n\n")[0])


def of_name(name: str, file: str, dotted: str) -> Iterator[str]:
    """Yield the section of a public name."""
    node = definition(file, name)
    yield f"## {dotted}\n"
    if isinstance(node, ast.FunctionDef):
        yield f"```text\n{signature(node, dotted)}\n```\n"
    yield "\n\n".join(markdown(docstring(node))) + "\n"
    if isinstance(node, ast.ClassDef):
        yield table(("field", "type", "default", "what it is"), fields(file, node)) + "\n"
        if rows := list(members(node)):
            yield table(("property", "what it is"), rows) + "\n"


def of_errors() -> Iterator[str]:
    """Yield the section of the errors."""
    known = classes()
    names = public()

    def row(name: str) -> tuple[str, ...]:
        room = "sdactivate" if name in names else known[name].module
        # without the example and the line that introduces it
        lead = [part for part in docstring(known[name].node).split("\n\n") if part[-1:] == "."]
        said = " ".join(part for part in lead if not part.startswith("    "))
        return f"`{room}.{name}`", bases(known[name]), str(exit_code(known, name)), cell(said)

    yield f"## Errors\n\n{ERRORS}"
    yield (
        table(
            ("error", "is a", "exit code", "raised where"),
            map(row, errors(known)),
        )
        + "\n"
    )
    for name in errors(known):
        parts = list(markdown(docstring(known[name].node)))
        if any(part.startswith("```") for part in parts):
            yield "\n\n".join(parts[1:]) + "\n"
    yield f"### In a request\n\n{REQUEST}"
    yield (
        table(
            ("exception", "is a", "raised where"),
            (
                (f"`{it.module}.{name}`", bases(it), cell(docstring(it.node)))
                for name, it in known.items()
                if it.file == WSGI and {*it.bases} & {"Exception", "OSError"}
            ),
        )
        + "\n"
    )


def whole() -> str:
    """Return the page."""
    lines = [HEAD, PUBLIC]
    names = public()
    is_error = set(errors(classes()))
    for name in sorted(set(names) - is_error, key=FIRST.index):
        lines += of_name(name, names[name], f"sdactivate.{name}")
    for place in OTHERS:
        file, _, name = place.partition(":")
        lines += of_name(name, file, f"{module(file)}.{name}")
    lines += [DJANGO, *of_errors()]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(generated.main(DOCUMENT, whole()))
