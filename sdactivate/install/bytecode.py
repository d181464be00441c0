"""Compile a site's code to .pyc files without running it, and without root's rights.

A service can't write .pyc files, and without them each cold start would compile everything. But
compiling as root must not give root's rights to the owner of the code (docs/hardening.md):

- The site's interpreter compiles without privileges: in a transient unit with a user of its own
  and the sandbox of `sdactivate.sandbox`, or as the user nobody if systemd does not run. It gets
  sources through a pipe and returns bytecode; it sees no file of the site. `-I -S` prevent .pth
  files, sitecustomize and usercustomize, through which packages of a virtual environment would run
  code at its start.
- Sources are read, and .pyc files written, with the rights of each directory's owner, and through
  descriptors of the directories, so that no symbolic link is followed.
"""

import os
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from sdactivate import sandbox
from sdactivate.errors import Error
from sdactivate.systemd.version import host_version

DEADLINE = 300
"""Seconds that compiling a tree may take."""
LARGEST_SOURCE = 8 << 20
"""The largest source that is compiled, in bytes."""
LARGEST_ANSWER = 64 << 20
"""The longest answer that the compiling process may give, in bytes."""
EXIT_EXEC = 203
"""The exit status of systemd-run if the command can't be executed: systemd.exec(5)."""
NOBODY = 65534
"""The user and group nobody, which own nothing."""

# It writes the tag of its .pyc files and its magic number. Then it reads pairs of name and source,
# and answers each with the code, or with nothing if it can't be compiled. A length of four bytes
# precedes each part.
PROGRAM = """
import importlib.util, marshal, os, sys
def take():
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
def give(data):
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()
give(sys.implementation.cache_tag.encode())
give(importlib.util.MAGIC_NUMBER)
while name := take():
    try:
        code = marshal.dumps(compile(take(), os.fsdecode(name), "exec", dont_inherit=True))
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, ValueError):
        code = b""
    give(code)
"""


class Result(NamedTuple):
    """What could not be compiled. The sources' names are those that the site uses."""

    invalid: list[str]
    """Sources that are not valid in this Python, and so could not be imported either."""
    failed: dict[str, str]
    """Sources that could not be read, or whose .pyc files could not be written, with the reason."""


def compile_tree(directory: Path, shown: str, python: str) -> Result:
    """Write the .pyc files that are missing or out of date below `directory`.

    `shown` is the path that the site will have for the directory, for tracebacks; `python` is the
    interpreter that will run the code. Symbolic links are not followed, except `directory` itself.

    Raises Error if the interpreter can't be run or does not finish within DEADLINE.
    """
    result = Result([], {})
    with _Compiler(python) as compiler:
        top = directory.resolve()
        for folder, _, names, descriptor in os.fwalk(top):
            here = Path(shown, Path(folder).relative_to(top))
            with _as_owner(os.fstat(descriptor)):
                for name in sorted(name for name in names if name.endswith(".py")):
                    try:
                        if not _compile(compiler, descriptor, name, str(here / name)):
                            result.invalid.append(str(here / name))
                    except OSError as error:
                        result.failed[str(here / name)] = error.strerror or str(error)
    return result


def _compile(compiler: "_Compiler", folder: int, name: str, shown: str) -> bool:
    """Compile one source unless its .pyc is current; return False if it can't. Raises OSError."""
    if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return True
    # Without O_NONBLOCK, opening would block if a FIFO had replaced the file.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(name, flags, dir_fd=folder), "rb") as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_SOURCE:
            return False
        header = compiler.header(about)
        target = f"{name.removesuffix('.py')}.{compiler.tag}.pyc"
        with _cache(folder) as cache:
            if _is_current(cache, target, header):
                return True
            source = stream.read(LARGEST_SOURCE)
            # If the source changes in the meantime, its time differs and the .pyc is not used.
            code = compiler.compile(shown, source)
            if code:
                _put(cache, target, header + code, about)
            return bool(code)


@contextmanager
def _cache(folder: int) -> Iterator[int]:
    """Open the directory __pycache__ in `folder`, created if missing; a link is refused."""
    name, mode = "__pycache__", os.fstat(folder).st_mode & 0o777
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=folder)
        made = True
    cache = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        if made:
            os.fchmod(cache, mode)  # regardless of root's umask: the service must read it
        yield cache
    finally:
        os.close(cache)


