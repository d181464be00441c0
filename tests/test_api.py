"""docs/api.md: it is what the code says, and its examples do what they show."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdactivate
from tests.runtime.taking import PASS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, list[str]] = {
    section.partition("\n")[0]: re.findall(r"(?ms)^```python\n(.*?)^```", section)
    for section in re.split(r"(?m)^## ", PAGE)
    if "```python" in section
}
TRIED = {
    "sdactivate.serve",
    "sdactivate.inherited_sockets",
    "sdactivate.notify",
    "sdactivate.Site",
    "sdactivate.django.protected.protected_file",
    "Errors",
}


def example(heading: str) -> str:
    (text,) = EXAMPLES[heading]
    return text


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in this checkout."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, **environ},
    )


def pass_socket(program: str, listener: socket.socket, **environ: str) -> subprocess.Popen[str]:
    """Start a program with a listening socket, as a supervisor does."""
    announced = {"LISTEN_PID": "{pid}", "LISTEN_FDS": "1", **environ}
    asked = json.dumps({"fds": [listener.fileno()], "env": announced})
    return subprocess.Popen(
        [sys.executable, "-c", PASS, asked, program],
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "mysite.sock"))
        sock.listen()
        yield sock


def test_the_page_is_what_the_code_says() -> None:
    check = [sys.executable, str(ROOT / "script" / "api.py"), "--check"]
    assert subprocess.run(check, timeout=60).returncode == 0, "run script/api.py"


def test_every_public_name_is_on_it() -> None:
    assert [name for name in sdactivate.__all__ if f"sdactivate.{name}" not in PAGE] == []


def test_every_example_is_tried() -> None:
    assert set(EXAMPLES) == TRIED


def test_serve(listener: socket.socket) -> None:
    with pass_socket(example("sdactivate.serve"), listener) as process:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(listener.getsockname())
            client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhello\n")


def test_inherited_sockets(listener: socket.socket) -> None:
    program = example("sdactivate.inherited_sockets")
    with pass_socket(program, listener, LISTEN_FDNAMES="mysite.socket") as process:
        said, _ = process.communicate(timeout=60)
    assert said == f"mysite.socket {listener.getsockname()}\n"


def test_notify(tmp_path: Path) -> None:
    program = example("sdactivate.notify")
    assert run(program).stdout == "started by hand: no supervisor listens\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        assert run(program, NOTIFY_SOCKET=supervisor.getsockname()).stdout == ""
        assert supervisor.recv(4096) == b"READY=1\nSTATUS=3 jobs are waiting"


def test_site() -> None:
    program = example("sdactivate.Site")
    assert run(program).stdout.split() == re.findall("# (.+)", program)


def test_errors() -> None:
    done = run(example("Errors"))
    assert done.returncode == 1
    assert done.stderr.startswith("mysite: no socket was passed to this process")


DJANGO = """
import django
from django.conf import settings

urlpatterns = []
settings.configure(
    ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "sdactivate.django"],
)
django.setup()
"""
ASK = """
from django.contrib.auth.models import AnonymousUser, User
from django.test import RequestFactory

request = RequestFactory().get("/invoices/7")
request.user = User(pk=3)
response = invoice(request, 7)
print(response.status_code, response.headers["X-Accel-Redirect"])
request.user = AnonymousUser()
print(invoice(request, 7).status_code)
"""


def test_protected_file(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "7.pdf").write_bytes(b"%PDF")
    program = example("sdactivate.django.protected.protected_file")
    program = DJANGO + program.replace("/srv/mysite-protected", str(tmp_path)) + ASK
    done = run(program, SDACTIVATE_PROTECTED=f"accel /protected/={tmp_path}/")
    assert done.stdout == "200 /protected/3/7.pdf\n302\n", done.stderr
