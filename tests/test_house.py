"""The rules of the house, held by looking at the code itself.

What may import what, who may touch a socket, what a serving process must not load, and what every
public name and every verb owes its reader.
"""

import ast
import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import sdactivate
from sdactivate import cli

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = Path(sdactivate.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}

# Lowest first. A module imports what stands in its own row's room or in a lower row, nothing beside
# or above it: neither at the top, nor inside a function, nor for an annotation.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("errors", "terminal", "trust", "sandbox", "suggest", "stdio", "status_record"),
        *("unix_socket", "protected", "bundled", "virtual_environment"),
    ),
    ("app_name", "backends", "fronts", "mounts", "peer_rules", "log", "systemd"),
    ("settings", "front_includes", "front_scopes"),
    ("front_config", "front_upstreams"),
    ("values", "external_servers"),
    ("site",),
    ("access", "launch", "servers"),
    ("generate", "runtime", "doctor"),
    ("install",),
    ("operate",),
    ("django", "cli"),
    ("__main__",),
)
NATIVE: tuple[tuple[str, ...], ...] = (
    ("wire", "wsgi", "concurrency", "shut_idle", "accel"),
    ("pool", "held_bodies", "cgi_environ", "environ_base", "input_stream"),
    ("loop", "pending_output", "forwarded"),
    ("twin",),
    ("connection",),
    ("one_shot", "keepalive", "listener"),
    ("http", "fastcgi"),
    ("probes",),
    ("server",),
)
# What the layers do not say: these parts of a site's life have nothing of one another in memory.
RUNTIME = ("sdactivate.runtime", "sdactivate.servers")
FORBIDDEN = {
    "sdactivate.generate": ("sdactivate.launch", *RUNTIME),
    "sdactivate.install": ("sdactivate.launch", "sdactivate.doctor", *RUNTIME),
    "sdactivate.operate": ("sdactivate.launch", "sdactivate.doctor", *RUNTIME),
    "sdactivate.runtime": ("sdactivate.launch", "sdactivate.access", "jinja2"),
    "sdactivate.servers": ("jinja2",),
    "sdactivate.doctor": ("sdactivate.launch", "jinja2", *RUNTIME),
    "sdactivate.launch": ("jinja2",),
}


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Every module that `tree` imports, by full name; `from a import b` is a.b if that is ours."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            named = (f"{base}.{alias.name}" for alias in node.names)
            yield from {name if name in MODULES else base for name in named}


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize(
    ("package", "layers"), [("sdactivate", LAYERS), ("sdactivate.servers.native", NATIVE)]
)
def test_nothing_names_what_stands_beside_or_above_it(
    package: str, layers: tuple[tuple[str, ...], ...]
) -> None:
    height = {f"{package}.{room}": row for row, rooms in enumerate(layers) for room in rooms}

    def room(module: str) -> str:
        return ".".join(module.split(".")[: package.count(".") + 2])

    inside = [module for module in MODULES if is_in(module, package) and module != package]
    assert {room(module) for module in inside} == height.keys()
    found = [
        (module, name)
        for module in inside
        for name in imports(TREES[module], module)
        if room(name) in height
        and room(name) != room(module)
        and height[room(name)] >= height[room(module)]
    ]
    assert found == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_wings_do_not_import_each_other(room: str) -> None:
    found = [
        (module, name)
        for module, tree in TREES.items()
        if is_in(module, room)
        for name in imports(tree, module)
        if any(is_in(name, wing) for wing in FORBIDDEN[room])
    ]
    assert found == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Neither at the top nor inside a function, nor for an annotation."""
    graph = {
        module: {name for name in imports(tree, module) if name in MODULES and name != module}
        for module, tree in TREES.items()
    }
    TopologicalSorter(graph).prepare()  # a CycleError names the modules


# Calls by which a socket is made, given away or taken away, and by which privileges are dropped.
PRIVILEGED = {
    *("bind", "listen", "umask", "mknod", "chmod", "lchmod", "fchmod", "chown", "lchown", "fchown"),
    *("unlink", "rename", "renames", "setuid", "setgid", "setresuid", "setresgid", "setreuid"),
    *(
        "setregid",
        "seteuid",
        "setegid",
        "setgroups",
        "initgroups",
        "chroot",
        "capset",
        "rmtree",
        "rmdir",
        "move",
    ),
}
# What the same call means elsewhere, and why it is none of a socket's.
ELSEWHERE = {
    # A child that becomes the account that is asked about, connects, reports and exits.
    "sdactivate.access.connect": {"chroot", "setgroups", "setresgid", "setresuid", "capset"},
    # A link to a unit that is gone, in a .wants directory; a socket that its unit has left.
    "sdactivate.install.manager": {"unlink"},
    # .pyc files are written with the rights of their directory's owner, and put in place whole.
    "sdactivate.install.bytecode": {
        *("seteuid", "setegid", "setgroups", "fchmod", "fchown", "replace", "unlink"),
    },
    # A release's files become root's as they are copied from what its build has made.
    "sdactivate.operate.take_over": {"fchmod", "fchown"},
    # The same program unpacks them, in the build's sandbox.
    "sdactivate.operate.unpack": {"fchmod"},
    # The directory that a build writes to becomes its user's.
    "sdactivate.operate.build": {"chown"},
    # The link to a release that was the first and failed, and records of releases.
    "sdactivate.operate.layout": {"chmod", "unlink"},
    # A file that the watched command's user reads.
    "sdactivate.doctor.learn.hook_directory": {"chmod", "rmtree"},
    # A unit or a configuration file is written aside, given the group that is to read it, and put
    # in its place whole.
    "sdactivate.install.atomic_write": {"fchmod", "fchown", "replace", "unlink"},
    # So is one that is changed: it keeps its owner and its mode.
    "sdactivate.install.rewrite": {"fchmod", "fchown", "replace", "unlink"},
}


def privileged(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            # Strings have a replace() and lists a remove() too.
            receiver = ast.unparse(node.func.value).lower()
            ours = name in ("replace", "remove") and (receiver == "os" or "path" in receiver)
            if ours or name in PRIVILEGED:
                yield name


def test_only_launch_binds_owns_removes_and_drops() -> None:
    found = {module: set(privileged(tree)) for module, tree in TREES.items()}
    others = {
        module: calls
        for module, calls in found.items()
        if calls and not is_in(module, "sdactivate.launch")
    }
    assert others == ELSEWHERE


SERVING = {
    "import": "from sdactivate import inherited_sockets, notify, serve",
    "verb": "from sdactivate import cli, serve; cli.parser(['serve'])",
}
NOT_WHILE_SERVING = {
    *("jinja2", "sdactivate.generate", "sdactivate.install", "sdactivate.doctor"),
    *("sdactivate.operate", "sdactivate.access", "sdactivate.launch"),
    *("sdactivate.external_servers", "sdactivate.site"),
    *("asyncio", "email", "http.server", "logging", "multiprocessing", "socketserver"),
    *("urllib.request", "unittest", "wsgiref.simple_server", "xml", "django"),
}


@pytest.mark.parametrize("way", SERVING)
def test_a_serving_process_loads_nothing_of_the_other_wings(way: str) -> None:
    forbidden = NOT_WHILE_SERVING | ({"argparse", "sdactivate.cli"} if way == "import" else set())
    program = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {SERVING[way]}"
    program += "; import json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", program], timeout=60, text=True)
    loaded = json.loads(output)
    assert "sdactivate.runtime.serve" in loaded
    assert [name for name in loaded if any(is_in(name, room) for room in forbidden)] == []


def test_import_sdactivate_alone_costs_nothing() -> None:
    program = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import sdactivate"
    program += "; print(*(m for m in sys.modules if m.startswith('sdactivate')))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "sdactivate\n"


def public(
    tree: ast.Module | ast.FunctionDef | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """A module's public functions and classes, with the methods of those a user can import."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if node.name in sdactivate.__all__:
                yield from public(node)


