"""Other people's units, as their documentation and tutorials have them (directives only)."""

import json
from pathlib import Path

import pytest

from sdactivate.cli import main
from tests.doctor import sarif
from tests.doctor.test_rules import findings

PACKAGED = Path("/usr/lib/systemd/system")

OTHERS = {
    # gunicorn's documentation today
    "gunicorn": (
        "ListenStream=/run/gunicorn.sock\nSocketUser=www-data\nSocketGroup=www-data\n"
        "SocketMode=0660",
        "Type=notify\nNotifyAccess=main\nUser=someuser\nGroup=someuser\n"
        "RuntimeDirectory=gunicorn\nWorkingDirectory=/home/someuser/applicationroot\n"
        "ExecStart=/usr/bin/gunicorn applicationname.wsgi\n"
        "ExecReload=/bin/kill -s HUP $MAINPID\nKillMode=mixed\nTimeoutStopSec=5\n"
        "PrivateTmp=true\nProtectSystem=strict",
        set(),
    ),
    # the same in 2016, still copied: the service's directory is the socket's
    "gunicorn-19": (
        "ListenStream=/run/gunicorn/socket",
        "PIDFile=/run/gunicorn/pid\nUser=someuser\nGroup=someuser\nRuntimeDirectory=gunicorn\n"
        "WorkingDirectory=/home/someuser/applicationroot\n"
        "ExecStart=/usr/bin/gunicorn --pid /run/gunicorn/pid   \\\n"
        "          --bind unix:/run/gunicorn/socket applicationname.wsgi\n"
        "ExecStop=/bin/kill -s TERM $MAINPID\nPrivateTmp=true",
        {"SDA001", "SDA009"},
    ),
    # the commonest tutorial for Django with nginx
    "tutorial": (
        "ListenStream=/run/gunicorn.sock",
        "User=sammy\nGroup=www-data\nWorkingDirectory=/home/sammy/myprojectdir\n"
        "ExecStart=/home/sammy/myprojectdir/myprojectenv/bin/gunicorn --access-logfile - \\\n"
        "  --workers 3 --bind unix:/run/gunicorn.sock myproject.wsgi:application",
        {"SDA001"},
    ),
    # Puma's documentation: no user, and ports for all the world
    "puma": (
        "ListenStream=0.0.0.0:9292\nListenStream=0.0.0.0:9293\nReusePort=true\nBacklog=1024",
        "Type=notify\nWatchdogSec=10\nWorkingDirectory=/srv/app\n"
        "ExecStart=/srv/app/bin/puma -C /srv/app/shared/puma.rb\nRestart=always",
        {"SDA020"},
    ),
    # Puma under a login shell, which bash gives way to, and behind a port on the loopback
    "puma-shell": (
        "ListenStream=127.0.0.1:9292",
        "Type=simple\nUser=app\nWorkingDirectory=/srv/app\n"
        "ExecStart=/bin/bash -lc '/srv/app/bin/puma -C /srv/app/puma.rb'",
        {"SDA006"},
    ),
    # uvicorn through uv, in root's home
    "uv": (
        "ListenStream=/run/uv.sock\nSocketMode=0660\nSocketGroup=www-data",
        "User=app\nWorkingDirectory=/root/app\nExecStart=/usr/bin/uv run uvicorn app:app --fd 3",
        {"SDA019", "SDA022"},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_found_in_them(name: str, tmp_path: Path) -> None:
    socket, service, rules = OTHERS[name]
    files = {
        f"{name}.socket": f"[Unit]\nDescription=x\n\n[Socket]\n{socket}\n\n[Install]\n"
        "WantedBy=sockets.target\n",
        f"{name}.service": f"[Unit]\nRequires={name}.socket\nAfter=network.target\n\n"
        f"[Service]\n{service}\n\n[Install]\nWantedBy=multi-user.target\n",
    }
    assert {it.rule.id for it in findings(tmp_path, files)} == rules


def test_php_fpm_s_packaged_unit(tmp_path: Path) -> None:
    """As Debian has it: its master is root, and its pool is the front's user."""
    unit = (
        "[Unit]\nDescription=The PHP 8.2 FastCGI Process Manager\nAfter=network.target\n\n"
        "[Service]\nType=notify\nExecStart=/usr/sbin/php-fpm8.2 --nodaemonize "
        "--fpm-config /etc/php/8.2/fpm/php-fpm.conf\nExecReload=/bin/kill -USR2 $MAINPID\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    assert findings(tmp_path, {"php8.2-fpm.service": unit}) == []


def test_uwsgi_s_documented_emperor(tmp_path: Path) -> None:
    """Its directory is the sockets', both by the old name of /run and by the new."""
    socket = (
        "[Socket]\nListenStream=/var/run/uwsgi/%i.socket\nSocketUser=www-%i\n"
        "SocketGroup=www-data\nSocketMode=0660\n"
    )
    service = (
        "[Unit]\nDescription=uWSGI Emperor\n\n[Service]\nRuntimeDirectory=uwsgi\nRestart=always\n"
        "ExecStart=/root/uwsgi/uwsgi --ini /etc/uwsgi/emperor.ini\nType=notify\nNotifyAccess=all\n"
    )
    found = findings(tmp_path, {"e.socket": socket, "e.service": service})
    assert {it.rule.id for it in found} == {"SDA009", "SDA018", "SDA020"}


def test_a_service_for_each_connection_has_one_finding(tmp_path: Path) -> None:
    """As sshd's: its template is started by nothing but the socket, and would have to change."""
    files = {
        "ssh.socket": "[Socket]\nListenStream=22\nAccept=yes\n",
        "ssh@.service": "[Service]\nExecStart=-/usr/sbin/sshd -i\nUser=s\nStandardInput=socket\n",
    }
    (found,) = findings(tmp_path, files)
    assert found.rule.id == "SDA012"
    assert "its service is then ssh.service" in str(found.fix)


@pytest.mark.skipif(not PACKAGED.is_dir(), reason="a distribution's units are what is read")
def test_every_unit_that_is_packaged_here_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--offline", str(PACKAGED), "--format", "sarif"]) in (0, 1)
    said = capsys.readouterr()
    sarif.validate(json.loads(said.out))
    assert said.err == ""


@pytest.mark.parametrize(
    "name",
    ["nginx", "apache2", "lighttpd", "haproxy", "caddy", "dbus-org.freedesktop.login1", "getty@",
     "apt-daily", "systemd-journald", "systemd-networkd", "systemd-rfkill"],
)  # fmt: skip
def test_what_is_packaged_as_it_must_be_is_no_finding(name: str, tmp_path: Path) -> None:
    """They are root to begin with, are asked over the bus, at a terminal, by a timer or by FIFO."""
    if not (unit := PACKAGED / f"{name}.service").exists():
        pytest.skip(f"{unit.name} is what is read; this system has none")
    files = {unit.name: unit.read_text()}
    socket = unit.with_suffix(".socket")
    if socket.exists() and "0666" not in socket.read_text():
        files[socket.name] = socket.read_text()
    assert findings(tmp_path, files) == []


def test_a_socket_that_is_part_of_its_service(tmp_path: Path) -> None:
    """As many guides for Django have it; the same guides' --bind is passed over by gunicorn."""
    socket = (
        "[Unit]\nPartOf=gunicorn.service\n\n[Socket]\nListenStream=/run/gunicorn.sock\n"
        "SocketUser=www-data\nSocketGroup=www-data\nSocketMode=0660\n"
    )
    service = (
        "[Unit]\nRequires=gunicorn.socket\n\n[Service]\nType=notify\nUser=app\n"
        "ExecStart=/srv/app/bin/gunicorn --bind unix:/run/gunicorn.sock app.wsgi\n"
    )
    (found,) = findings(tmp_path, {"gunicorn.socket": socket, "gunicorn.service": service})
    assert (found.rule.id, found.line) == ("SDA026", 2)
    assert "a stop or restart of gunicorn.service stops or restarts it" in found.because


def test_the_server_s_own_words_for_what_it_binds(tmp_path: Path) -> None:
    files = {
        "api.socket": "[Socket]\nListenStream=/run/api.sock\nSocketMode=0660\nSocketGroup=web\n",
        "api.service": "[Unit]\nRequires=api.socket\n[Service]\nType=exec\nUser=api\n"
        "ExecStart=/srv/api/bin/uvicorn --uds /run/api.sock api:app\n",
    }
    (found,) = findings(tmp_path, files)
    assert found.because.startswith(
        "uvicorn does not look for inherited sockets: at /run/api.sock it deletes the file"
    )
    assert str(found.fix).startswith("use --fd 3 instead of /run/api.sock; ")
    files["api.service"] = files["api.service"].replace("/run/api.sock", "/run/other.sock")
    (found,) = findings(tmp_path, files)
    assert "nothing accepts connections to /run/api.sock" in found.because
