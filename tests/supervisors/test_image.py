"""The Dockerfile, built and run for real by buildah, step by step as it is written.

What it is built from, the official python image, can't be fetched where no registry is to be
reached. In its place stands an image that is nearly empty, with this machine's own /usr mounted
in it: its apt knows no archive, but finds the compiler installed.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisors.conftest import CHECKOUT, wait_until
from tests.supervisors.test_given import free_port

STATUS = Path("/var/lib/dpkg/status")
IMAGE_USER = 10001

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah changes users, which only root can"),
    pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed"),
    pytest.mark.skipif(not STATUS.exists(), reason="this is not Debian"),
]

BASE = """\
cd "$1"
mkdir -p etc proc sys dev run tmp srv usr opt/python/bin
mkdir -p var/lib/dpkg var/lib/apt/lists/partial var/cache/apt/archives/partial
chmod 1777 tmp
for link in bin sbin lib lib32 lib64 libx32; do
	[ ! -L /$link ] || ln -s usr/$link $link
done
cp -a /etc/passwd /etc/group /etc/ssl /etc/ld.so.cache /etc/alternatives etc
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf etc
cp /var/lib/dpkg/status var/lib/dpkg
ln -s /usr/bin/python3 opt/python/bin/python
"""


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, directory: Path) -> None:
        unchrooted = str(Path(__file__).with_name("unchrooted.sh"))
        self._command = ["sh", unchrooted, "buildah", "--storage-driver", "vfs"]
        self._command += ["--root", f"{directory}/root", "--runroot", f"{directory}/run"]
        self._inside = ["--isolation", "chroot", "--network", "host"]
        self._inside += ["--volume", "/usr:/usr:ro"]
        # None above our own: Debian 13's buildah raises them, which root may not be allowed to.
        # (Debian 12's has lowered that of processes before it looks.)
        self.limits = []
        for name, which, most in (
            ("nofile", resource.RLIMIT_NOFILE, 1 << 20),
            ("nproc", resource.RLIMIT_NPROC, 1 << 15),
        ):
            hard = resource.getrlimit(which)[1]
            most = most if hard == resource.RLIM_INFINITY else min(hard, most)
            self.limits += ["--ulimit", f"{name}={most}:{most}"]

    def __call__(self, *arguments: str, inside: bool = False) -> str:
        verb, *rest = arguments
        done = subprocess.run(
            [*self._command, verb, *(self._inside if inside else ()), *rest],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def popen(self, container: str, *command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*self._command, "run", *self._inside, container, *command])


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    """With an image in the place of the official one."""
    tool = Buildah(tmp_path / "storage")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        base = tool("from", "scratch")
        subprocess.run(["sh", "-ec", BASE, "sh", tool("mount", base)], check=True)
        tool("umount", base)
        tool("config", "--env", "PATH=/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin", base)
        tool("commit", "--quiet", base, f"docker.io/library/python:{version}-slim")
        yield tool
    finally:
        tool("rm", "--all")
        shutil.rmtree(tmp_path / "storage")


def test_the_image_is_built_and_serves_as_its_own_user(
    buildah: Buildah, tmp_path: Path, pure_wheel: Path
) -> None:
    context, port = tmp_path / "context", free_port()
    shutil.copytree(
        CHECKOUT / "examples" / "mysite",
        context,
        ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3", "secret_key"),
    )
    (context / "requirements.txt").write_text("Django\n")
    shutil.copy(pure_wheel, context)
    generate = [sys.executable, "-m", "sdactivate", "gen", "mysite", "--kind", "dockerfile"]
    generate += ["--app", "mysite.wsgi:application", "--listen", f"127.0.0.1:{port}"]
    with (context / "Dockerfile").open("w") as file:
        subprocess.run(generate, check=True, stdout=file)
    build = ("build", "--pull-never", *buildah.limits, "--tag", "localhost/mysite", str(context))
    buildah(*build, inside=True)

    image = json.loads(buildah("inspect", "--type", "image", "localhost/mysite"))
    config = image["OCIv1"]["config"]
    assert config["User"] == f"{IMAGE_USER}:{IMAGE_USER}"
    container = buildah("from", *buildah.limits, "localhost/mysite")
    python = config["Entrypoint"][0]
    buildah("run", container, python, "manage.py", "migrate", "--verbosity=0", inside=True)
    probe = (
        "import os; print(*(os.access(p, os.W_OK) for p in ('.', '/opt/venv', '/var/lib/mysite')))"
    )
    assert buildah("run", container, python, "-c", probe, inside=True) == "False False True"

    process = buildah.popen(container, *config["Entrypoint"], *config["Cmd"])
    try:
        wait_until(lambda: "Guestbook" in page(port), "a page")
        (pid,) = serving(python)
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{IMAGE_USER}\t{IMAGE_USER}\t{IMAGE_USER}\t{IMAGE_USER}\n" in status
        assert f"Gid:\t{IMAGE_USER}\t{IMAGE_USER}\t{IMAGE_USER}\t{IMAGE_USER}\n" in status
        assert "CapPrm:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
    finally:
        for pid in serving(python):
            os.kill(pid, 15)
        assert process.wait(60) == 0


def page(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/", headers={"Host": "demo.localhost"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            shown: str = response.read().decode()
            return shown
    except OSError:
        return ""


def serving(python: str) -> list[int]:
    """The processes of the image's user that serve the site, and none of a container elsewhere."""
    found = []
    network = os.readlink("/proc/self/ns/net")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.readlink(entry / "ns/net") != network:
                    continue
                if entry.stat().st_uid == IMAGE_USER and words[0] == python.encode():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