# Names that somebody else gave, and where what they do is said.
DESCRIBED_ELSEWHERE = {
    "sdactivate.cli": {"add_arguments", "run"},  # of every verb: sdactivate/cli/__init__.py
    "sdactivate.django": {"Command", "SdactivateConfig"},  # Django's: a command has its `help`
}
# Each function is a row of doctor/rules.py, which says what it finds and why that is wrong.
A_TABLE_OF_CHECKS = "sdactivate.doctor.checks"


@pytest.mark.parametrize("module", [name for name, tree in TREES.items() if tree.body])
def test_public_names_say_what_they_do(module: str) -> None:
    tree = TREES[module]
    assert ast.get_docstring(tree), "the module itself says nothing"
    described = {
        name for room, names in DESCRIBED_ELSEWHERE.items() if is_in(module, room) for name in names
    }
    missing = {node.name for node in public(tree) if not ast.get_docstring(node)} - described
    assert is_in(module, A_TABLE_OF_CHECKS) or missing == set()


def commands(text: str) -> Iterator[list[str]]:
    """The `sdactivate …` command lines in `text`, without what is the shell's or the reader's."""
    text = re.sub(r"\s*\\\n\s*", " ", text)
    command_line = r"\s*(?:[$#] |sudo )*sdactivate (.*?)(?=  | [0-9]*[|>&;<]|#|$)"
    for line in text.splitlines():
        if command := re.match(command_line, line):
            yield shlex.split(command[1])


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_examples_that_it_understands(verb: str) -> None:
    module = import_module(f"sdactivate.cli.{verb}")
    assert module.SUMMARY
    assert "\n" not in module.SUMMARY
    examples = [words for words in commands(module.EXAMPLES) if words[:1] == [verb]]
    assert examples
    for words in examples:
        parse(words)


DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "units/*.md") for path in CHECKOUT.glob(pattern)
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_documents_show_commands_that_are_understood_and_files_that_exist(document: Path) -> None:
    text = document.read_text()
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for words in commands("".join(blocks)):
        parse(words)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / target).exists(), target


def test_the_map_is_the_code_s() -> None:
    run = [sys.executable, str(CHECKOUT / "script" / "map.py"), "--check"]
    assert subprocess.run(run, timeout=60).returncode == 0, "run script/map.py"


def parse(words: list[str]) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.parser().parse_args(words)
        except SystemExit as leaving:
            if leaving.code == 0:  # it asks for help
                return
            pytest.fail(f"sdactivate {shlex.join(words)}\n{said.getvalue()}")