def _is_current(cache: int, name: str, header: bytes) -> bool:
    with suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(name, flags, dir_fd=cache), "rb") as stream:
            return stream.read(len(header)) == header
    return False


def _put(cache: int, name: str, data: bytes, source: os.stat_result) -> None:
    """Write `name` in the directory `cache` atomically, with the source's read permissions."""
    draft = f".{name[:200]}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=cache)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(draft, flags, 0o600, dir_fd=cache), "wb") as stream:
            stream.write(data)
            if os.geteuid() == 0:
                os.fchown(stream.fileno(), source.st_uid, source.st_gid)
            os.fchmod(stream.fileno(), source.st_mode & 0o666 | 0o200)
        os.replace(draft, name, src_dir_fd=cache, dst_dir_fd=cache)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=cache)
        raise


@contextmanager
def _as_owner(about: os.stat_result) -> Iterator[None]:
    """Run the block with the rights of a directory's owner, and none of root's."""
    if os.geteuid() != 0 or about.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(about.st_gid)
    os.seteuid(about.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


class _Compiler:
    """The site's interpreter, which turns sources into code. A context manager."""

    def __init__(self, python: str) -> None:
        argv = [python, "-I", "-S", "-W", "ignore", "-c", PROGRAM]
        nobody = NOBODY if os.geteuid() == 0 else None
        if nobody and os.path.isdir("/run/systemd/system"):  # sd_booted(3)
            argv, nobody = [*_transient(python), *argv], None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the administrator names it
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
                start_new_session=True,
            )
        except OSError as error:
            raise _not_executed(python, error.strerror) from None
        self._python = python
        self._deadline = threading.Timer(DEADLINE, self._process.kill)
        self._deadline.daemon = True
        self._deadline.start()

    def __enter__(self) -> "_Compiler":
        try:
            self.tag = self._take().decode(errors="replace")
            self._magic = self._take()
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.tag) or len(self._magic) != 4:
                raise Error(f"{self._python} does not answer as a Python interpreter does")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadline.cancel()
        with suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def header(self, source: os.stat_result) -> bytes:
        """Return the first bytes of the .pyc file of `source`: PEP 552, checked by time."""
        numbers = (0, int(source.st_mtime), source.st_size)
        return self._magic + b"".join(
            (number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers
        )

    def compile(self, name: str, source: bytes) -> bytes:
        """Return the code of `source`; b"" if it can't be compiled."""
        try:
            for part in (os.fsencode(name), source):
                self._stdin.write(len(part).to_bytes(4, "big") + part)
            self._stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._take()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _take(self) -> bytes:
        return self._read(int.from_bytes(self._read(4), "big"))

    def _read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        if length > LARGEST_ANSWER:
            raise Error(f"{self._python} does not answer as a Python interpreter does")
        data = self._process.stdout.read(length)
        if len(data) < length:
            raise self._ended()
        return data

    def _ended(self) -> Error:
        assert self._process.stderr is not None
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(1) == EXIT_EXEC:
                return _not_executed(self._python, "status 203/EXEC")
        self._process.kill()
        said = self._process.stderr.read(4000).decode(errors="replace").strip().splitlines()
        return Error(f"{self._python} ended while it compiled{': ' + said[-1] if said else ''}")


def _not_executed(python: str, why: str | None) -> Error:
    """The error for an interpreter that an unprivileged user, and so a service, can't run."""
    where = sandbox.below_home(python)
    link = f"it leads to {where}; " if where not in ("", python) else ""
    move = f" ({link}other users can't reach a home directory: use one in /usr or /opt)"
    return Error(f"{python}: {why}{move if where else ''}")


def _transient(python: str) -> list[str]:
    """Return the command that runs `python` in a unit of its own: systemd-run(1)."""
    needs = {"home"} if sandbox.below_home(python) else set()
    rows = sandbox.lines(needs, host_version())
    lines = [row.line for row in rows] + [f"RuntimeMaxSec={DEADLINE}"]
    return [
        *("systemd-run", "--pipe", "--wait", "--quiet", "--collect", "--service-type=exec"),
        *(f"--property={line}" for line in lines),
    ]
