"""Sockets that others make, the oldest way of all: the real ones start the real site with it."""

import os
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.supervisors.conftest import USER, House, wait_until

FCGID = Path("/usr/lib/apache2/modules/mod_fcgid.so")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the site runs as a user of its own")


def script(house: House, path: Path) -> Path:
    """A program that serves the site on whatever socket it is given."""
    library = house.environ.get("PYTHONPATH", "")
    path.write_text(
        f"#!/bin/sh\ncd {house.home}/mysite || exit\n"
        f"STATE_DIRECTORY={house.state} PYTHONPATH={library} PYTHONDONTWRITEBYTECODE=1 "
        f"exec {house.python} -m sdactivate serve mysite.wsgi:application\n"
    )
    path.chmod(0o755)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serves(command: list[str], port: int) -> None:
    """Run a web server until it shows the site's page."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/", headers={"Host": "demo.localhost"}
    )

    def page() -> str:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                shown: str = response.read().decode()
                return shown
        except OSError:
            return ""

    process = subprocess.Popen(command)
    try:
        wait_until(lambda: "Guestbook" in page(), "a page")
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(not shutil.which("supervisord"), reason="supervisor is not installed")
def test_supervisords_fcgi_program(house: House) -> None:
    home = house.home / "fcgi-program"
    home.mkdir()
    (home / "supervisord.conf").write_text(
        f"[supervisord]\nlogfile={home}/log\npidfile={home}/pid\nchildlogdir={home}\n"
        f"[fcgi-program:mysite]\ncommand={script(house, home / 'site')}\nuser={USER}\n"
        f"socket=unix://{house.socket}\nsocket_owner=root:www-data\nsocket_mode=0660\n"
    )
    command = ["supervisord", "-n", "-c", str(home / "supervisord.conf")]
    with (home / "out").open("w") as out:
        process = subprocess.Popen(command, env=house.environ, stdout=out, stderr=out)
    try:
        wait_until(lambda: house.socket.exists() and house.serves(), "a page")
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(not shutil.which("lighttpd"), reason="lighttpd is not installed")
def test_lighttpds_bin_path(house: House) -> None:
    """lighttpd starts the site itself, as its own user, and gives it a socket as standard input."""
    home = house.home / "bin-path"
    home.mkdir()
    shutil.chown(home, USER, USER)
    port = free_port()
    (home / "lighttpd.conf").write_text(
        'server.modules = ( "mod_fastcgi" )\n'
        f'server.document-root = "{home}"\nserver.errorlog = "{home}/error.log"\n'
        f'server.bind = "127.0.0.1"\nserver.port = {port}\n'
        f'server.username = "{USER}"\nserver.groupname = "{USER}"\n'
        f'fastcgi.server = ( "/" => (( "bin-path" => "{script(house, home / "site")}", '
        f'"socket" => "{home}/s", "max-procs" => 1, "check-local" => "disable", '
        '"fix-root-scriptname" => "enable" )) )\n'
    )
    serves(["lighttpd", "-D", "-f", str(home / "lighttpd.conf")], port)


@pytest.mark.skipif(not FCGID.exists(), reason="libapache2-mod-fcgid is not installed")
def test_mod_fcgid(house: House) -> None:
    """Apache's process manager starts the site, with a socket as standard input."""
    home = house.home / "fcgid"
    home.mkdir()
    (home / "ipc").mkdir()
    shutil.chown(home / "ipc", USER, USER)
    port = free_port()
    modules = ("mpm_event", "authz_core", "fcgid")
    (home / "apache.conf").write_text(
        "".join(f"LoadModule {name}_module {FCGID.parent}/mod_{name}.so\n" for name in modules)
        + f"ServerRoot {home}\nServerName localhost\nListen 127.0.0.1:{port}\n"
        f"PidFile {home}/pid\nErrorLog {home}/error.log\nMutex file:{home}/ipc\n"
        f"User {USER}\nGroup {USER}\nDocumentRoot {home}\n"
        f"FcgidIPCDir {home}/ipc\nFcgidProcessTableFile {home}/ipc/table\n"
        "FcgidMaxProcesses 1\n"
        "<Location />\nRequire all granted\nSetHandler fcgid-script\nOptions +ExecCGI\n"
        f"FcgidWrapper {script(house, home / 'site')} virtual\n</Location>\n"
    )
    serves(["apache2", "-D", "FOREGROUND", "-f", str(home / "apache.conf")], port)
