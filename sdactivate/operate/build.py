"""Build a release in transient units with a user of their own, different from the site's.

The user exists only during the build, owns nothing else, and has the whole sandbox of
`sdactivate.sandbox`, with the network only to download packages. In /srv/NAME it sees only its own
release and environment, at their final paths, so that paths written into them stay valid. The
units have low priority.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from sdactivate import sandbox
from sdactivate.errors import Error
from sdactivate.operate import unpack
from sdactivate.operate.layout import Layout, remove
from sdactivate.operate.step_unit import StepFailed, run
from sdactivate.systemd.systemctl import ask, one, show
from sdactivate.systemd.version import host_version

DEADLINE = 3600
"""Seconds that a step of a build may take."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
YIELDING = ("CPUWeight=10", "IOWeight=10", "Nice=10")
"""Low priorities for the units of a release: systemd.resource-control(5)."""


def unit_of(name: str) -> str:
    """Return the unit of a release's steps, only one of which runs at a time."""
    return f"sdactivate-release-{name}.service"


def stop_leftovers(name: str) -> None:
    """Stop the units that a killed release has left running. Raises Error."""
    for unit in (unit_of(name), _holder(name)):
        if one(show(unit, "ActiveState"), "ActiveState") not in ("inactive", "failed"):
            ask(["systemctl", "stop", "--", unit])


def _holder(name: str) -> str:
    return f"sdactivate-builder-{name}.service"


