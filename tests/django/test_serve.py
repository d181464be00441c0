"""manage.py serve: the site on an inherited socket, as `sdactivate serve` would serve it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisors.conftest import USER, House, house, wait_until

__all__ = ["house"]


@pytest.mark.skipif(os.geteuid() != 0, reason="nginx and the site run as users of their own")
def test_it_serves_the_site(house: House) -> None:
    (house.home / "mysite" / "mysite" / "new.py").write_text(
        "from mysite.settings import *\nINSTALLED_APPS += ['sdactivate.django']\nDEBUG = True\n"
    )
    command = [house.python, "-m", "sdactivate", "launch", "--listen", str(house.socket)]
    command += ["--group", "www-data", "--run-as", USER, "--chdir", str(house.home / "mysite")]
    command += ["--", house.python, "manage.py", "serve", "--threads", "2"]
    environ = {
        **house.environ,
        "STATE_DIRECTORY": str(house.state),
        "DJANGO_SETTINGS_MODULE": "mysite.new",
    }
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: house.socket.exists() and house.serves(), "a page")
    finally:
        process.send_signal(signal.SIGTERM)
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "sdactivate.W004" in talk  # DEBUG, under a supervisor


def test_without_a_socket_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(
        "SECRET_KEY = 'x'\nINSTALLED_APPS = ['sdactivate.django']\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "serve"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "project", "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no socket was passed to this process" in done.stderr
    assert "Traceback" not in done.stderr
