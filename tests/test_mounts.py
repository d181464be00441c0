"""Mounts that don't answer are known in bounded time: FUSE whose program does nothing."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate import mounts
from sdactivate.access.path_walk import walk
from sdactivate.errors import Error
from sdactivate.mounts import Mount
from tests import refused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which root only may")
BOUND = mounts.SECONDS + 5  # of one look: a busy machine included

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
25 22 0:22 / /sys/fs/fuse/connections rw - fusectl fusectl rw
30 22 0:41 / /srv/with\\040space rw shared:2 master:3 - nfs4 10.0.0.2:/export\\134x rw
31 22 0:42 / /home/a rw - fuse.sshfs a@b:/ rw,user_id=0
32 22 0:43 / /auto rw - autofs systemd-1 rw
33 22 8:1 / /mnt/c rw - fuseblk /dev/sda1 rw
cut off
34 22 0:44 / /run rw - tmpfs tmpfs rw
"""


def test_what_may_hang_is_read_from_mountinfo() -> None:
    assert mounts.parse(MOUNTINFO) == [
        Mount("0:41", "/srv/with space", "nfs4", "10.0.0.2:/export\\x"),
        Mount("0:42", "/home/a", "fuse.sshfs", "a@b:/"),
        Mount("0:43", "/auto", "autofs", "systemd-1"),
        Mount("8:1", "/mnt/c", "fuseblk", "/dev/sda1"),
    ]


@pytest.fixture
def hung() -> Iterator[Path]:
    """A directory with a FUSE file system whose program answers nothing."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        place = f"{directory}/files"
        os.mkdir(place)
        os.symlink(place, f"{directory}/link")
        script = Path(refused.__file__).read_text()
        argv = [sys.executable, "-c", script, "/dev/fuse", place]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                if process.stdout.readline() != b"mounted\n":
                    pytest.skip("this kernel has no FUSE, or it may not be mounted here")
                mounts.forget()
                yield Path(directory)
            finally:
                subprocess.run(["umount", "--lazy", place], check=False)
                process.kill()  # the kernel then ends whoever waits
                mounts.forget()


def test_a_mount_without_answer_is_told_from_one_that_answers(hung: Path) -> None:
    begun = time.monotonic()
    late = mounts.without_answer([f"{hung}/files", "/", "/there/is/none", "a\0b"])
    assert late == {f"{hung}/files"}
    assert time.monotonic() - begun < BOUND
    (mount,) = [it for it in mounts.silent() if it.point == f"{hung}/files"]
    assert mount.kind == "fuse"
    begun = time.monotonic()  # it is known by now
    assert not mounts.answers(mount)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["files", "files/web.sock", "link", "link/web.sock"])
def test_no_walk_waits_for_it(hung: Path, name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Error, match=f"{hung}/files: the mount does not answer"):
        walk(f"{hung}/{name}")
    assert time.monotonic() - begun < BOUND
    assert walk(f"{hung}/nothing").error


def test_a_walk_as_another_process_sees_it_does_not_wait(hung: Path) -> None:
    with pytest.raises(Error, match="the mount does not answer"):
        walk(f"{hung}/files/web.sock", f"/proc/{os.getppid()}/root")


def test_who_says_so_and_ends(hung: Path) -> None:
    argv = [sys.executable, "-m", "sdactivate", "who", f"{hung}/link/web.sock"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"{hung}/files: the mount does not answer (fuse)" in done.stderr


def test_who_says_so_of_a_process_whose_root_is_one(hung: Path) -> None:
    """A container on FUSE: its processes' files are not looked at, all others' are."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{hung}/s")
        server.listen()
        # The mount hides the socket's directory in that process's namespace alone
        script = f"mount --make-rprivate / && mount --move {hung}/files {hung} && echo && sleep 60"
        argv = ["unshare", "--mount", "sh", "-c", script]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"\n"
                argv = [sys.executable, "-m", "sdactivate", "who", f"{hung}/s"]
                done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            finally:
                os.killpg(process.pid, 9)
    assert done.returncode == 0, done.stderr
    (line,) = [it for it in done.stdout.splitlines() if "the mount does not answer" in it]
    assert line.startswith("  ?")


LEAVES = """
import os, sys
from sdactivate import mounts
before = mounts.namespace("/proc/self")
late = mounts.silent()
mounts.leave_out(late)
mounts.leave_out(late)  # a second look, as after a fix
assert mounts.namespace("/proc/self") == before != os.readlink("/proc/self/ns/mnt")
print(os.listdir(sys.argv[1]), os.path.exists(sys.argv[1] + "/a"))
"""


def test_what_does_not_answer_is_left_out_of_ones_own_view_alone(hung: Path) -> None:
    argv = [sys.executable, "-c", LEAVES, f"{hung}/files"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] False\n"
    mounts.forget()
    assert f"{hung}/files" in mounts.seen_from()


def test_where_it_can_t_be_left_out_nothing_is_examined(hung: Path) -> None:
    argv = ["capsh", "--drop=cap_sys_admin", "--", "-c", 'exec "$0" -c "$1" "$2"']
    argv += [sys.executable, LEAVES, f"{hung}/files"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "does not answer, and can't be left out of what is examined" in done.stderr