class Build:
    """The build of one release. A context manager: its user exists while it is open."""

    def __init__(self, layout: Layout, identity: str, python: str, environ: dict[str, str]) -> None:
        self.layout = layout
        self.python = python
        """The interpreter that the steps run. Its directory comes first in PATH."""
        self.release = layout.releases / identity
        """The final path of the release; the build's steps see it there, too."""
        self.environment = layout.environments / identity
        """The final path of an environment, if one is built."""
        self.wheels = layout.base / "wheels"
        """The path where a step sees its directory of packages."""
        self.tree = layout.staging / "tree"
        self.made_environment = layout.staging / "environment"
        self.environ = environ
        self.owner = 0
        """The build's user."""
        self._version = host_version()
        self._user = f"build-{hashlib.sha256(layout.name.encode()).hexdigest()[:16]}"

    def __enter__(self) -> "Build":
        self.layout.staging.mkdir(mode=0o700)
        # A unit that has finished but stays active keeps its user, so that all steps have the same.
        ask(
            [
                *("systemd-run", "--quiet", f"--unit={_holder(self.layout.name)}"),
                *("--service-type=oneshot", "--remain-after-exit", "--collect"),
                *("--property=DynamicUser=yes", f"--property=User={self._user}"),
                *("--description", f"The user that builds releases of {self.layout.name}"),
                *("--", "/bin/true"),
            ]
        )
        try:
            self.owner = int(one(show(_holder(self.layout.name), "UID"), "UID"))
            for directory in (self.tree, self.made_environment):
                directory.mkdir(mode=0o700)
                os.chown(directory, self.owner, self.owner)
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
        stop_leftovers(self.layout.name)
        if kind is None:  # otherwise a step may be run again
            remove(self.layout.staging)

    def run(
        self,
        argv: list[str],
        what: str,
        *,
        network: bool = False,
        wheels: str = "",
        stdin: "int | IO[bytes]" = subprocess.DEVNULL,
        again: bool = True,
    ) -> str:
        """Run a step as the build's user in the release, and return the end of its output.

        `wheels`: a directory to mount at `self.wheels`. Raises StepFailed.
        """
        needs = {"jit", "listens"} | ({"network"} if network else set())
        needs |= {"home"} if sandbox.below_home(self.python) else set()
        lines = [row.line for row in sandbox.lines(needs, self._version)]
        base = self.layout.base
        lines += [
            *(f"User={self._user}", "UMask=0022", f"WorkingDirectory={self.release}"),
            *(*YIELDING, "MemoryMax=80%", "TasksMax=1024", f"RuntimeMaxSec={DEADLINE}"),
            # mode=: the build's user must be able to reach the mounts below
            f"TemporaryFileSystem={base}:ro,mode=0755",
            f"BindPaths={self.tree}:{self.release}",
            f"BindPaths={self.made_environment}:{self.environment}",
            f"CacheDirectory={self._user}",
        ]
        used = Path(self.python).parent.parent
        if used.parent == self.layout.environments and used != self.environment:
            lines.append(f"BindReadOnlyPaths={used}")
        if wheels:
            lines.append(f"BindReadOnlyPaths={wheels}:{self.wheels}")
        cache = f"/var/cache/{self._user}"
        variables = {
            "PYTHONNOUSERSITE": "1",
            # The site's state is not here. Files that its settings create in /tmp are dropped.
            "STATE_DIRECTORY": "/tmp",  # noqa: S108 - the unit's own
            **self.environ,
            "HOME": "/tmp",  # noqa: S108
            "PATH": f"{os.path.dirname(self.python)}:{PATH}",
            "PIP_CACHE_DIR": f"{cache}/pip",
            "UV_CACHE_DIR": f"{cache}/uv",
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        return run(
            [
                *("systemd-run", "--quiet", "--collect", "--wait", "--pipe"),
                *(f"--unit={unit_of(self.layout.name)}", "--service-type=exec"),
                f"--description=Build a release of {self.layout.name}",
                *(f"--property={line}" for line in lines),
                *(f"--setenv={name}={value}" for name, value in variables.items()),
                "--",
                *(word.replace("$", "$$") for word in argv),
            ],
            what,
            self.layout.again if again else None,
            stdin,
        )

    def shell(self, command: str, network: bool, what: str = "") -> str:
        """Run a line of shell as a step; see `run`."""
        argv = ["/bin/sh", "-ec", command]
        return self.run(argv, what or command, network=network)

    def unpack(self, source: Path | None) -> str:
        """Unpack `source`, a directory, a tar, or None for standard input, into the release.

        Return the commit that `git archive` recorded in it, or "". Raises Error.
        """
        with ExitStack() as end:
            stdin: int | IO[bytes] = 0
            tar = None
            if source and source.is_dir():
                errors = end.enter_context(tempfile.TemporaryFile())
                tar = end.enter_context(packed(source, errors))
                assert tar.stdout is not None
                stdin = tar.stdout
            elif source:
                stdin = end.enter_context(source.open("rb"))
            program = Path(unpack.__file__).read_text()
            argv = [self.python, "-I", "-S", "-c", program, str(self.release)]
            try:
                said = self.run(argv, "unpack", stdin=stdin, again=False)
            except StepFailed as error:
                raise Error(error.output.strip() or str(error)) from None
            finally:
                if tar and tar.stdout:
                    tar.stdout.close()  # so that tar ends if the reader has ended early
                    if tar.wait() > 0:
                        errors.seek(0)
                        raise Error(_first_words(errors, tar.returncode))
        commit = said.strip()
        return commit if len(commit) <= 64 and commit.isalnum() else ""


def packed(directory: Path, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start tar(1) on a directory, as the directory's owner, so that it can't read root's files.

    Its error messages go to the file `errors`. Left out are the files of version control, .venv
    and __pycache__.
    """
    about = directory.stat()
    owner = about.st_uid if os.geteuid() == 0 else None
    return subprocess.Popen(  # noqa: S603 - a fixed command
        [
            *(shutil.which("tar") or "tar", "--create", "--hard-dereference", "--exclude-vcs"),
            *("--exclude=./.venv", "--exclude=__pycache__", f"--directory={directory}", "."),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        user=owner,
        group=about.st_gid if owner is not None else None,
        extra_groups=[] if owner is not None else None,
        cwd="/",
    )


def _first_words(errors: IO[bytes], code: int) -> str:
    lines = errors.read(4000).decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"tar failed (exit {code})"
