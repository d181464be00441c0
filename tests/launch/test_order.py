"""The order of the system calls, as the kernel was asked: strace, not our own word."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH, PATIENCE, needs_root

CALLS = (
    "umask,bind,listen,fchmodat,chmod,chown,fchownat,lchown,unlink,unlinkat,connect,removexattr,"
    "chroot,prlimit64,setgroups,setresgid,setresuid,capset,prctl,execve,open,openat"
)

pytestmark = [
    needs_root,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
]


@pytest.fixture
def calls(directory: Path) -> list[str]:
    trace = directory / "trace"
    command = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(trace), *LAUNCH]
    command += ["--listen", f"{directory}/s", "--group", "www-data", "--run-as", "games"]
    command += ["--limit", "nofile=64", "--chroot", "/", "--umask", "0077", "--", "/bin/true"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    return [line for line in lines if "exited with" not in line]


def in_this_order(calls: Iterable[str], patterns: Iterable[str]) -> None:
    rest = iter(calls)
    for pattern in patterns:
        assert any(re.match(pattern, call) for call in rest), f"no {pattern} where it should be"


def test_the_steps_come_in_the_one_order_that_leaves_no_gap(
    calls: list[str], directory: Path
) -> None:
    in_this_order(
        calls,
        [
            r'openat\(\d+, "s", O_RDONLY\|O_NOFOLLOW\|O_CLOEXEC\|O_PATH\) = -1 ENOENT',
            r"umask\(0777\)",
            rf'bind\(\d+, {{sa_family=AF_UNIX, sun_path="{directory}/s"}}',
            r"umask\(",
            r'openat\(\d+, "s", O_RDONLY\|O_NOFOLLOW\|O_CLOEXEC\|O_PATH\) = \d',
            r"listen\(\d+, 4096\)",
            r'removexattr\("/proc/self/fd/\d+", "system.posix_acl_access"',
            r'f?chown(at)?\((AT_FDCWD, )?"/proc/self/fd/\d+", 0, 33',
            r'f?chmod(at)?\((AT_FDCWD, )?"/proc/self/fd/\d+", 0660',
            r'unlinkat\(\d+, ".s.lock", 0\)',
            r"prlimit64\(0, RLIMIT_NOFILE, {rlim_cur=64",
            r'chroot\("/"\)',
            r"umask\(077\)",
            r"prctl\(PR_CAPBSET_DROP",
            r"setgroups\(",
            r"setresgid\((\d+), \1, \1\)\s+= 0",
            r"setresuid\((\d+), \1, \1\)\s+= 0",
            r"prctl\(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL",
            r"capset\(.*effective=0, permitted=0, inheritable=0",
            r"prctl\(PR_SET_NO_NEW_PRIVS, 1",
            r"prctl\(PR_GET_NO_NEW_PRIVS.*= 1",
            r"setresuid\(0, 0, 0\)\s+= -1 EPERM",
            r"setgroups\(0, \[\]\)\s+= -1 EPERM",
            r'execve\("/bin/true"',
        ],
    )


def test_nothing_is_done_twice_or_besides(calls: list[str], directory: Path) -> None:
    """One bind, one chown, one chmod; and none of them once root is gone."""
    changing = [c for c in calls if re.match(r"(bind|listen|f?chown|f?chmod|l?chown)", c)]
    names = [c.partition("(")[0] for c in changing]
    assert [name.lstrip("fl").removesuffix("at") for name in names] == [
        "bind",
        "isten",  # listen, without its l
        "chown",
        "chmod",
    ]
    gone = next(n for n, call in enumerate(calls) if re.match(r"setresuid\((?!0)", call))
    assert calls.index(changing[-1]) < gone
    assert not [
        c for c in calls if c.startswith("connect(") and "sun_path" in c and "nscd" not in c
    ]
