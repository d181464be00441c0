"""A release's virtual environment: its requirements, the reuse of an equal one, the build.

It is built from requirements.txt or pyproject.toml, with uv if that is installed, else with venv
and pip. The project itself is not installed: it is imported from the service's directory.
"""

import hashlib
import os
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from sdactivate import sandbox
from sdactivate.errors import Error
from sdactivate.terminal import escape

LARGEST = 4 << 20
"""The largest file of requirements, in bytes."""
FILES = ("requirements.txt", "pyproject.toml")
"""The files that list requirements, in the order of preference."""

RESOLVES = "zz-sdactivate-release.pth"
"""A .pth file in the environment's site-packages; its line runs at each start of the interpreter.

An interpreter finds modules by the path it was started with, /srv/NAME/current/.venv. So a
module that is imported late, after a switch to a newer release, would come from that release."""
RESOLVE = "import os, sys; sys.path[:] = [one and os.path.realpath(one) for one in sys.path]\n"

_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)")
_LOCAL = re.compile(r"-e\b|--editable\b|[./]|.*(?:file:|@ *[./])")

# pip has no option to install a project's dependencies without the project.
_PIP_OF_PROJECT = """
import subprocess, sys
try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file).get("project", {})
if "dependencies" in project.get("dynamic", ()):
    sys.exit("pyproject.toml: its dependencies are dynamic; list them, or add a requirements.txt")
sys.exit(subprocess.call(sys.argv[1:] + project.get("dependencies", [])))
"""


class Requirements(NamedTuple):
    """The requirements of an environment."""

    file: str
    """requirements.txt, pyproject.toml or uv.lock."""
    key: str
    """A digest of requirements and interpreter, to find an equal environment; empty: it can't be
    reused, since it includes files of the release itself."""


def find(tree: Path, python: str, uv: str) -> Requirements | None:
    """Return the requirements of the release in `tree`; None if it has no such file.

    `python` is the interpreter, `uv` the path of uv or empty. Raises Error for a file of
    requirements that is missing, too large, or not a regular file.
    """
    file = next((name for name in FILES if (tree / name).exists()), "")
    if not file:
        return None
    seen: dict[str, bytes] = {}
    local = False
    if file == "pyproject.toml":
        seen[file] = _read(tree, file)
        if uv and (tree / "uv.lock").exists():
            file = "uv.lock"
            seen[file] = _read(tree, file)
    else:
        waiting = [file]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen[name] = _read(tree, name)
            for line in seen[name].decode(errors="replace").splitlines():
                line = line.strip()
                if found := _INCLUDE.match(line):
                    if "://" not in found[1]:
                        inside = os.path.normpath(os.path.join(os.path.dirname(name), found[1]))
                        waiting.append(inside)
                    else:
                        local = True  # its content may change
                elif _LOCAL.match(line):
                    local = True
    digest = hashlib.sha256(os.fsencode(python) + b"\0")
    for name, data in sorted(seen.items()):
        digest.update(b"%s %d %s" % (os.fsencode(name), len(data), data))
    return Requirements(file, "" if local else digest.hexdigest())


def _read(tree: Path, name: str) -> bytes:
    if name.startswith(("/", "..")):
        raise Error(f"requirements: {name!r} lies outside the release")
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(tree / name, flags), "rb") as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
                raise Error(f"{name} is not a regular file of at most {LARGEST >> 20} MiB")
            return stream.read(LARGEST)
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = error.strerror if isinstance(error, OSError) else error
        raise Error(f"{escape(name)}: {reason}") from None


def script(file: str, environment: Path, python: str, uv: str, source: list[str]) -> str:
    """Return a shell script that builds an environment at `environment`.

    It must run in the top directory of the release. `source`: options of pip and uv that say where
    packages come from.
    """
    made = f"{environment}/bin/python"
    lines: list[list[str]]
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", made, "--compile-bytecode"]
        lines = [[uv, "venv", "--quiet", "--python", python, str(environment)]]
        if file == "uv.lock":
            export = "export --quiet --frozen --no-dev --no-emit-project --output-file"
            lines.append([uv, *export.split(), "/tmp/uv.txt"])  # noqa: S108 - the unit's own
            file = "/tmp/uv.txt"  # noqa: S108
        lines.append([*install, *source, "--requirement", file])
    else:
        install = [made, "-m", "pip", "install", "--quiet", "--no-input", *source]
        install.append("--disable-pip-version-check")
        lines = [[python, "-m", "venv", str(environment)]]
        if file == "pyproject.toml":
            lines.append([made, "-c", _PIP_OF_PROJECT, *install])
        else:
            lines.append([*install, "--requirement", file])
    return "\n".join(map(shlex.join, lines))


def find_uv() -> str:
    """Return the path of uv if a build can run it; "" otherwise."""
    path = shutil.which("uv") or ""
    return "" if sandbox.below_home(path) else path
