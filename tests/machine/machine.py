"""A throw-away machine whose PID 1 is a real systemd, ready in about a second.

`install` makes what every machine shows at /opt/sdactivate and /srv/mysite, once for each wheel;
`Machine` boots (machine.sh), runs commands inside, and disappears. Whatever may hang has a
deadline, so that a stuck systemctl fails one test and not the suite. Any number of machines, of any
number of test sessions, live side by side: a machine's names are its own, and so is its network.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from email.parser import Parser
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests import example_site

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CACHE = CHECKOUT / "build" / "machine"
SCRIPT = Path(__file__).with_name("machine.sh")
NGINX = Path(__file__).with_name("nginx.conf")
DAY = 86400

# What is in every machine's /opt/sdactivate besides the wheel and what it requires.
EXTRAS = ("demo", "machine")

# Users besides the distribution's own (root, www-data, nobody): name, number, further group.
USERS = (("alice", 4201, None), ("bob", 4202, "web"))
GROUPS = (("web", 4200),)

ENVIRON = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_PAGER": "",
}


class CommandFailed(subprocess.CalledProcessError):
    """A command failed; the message has what it printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stdout or ''}{self.stderr or ''}"


class Installation(NamedTuple):
    """What machines are made of: a root file system, and the directories shown in it."""

    root: Path
    prefix: Path
    site: Path


# -- before: what is installed, once -------------------------------------------------------------


def install(wheel: Path, root: Path, extras: Sequence[str] = EXTRAS) -> Installation:
    """Return `wheel` with `extras` installed with the example site, for machines over `root`.

    Two steps, each kept under build/machine until its ingredients change: what the wheel
    requires (slow), and on a copy of that the wheel and the site (a second or two). With more than
    the usual extras the first one starts from a copy of the usual one's.
    """
    python = os.path.realpath(root / "usr/bin/python3")

    def make_base(directory: Path) -> None:
        command = '/opt/sdactivate/bin/python -m pip install --quiet --use-pep517 "$@"'
        if base:
            execute(["cp", "-al", f"{base}/.", str(directory)], timeout=60)
        else:
            command = f"/usr/bin/python3 -m venv /opt/sdactivate && {command}"
        _install_step(root, directory, "sh", "-ec", command, "sh", *requires)

    def make(directory: Path) -> None:
        # Hard links: installing the wheel only adds files.
        execute(["cp", "-al", f"{base}/.", str(directory)], timeout=60)
        example_site.copy(directory / "mysite")
        shutil.copy(wheel, directory / "prefix")
        command = """
            cd /opt/sdactivate
            bin/python -m pip install --quiet --no-deps --no-index *.whl
            rm *.whl
            cd /srv/mysite
            rm -rf staticfiles
            STATE_DIRECTORY=/tmp /opt/sdactivate/bin/python manage.py collectstatic --noinput
            /opt/sdactivate/bin/python -m compileall -q .
        """
        _install_step(root, directory, "sh", "-ec", command)

    base: Path | None = None
    with _lock():
        for step in (EXTRAS, extras) if set(extras) > set(EXTRAS) else (extras,):
            requires = _requirements(wheel, step)
            base_key = _key(str(root), python, *requires)
            base = _kept(f"base-{base_key}", make_base)
        key = _key(base_key, wheel.read_bytes(), *(p.read_bytes() for p in example_site.sources()))
        made = _kept(f"made-{key}", make)
    return Installation(root, made / "prefix", made / "mysite")


def wheels(installation: Installation, wheel: Path, *requirements: str) -> Path:
    """Return a directory with `wheel`, what it requires and `requirements`, all as wheels.

    They are for the interpreter of the machine's root, and kept as an installation is.
    """

    def make(directory: Path) -> None:
        execute(["cp", "-al", str(installation.prefix), str(directory)], timeout=60)
        (directory / "mysite").mkdir()
        shutil.copy(wheel, directory / "mysite")
        pip = "/opt/sdactivate/bin/python -m pip wheel --quiet --use-pep517 --wheel-dir /srv/mysite"
        command = f'{pip} /srv/mysite/*.whl "$@"'
        _install_step(installation.root, directory, "sh", "-ec", command, "sh", *requirements)
        shutil.rmtree(directory / "prefix")

    key = _key(str(installation.prefix), wheel.read_bytes(), *requirements)
    with _lock():
        return _kept(f"wheels-{key}", make) / "mysite"


