"""Check for .pyc files: a service that can't write them compiles modules at each start.

Python ignores a .pyc file of another interpreter or of an older source (PEP 3147, PEP 552). Such a
file counts as missing here.
"""

import ast
import glob
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from warnings import catch_warnings, simplefilter

from sdactivate.doctor import variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Case, Command, Hit
from sdactivate.systemd.unitfile import Unit

_LARGEST = 1 << 20  # bytes of a source that is looked at
_HEADER = 16  # bytes: magic number, flags, then time and size, or a hash (PEP 552)
_BY_HASH = 1
_CPYTHON = re.compile(r"python(3)\.(\d+)(t?)")
_PYPY = re.compile(r"pypy(3)\.(\d+)()")
_WORD = 0xFFFFFFFF  # time and size are held in 32 bits


def not_compiled(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        directory = common.resolve(service.value("WorkingDirectory").lstrip("-"), service)
        strict = service.value("ProtectSystem") == "strict" or common.is_dynamic(service)
        if not directory.startswith("/") or not strict or _is_elsewhere(service):
            continue
        program = interpreter(service)
        tag = cache_tag(program)
        sources = _sources(Path(directory))
        missing = [it for it in sources if not is_compiled(it, tag) and _can_be_compiled(it)]
        if missing:
            stale = sum(_has_any(it) for it in missing)
            old = f" ({stale} have one that is out of date or from another Python)" if stale else ""
            option = ("--python", program) if program else ()
            yield Hit(
                service.name,
                f"{len(missing)} of {len(sources)} modules in {directory} have no current .pyc "
                f"file{old}, and the service may not write any",
                Command((_ourselves(), "compile", directory, *option), True),
                path=directory,
            )


def _is_elsewhere(service: Unit) -> bool:
    return bool(variables.value(service, "PYTHONPYCACHEPREFIX"))


def _ourselves() -> str:
    """Return `sdactivate` if PATH has the command, else the path of this installation's."""
    beside = os.path.join(os.path.dirname(sys.executable), "sdactivate")
    return "sdactivate" if shutil.which("sdactivate") else beside


def _sources(directory: Path, most: int = 2000) -> list[Path]:
    found: list[Path] = []
    for top, directories, files in os.walk(directory):
        directories[:] = sorted(
            it for it in directories if not it.startswith(".") and it not in ("node_modules",)
        )
        sources = (Path(top, name) for name in files if name.endswith(".py"))
        # A link's target is compiled in its own directory, if at all.
        found += [path for path in sources if not path.is_symlink()]
        if len(found) >= most:
            break
    return found[:most]


def _can_be_compiled(source: Path) -> bool:
    """Return whether a source is not empty and is valid Python 3, unlike a template.

    It is only parsed, not run: it is not trusted, and this process is root's.
    """
    text = _read(source, _LARGEST + 1)
    try:
        with catch_warnings():
            simplefilter("ignore")  # warnings about invalid escape sequences
            ast.parse(text, source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return 0 < len(text) <= _LARGEST


def _read(path: str | Path, most: int) -> bytes:
    """Return the beginning of a file; b"" if it can't be read or is not a regular file.

    The file is not trusted: O_NONBLOCK, because opening a FIFO would block.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


def is_compiled(source: Path, tag: str = "") -> bool:
    """Return whether Python finds a .pyc file of `source` as it is now.

    tag: the interpreter's, such as cpython-311; "" for any.
    """
    return any(_is_current(it, source) for it in _files(source) if not tag or _tag(it) == tag)


def _has_any(source: Path) -> bool:
    return next(_files(source), None) is not None


def _files(source: Path) -> Iterator[Path]:
    """Return its .pyc files, except those of python -O, which only python -O reads."""
    pattern = f"__pycache__/{glob.escape(source.stem)}.*.pyc"
    return (it for it in source.parent.glob(pattern) if _stem(it) == source.stem)


def _stem(file: Path) -> str:
    return file.name.removesuffix(".pyc").rpartition(".")[0]


def _tag(file: Path) -> str:
    return file.name.removesuffix(".pyc").rpartition(".")[2]


def _is_current(file: Path, source: Path) -> bool:
    header = _read(file, _HEADER)
    if len(header) < _HEADER:
        return False
    flags, changed, size = (int.from_bytes(header[at : at + 4], "little") for at in (4, 8, 12))
    if flags & _BY_HASH:  # only the interpreter can compare the hash
        return True
    status = source.stat()
    return (changed, size) == (int(status.st_mtime) & _WORD, status.st_size & _WORD)


def interpreter(service: Unit) -> str:
    """Return the path of the interpreter that a service runs; "" if it is not known.

    For a script such as gunicorn, the first line names it.
    """
    for entry in service.entries_of("ExecStart"):
        program = (*common.command(entry, service), "")[0]
        if not program.startswith("/"):
            continue
        if _is_python(program):
            return program
        named = of_script(program)
        if named.startswith("/") and _is_python(named):
            return named
    return ""


def of_script(program: str) -> str:
    """Return the program that the first line of a script names (execve(2)); "" if it has none."""
    first = os.fsdecode(_read(os.path.realpath(program), 256).partition(b"\n")[0])
    return next(iter(first.removeprefix("#!").split()), "") if first.startswith("#!") else ""


def _is_python(program: str) -> bool:
    return os.path.basename(program).startswith(("python", "pypy"))


def cache_tag(program: str) -> str:
    """Return the tag of the .pyc files that an interpreter reads; "" if its name doesn't tell.

    The interpreter is not run, because it may belong to the site.
    """
    name = os.path.basename(os.path.realpath(program)) if program else ""
    for pattern, kind in ((_CPYTHON, "cpython-"), (_PYPY, "pypy")):
        if found := pattern.fullmatch(name):
            return kind + "".join(found.groups())
    return ""
