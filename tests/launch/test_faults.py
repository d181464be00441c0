"""Steps that fail, steps that only say that they were done, and death at each of them.

strace stands between the launcher and the kernel: it lets a system call fail, or answers "done"
without asking the kernel, or kills the process as it enters one.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH, Launch, needs_root

pytestmark = [
    needs_root,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
]

STARTED = ("--", "/bin/echo", "started")


def inject(what: str, directory: Path) -> list[str]:
    calls = what.partition(":")[0]
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={what}"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("setgroups:error=EPERM", "could not be dropped"),
        ("setgroups:retval=0", "privileges remain: supplementary groups"),
        ("setresgid:error=EPERM", "could not be dropped"),
        ("setresgid:retval=0", "privileges remain: group IDs"),
        ("setresuid:error=EPERM", "could not be dropped"),
        ("setresuid:error=EAGAIN", "could not be dropped"),
        ("setresuid:retval=0", "privileges remain: user IDs"),
        # what is tried when all is gone, and answered as if it worked
        ("setresuid:retval=0:when=2", "privileges remain: setresuid still works"),
        ("setuid:retval=0", "privileges remain: setuid still works"),
        ("setresgid:retval=0:when=2", "privileges remain: setresgid still works"),
        ("setgroups:retval=0:when=2", "privileges remain: setgroups still works"),
        ("capset:error=EPERM", "could not be dropped"),
        ("capset:retval=0", "privileges remain: capabilities"),
        ("keyctl:error=EDQUOT:when=2", "could not be dropped"),
        ("keyctl:error=EPERM:when=2", "could not be dropped"),
        ("keyctl:retval=7", "privileges remain: session keyring"),
        ("prctl:error=EINVAL", "could not be dropped"),
        ("prctl:retval=0", "privileges remain: no_new_privs"),
        ("chroot:error=EPERM", "--chroot /"),
        ("chroot:retval=0", "the root directory is still a different one"),
        ("prlimit64:error=EPERM", "--limit nofile"),
        ("prlimit64:retval=0", "--limit nofile"),
    ],
)
def test_a_step_that_fails_or_does_not_hold_is_fatal(
    launch: Launch, directory: Path, what: str, words: str
) -> None:
    root = directory / "root"
    root.mkdir()
    done = launch(
        *("--listen", f"{directory}/s", "--run-as", "games", "--limit", "nofile=64"),
        *("--chroot", str(root) if what.startswith("chroot") else "/", *STARTED),
        # what a change of user leaves, so that setgroups(2) and capset(2) have something to do
        command=(
            *("setpriv", "--groups=www-data", "--inh-caps=+net_raw"),
            *(*inject(what, directory), *LAUNCH),
        ),
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("bind:error=ENOSPC", "/s: can't create the socket there: No space left on device"),
        ("listen:error=ENOBUFS", "/s: can't create the socket there: No buffer space"),
        ("chown,fchownat:error=EPERM", "/s: can't create the socket there"),
        ("chown,fchownat:retval=0", "the file system does not support owners and modes"),
        ("chmod,fchmodat:error=EPERM", "/s: can't create the socket there"),
        ("chmod,fchmodat:retval=0", "the file system does not support owners and modes"),
    ],
)
def test_a_socket_that_is_not_as_asked_is_none(
    launch: Launch, directory: Path, what: str, words: str
) -> None:
    done = launch(
        *("--listen", f"{directory}/s", "--group", "www-data", "--run-as", "games", *STARTED),
        command=(*inject(what, directory), *LAUNCH),
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert words in done.stderr
    left = [path for path in directory.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert left == [], "what may be left is closed"


@pytest.mark.parametrize(
    "call",
    [
        *("bind", "listen", "removexattr", "chown,fchownat", "chmod,fchmodat", "unlinkat"),
        *("setgroups", "setresuid", "capset"),
    ],
)
def test_killed_at_any_point_the_next_start_is_a_clean_one(
    launch: Launch, directory: Path, call: str
) -> None:
    path = directory / "s"
    arguments = ("--listen", str(path), "--group", "www-data", "--run-as", "games", *STARTED)
    killed = launch(*arguments, command=(*inject(f"{call}:signal=KILL", directory), *LAUNCH))
    assert (killed.returncode, killed.stdout) == (-9, "")
    if path.exists():
        assert stat.S_IMODE(path.stat().st_mode) in (0, 0o660)
    done = launch(*arguments)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr
    assert os.listdir(directory) == ["s"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_full_disk(launch: Launch, directory: Path) -> None:
    """A file system with room for a directory and one file more."""
    full = directory / "full"
    full.mkdir()
    options = "size=4k,nr_inodes=2,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", full], check=True)
    try:
        done = launch("--listen", f"{full}/s", "--run-as", "games", *STARTED)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{full}/s: can't create the socket there: No space left on device" in done.stderr
        assert os.listdir(full) == []
    finally:
        subprocess.run(["umount", full], check=True)