def debian(suite: str, packages: Sequence[str], options: Sequence[str] = ()) -> Path:
    """Return a root file system of another Debian release, with these packages: another systemd.

    `options`: further ones of mmdebstrap(1).
    """
    words = ",".join(packages)

    def make(directory: Path) -> None:
        argv = ["mmdebstrap", "--variant=minbase", f"--include={words}", *options]
        argv += [suite, str(directory)]
        if suite in ("sid", "unstable"):  # a mirror that is behind has lists that are out of date
            argv.insert(1, '--aptopt=Acquire::Check-Valid-Until "false"')
        execute(argv, timeout=900, env={**os.environ, **ENVIRON})

    with _lock():
        return _kept(f"root-{_key(suite, words, *options)}", make)


def asked_for() -> Path:
    """The root file system that MACHINE_ROOT asks for: a directory, or a Debian release."""
    name = os.environ.get("MACHINE_ROOT", "/")
    if "/" in name:
        return Path(name).resolve()
    packages = subprocess.run(
        [CHECKOUT / "script" / "setup", "packages"], check=True, capture_output=True, text=True
    ).stdout
    return debian(name, packages.split())


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _requirements(wheel: Path, extras: Sequence[str]) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    lines = metadata.get_all("Requires-Dist", [])
    return [
        line.partition(";")[0].strip()
        for line in lines
        if "extra ==" not in line
        or any(f"'{extra}'" in line.partition("extra ==")[2] for extra in extras)
    ]


def _key(*ingredients: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in ingredients:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:%b," % (len(data), data))
    return digest.hexdigest()[:16]


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The directory CACHE/name, made if it is not there. What nobody has used for a day goes."""
    directory = CACHE / name
    if not directory.exists():
        for old in CACHE.glob("*-*"):
            if old.stat().st_mtime < time.time() - DAY:
                shutil.rmtree(old)
        draft = CACHE / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        make(draft)
        draft.rename(directory)
    os.utime(directory)
    return directory


def _install_step(root: Path, directory: Path, *command: str) -> None:
    prefix, site = directory / "prefix", directory / "mysite"
    for part in (prefix, site):
        part.mkdir(exist_ok=True)
    for_pip = {name: text for name, text in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    with tempfile.TemporaryDirectory(prefix="sdactivate-install-") as work:
        script = ["sh", str(SCRIPT), "install", work, str(root), str(prefix), str(site)]
        execute([*script, *command], timeout=900, env={**ENVIRON, **for_pip})


# -- a machine -----------------------------------------------------------------------------------


_H = TypeVar("_H", bound="Held")


class Held:
    """A context manager: what `_begin` puts on `_end` ends with it, or when it fails half-way."""

    def __init__(self) -> None:
        self._end = contextlib.ExitStack()

    def _begin(self) -> None:
        raise NotImplementedError

    def __enter__(self: _H) -> _H:
        try:
            self._begin()
        except BaseException:
            self._end.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()


class Machine(Held):
    """A booted machine: systemd is PID 1, the installation is in /opt/sdactivate and /srv/mysite.

    A context manager. `sdactivate` is on the PATH. nginx is there with the distribution's own
    nginx.service, in front of /run/mysite.sock (by SCGI; nginx.conf), not started. Users are root,
    www-data, nobody, alice, and bob, who is in the group web too. A module has one machine: a test
    that leaves something behind leaves it for the next, and a second machine costs a second.
    """

    python = "/opt/sdactivate/bin/python"
    sdactivate: tuple[str, ...] = ("/opt/sdactivate/bin/sdactivate",)

    def __init__(self, installation: Installation) -> None:
        super().__init__()
        self.installation = installation
        self._pid = 0

    def _begin(self) -> None:
        self._boot()
        self._furnish()

    @property
    def pid(self) -> int:
        """The PID of its systemd, by whose namespaces it is entered, and joined to others."""
        return self._pid

    def run(
        self,
        *argv: str,
        user: str | None = None,
        check: bool = True,
        input: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 90,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, from /, and return it with its output as text.

        `user` runs it with that user's own groups, `env` adds to its environment. Raises
        CommandFailed, which shows the output, for an exit code other than 0 unless `check` is
        false, and subprocess.TimeoutExpired after `timeout` seconds, when the command is killed.
        """
        command = self.command(*argv, user=user)
        return execute(command, timeout, check=check, input=input, env={**ENVIRON, **(env or {})})

    def succeeds(self, *argv: str) -> bool:
        """Whether a command inside ends with 0."""
        return not self.run(*argv, check=False).returncode

    def popen(self, *argv: str, user: str | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command inside that goes on by itself; ends with the machine at the latest."""
        options = {"env": ENVIRON, "text": True, "start_new_session": True, **options}
        return subprocess.Popen(self.command(*argv, user=user), **options)

    def command(self, *argv: str, user: str | None = None) -> list[str]:
        """The command line that runs `argv` inside when it is run here."""
        enter = ["nsenter", f"--target={self._pid}", "--all"]
        if user is not None:
            gid = self.run("id", "-g", user).stdout.strip()
            enter += ["setpriv", f"--reuid={user}", f"--regid={gid}", "--init-groups", "--"]
        return [*enter, *argv]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, with its directory where that is missing."""
        script = 'mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"'
        self.run("sh", "-ec", script, "sh", path, f"{mode:o}", input=text)

    def read(self, path: str) -> str:
        """The text of a file inside."""
        return self.run("cat", path).stdout

    def curl(self, path: str, *options: str) -> str:
        """What nginx answers inside to a request for `path`; an error status is a CommandFailed."""
        return self.run("curl", "-sSf", *options, f"http://localhost{path}").stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str | None = None) -> str:
        """What the machine has logged, or what `unit` has."""
        wanted = () if unit is None else ("--unit", unit)
        return self.run("journalctl", "--no-pager", "--output=short-precise", *wanted).stdout

    def reload(self, unit: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Reload a unit by systemd's own command, after its start: systemd drops it during one."""
        # The first answer may come before systemd has read that the service is ready
        self.wait(lambda: self.show(unit, "ActiveState") != "activating", f"{unit} has started")
        return self.run("systemctl", "reload", unit, check=check)

    def wait(self, condition: Callable[[], object], what: str, timeout: float = 60) -> None:
        """Wait until `condition()` is true; TimeoutError names `what` did not come to be."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout:g} s: {what}")
            time.sleep(0.05)

    def _boot(self) -> None:
        work = Path(tempfile.mkdtemp(prefix="sdactivate-machine-"))
        self._end.callback(shutil.rmtree, work, ignore_errors=True)
        cgroup = _cgroup2() / work.name
        cgroup.mkdir()
        self._end.callback(_remove_cgroup, cgroup)
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the rest)
        self._end.callback(log.close)
        # The kernel kills the machine with the test session, however that ends.
        argv = ["setpriv", "--pdeathsig=KILL", "sh", str(SCRIPT), "boot", str(work)]
        argv += [*map(str, self.installation), str(cgroup)]
        outer = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": ENVIRON["PATH"]},
        )
        self._end.callback(self._kill, outer)

        def said() -> str:
            log.seek(0)
            return log.read()

        def is_up() -> bool:
            if outer.poll() is not None:
                raise RuntimeError(f"the machine died at once:\n{said()}")
            self._pid = self._pid or _systemd_under(outer.pid)
            if not self._pid:
                return False
            state = self.run("systemctl", "is-system-running", check=False, timeout=10)
            return state.stdout.strip() in ("running", "degraded")

        try:
            self.wait(is_up, "a booted machine")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{said()}") from None

    def _kill(self, outer: "subprocess.Popen[bytes]") -> None:
        # PID 1 ignores TERM; with it the kernel ends everything inside.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid or outer.pid, signal.SIGKILL)
        try:
            outer.wait(10)
        except subprocess.TimeoutExpired:
            outer.kill()
            outer.wait(10)

    def _furnish(self) -> None:
        lines = [f"groupadd --gid {gid} {name}" for name, gid in GROUPS]
        for name, uid, group in USERS:
            groups = f"--groups {group}" if group else ""
            lines.append(f"useradd --uid {uid} {groups} --no-create-home {name}")
        # Whoever has followed the README here has it already
        lines.append("ln -sfn /opt/sdactivate/bin/sdactivate /usr/local/bin/sdactivate")
        lines.append("rm -f /etc/nginx/sites-enabled/*")
        self.run("sh", "-ec", "\n".join(lines))
        self.write("/etc/nginx/conf.d/mysite.conf", NGINX.read_text())


# -- small parts ---------------------------------------------------------------------------------


def execute(
    argv: list[str],
    timeout: float,
    check: bool = True,
    input: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """subprocess.run, but what it kills after `timeout` seconds is the command with its children.

    Otherwise a child that lives on holds the pipes open, and the reader waits for it for ever.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env=env,
    )
    with process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if check and process.returncode:
        raise CommandFailed(process.returncode, argv, stdout, stderr)
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)


def _systemd_under(outer: int) -> int:
    """The PID of the machine's systemd, the child of unshare; 0 while there is none."""
    # nsenter wants this one; with unshare's, systemctl says "Transport endpoint is not connected".
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{outer}/task/{outer}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
    return 0


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(path)
    raise RuntimeError("no cgroup2 file system is mounted here, and systemd cannot do without one")


def _remove_cgroup(cgroup: Path) -> None:
    """Remove an empty cgroup with all below it; the kernel may need a moment to see that it is."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)
            return
        time.sleep(0.05)
